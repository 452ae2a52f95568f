# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Frames come out of any bytes; the good ones between garbage are kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator.gnss import ubx
from drivers.gnss.framing import SENTENCE_LIMIT_BYTES, UBX_PAYLOAD_LIMIT_BYTES, Frame, Protocol, Splitter
from tests.drivers.gnss.stream import sentence, split

printable = st.text(
    st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="$*"), min_size=5, max_size=90
)


good_frames = st.one_of(
    printable.map(sentence),
    st.builds(ubx, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=60)),
)


@given(st.lists(good_frames, max_size=12), st.integers(1, 64))
def test_frames_come_out_as_they_went_in_however_they_are_cut(sent: list[bytes], piece: int) -> None:
    assert [frame.data for frame in split(b"\r\n".join(sent) + b"\r\n", piece)] == sent


@given(st.lists(st.tuples(st.binary(max_size=80), good_frames), max_size=10), st.integers(1, 300))
def test_good_frames_between_garbage_are_kept(parts: list[tuple[bytes, bytes]], piece: int) -> None:
    """Behind noise that looks like the header of a frame, the rest of that must come first; so much follows."""
    data = b"".join(noise + b"\n" + frame for noise, frame in parts)
    found = [frame.data for frame in split(data + bytes(UBX_PAYLOAD_LIMIT_BYTES + 8), piece)]
    for noise, frame in parts:
        # Noise may contain whole frames of its own, or, once in a great while, end within what follows.
        if b"\xb5" not in noise:
            assert frame in found


@given(st.lists(st.binary(max_size=2000), max_size=10))
def test_noise_is_survived_counted_and_not_hoarded(chunks: list[bytes]) -> None:
    splitter = Splitter()
    framed = 0
    for number, chunk in enumerate(chunks):
        framed += sum(len(frame.data) for frame in splitter.feed(chunk, number, number))
        assert len(splitter._buffer) <= UBX_PAYLOAD_LIMIT_BYTES + 8
    splitter.clear()
    assert splitter.noise_bytes + framed == sum(map(len, chunks))


def test_a_header_in_the_noise_does_not_swallow_the_sentence_behind_it() -> None:
    wanted = sentence("GPRMC,000000.00,V,,,,,,,,,,N")
    splitter = Splitter()
    frames = splitter.feed(b"\xb5\x62\x01\x20\xf0\x03" + wanted + b"\r\n", 1, 2)
    assert [frame.data for frame in frames] == [wanted]


def test_wrong_checksums_are_counted_once() -> None:
    splitter = Splitter()
    broken = ubx(1, 2, b"x")[:-1] + b"\0"
    assert splitter.feed(b"$GPRMC,1*00\r\n" + broken + b"\xb5\x62\x01", 0, 1) == []
    assert splitter.feed(b"\x01", 1, 2) == []
    assert splitter.feed(b"$GPRMC,1*00\r\n", 1, 2) == []
    assert splitter.damaged == 3


def test_a_sentence_without_end_is_given_up() -> None:
    splitter = Splitter()
    splitter.feed(b"$" + b"A" * (2 * SENTENCE_LIMIT_BYTES), 0, 1)
    assert splitter.noise_bytes > SENTENCE_LIMIT_BYTES
    assert len(splitter.feed(sentence("GPGGA,1,2"), 1, 2)) == 1


def test_a_frame_is_as_old_as_its_first_byte() -> None:
    splitter = Splitter()
    data = b"noise" + sentence("GPRMC,1,2")
    assert splitter.feed(data[:5], 10, 20) == []
    assert splitter.feed(data[5:7], 20, 30) == []
    assert splitter.feed(data[7:12], 30, 40) == []
    assert splitter.feed(data[12:], 40, 50) == [Frame(Protocol.NMEA, data[5:], 20, 30)]
