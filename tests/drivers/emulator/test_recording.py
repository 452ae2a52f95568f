# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A recording is heard again as it was received, in its own time."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from drivers.emulator import Emulator
from drivers.emulator.play import Air
from drivers.emulator.replay import LINE_LIMIT_BYTES, load_recording
from drivers.errors import ProfileError
from drivers.sx1302.packet import CrcStatus, Modulation, RxPacket
from tests.drivers.bench import Bench
from tests.drivers.emulator.test_emulator import ManualClock

LINES: list[dict[str, object]] = [
    {
        "ts": "2020-03-03T16:41:31.250Z",
        "gw": "a",
        "phy": "40da1d0126800000011234",
        "freq": 867900000,
        "sf": 7,
        "bw": 125000,
        "cr": "4/7",
        "rssi": -95,
        "snr": -3.5,
        "crc": -1,
        "tmst": 5741852,
    },
    {"ts": "2020-03-03T16:41:32.000Z", "phy": "60", "dir": "down", "sf": 9},
    {"ts": "2020-03-03T16:41:33.350Z", "phy_from_byte1": "da1d012680000001", "sf": 12, "crc": 0, "dir": "up"},
    {"ts": "2020-03-03T17:41:33.350Z", "phy": "40ff", "mod": "FSK", "freq": 868800000},
]


def written(path: Path, lines: list[dict[str, object]]) -> Path:
    text = "\n".join(map(json.dumps, lines)).encode() + b"\n\n"
    path.write_bytes(lzma.compress(text) if path.suffix == ".xz" else text)
    return path


@pytest.mark.parametrize("name", ["capture.jsonl", "capture.jsonl.xz"])
def test_lines_become_packets(tmp_path: Path, name: str) -> None:
    first, second, third = load_recording(written(tmp_path / name, LINES))
    assert [item.after_us for item in (first, second, third)] == [0, 2_100_000, 3_602_100_000]
    packet = first.packet
    assert (packet.payload.hex(), packet.freq_hz, packet.sf, packet.coding_rate) == (
        "40da1d0126800000011234",
        867_900_000,
        7,
        3,
    )
    assert (packet.rssi_dbm, packet.snr_db, packet.crc) == (-95, -3.5, CrcStatus.BAD)
    assert packet.identifier == f"{name}:1"
    assert second.packet.payload.hex() == "40da1d012680000001"
    assert second.packet.crc is CrcStatus.NONE
    assert 867_100_000 <= second.packet.freq_hz <= 868_500_000
    assert third.packet.modulation is Modulation.FSK


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"phy":"40"}', "ts: missing"),
        (b'{"ts":"yesterday","phy":"40"}', "ts: expected a time"),
        (b'{"ts":"2020-03-03T16:41:30Z","phy":"40","sf":7}', "is before that of the line above"),
        (b'{"ts":"2020-03-04T00:00:00Z"}', "phy: missing"),
        (b'{"ts":"2020-03-04T00:00:00Z","phy":"4"}', "phy: expected hexadecimal"),
        (b'{"ts":"2020-03-04T00:00:00Z","phy":"40"}', "sf: missing"),
        (b'{"ts":"2020-03-04T00:00:00Z","phy":"40","sf":4}', "sf 4: outside 5 to 12"),
        (b'{"ts":"2020-03-04T00:00:00Z","phy":"40","sf":"SF7"}', "sf: expected a number, found 'SF7'"),
        (b'{"ts":"2020-03-04T00:00:00Z","phy":"40","sf":NaN}', "sf: expected a number"),
        (b'{"ts":"2020-03-04T00:00:00Z","phy":"40","sf":1e999}', "sf"),
        (b'{"ts":"2020-03-04T00:00:00Z","phy":"40","sf":7,"crc":true}', "crc: expected one of 1, -1, 0"),
        (b'{"ts":"2020-03-04T00:00:00Z","phy":"40","sf":7,"cr":["4/5"]}', "cr: expected one of 4/5"),
        (b'{"ts":"2020-03-04T00:00:00Z","phy":"40","sf":7,"rssi":-300}', "rssi_dbm -300: outside"),
        (b'{"ts":"2020-03-04T00:00:00Z","phy":"40","sf":' + b"9" * 400 + b"}", "sf: expected a number"),
        (b'{"x":"' + b"a" * LINE_LIMIT_BYTES + b'"}', "longer than"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, line: bytes, said: str) -> None:
    path = tmp_path / "capture.jsonl"
    path.write_bytes(json.dumps(LINES[0]).encode() + b"\n" + line + b"\n")
    with pytest.raises(ProfileError) as caught:
        load_recording(path)
    assert caught.value.where == f"{path}:2"
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "no reception"), (lzma.compress(b"x" * 99_999)[:-30], "damaged"), (b"no xz", "damaged")]
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / ("capture.jsonl.xz" if content else "capture.jsonl")
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=said):
        load_recording(path)
    with pytest.raises(ProfileError, match="cannot be read"):
        load_recording(tmp_path / "missing")


@pytest.mark.parametrize("speed", [1, 100])
def test_a_recording_is_played_in_its_own_time_through_the_chip(tmp_path: Path, speed: int) -> None:
    bench = Bench()
    concentrator = bench.started()
    recording = load_recording(written(tmp_path / "capture.jsonl", LINES))
    air = Air(bench.emulator, recording=recording, speed=speed)
    packets: list[RxPacket] = []
    while len(packets) < len(recording):
        bench.clock.sleep(max(air.advance(), 0.001))
        packets += concentrator.receive().packets
    assert [packet.payload for packet in packets] == [item.packet.payload for item in recording]
    for packet, item in zip(packets, recording, strict=True):
        assert packet.counter_us - packets[0].counter_us == pytest.approx(item.after_us / speed, abs=2)
    assert air.late == 0


def test_a_host_that_stood_still_makes_packets_late_but_loses_none(tmp_path: Path) -> None:
    clock = ManualClock()
    emulator = Emulator(monotonic_ns=clock)
    air = Air(emulator, recording=load_recording(written(tmp_path / "c.jsonl", LINES)))
    clock.now_ns += 30_000_000_000
    air.advance()
    assert air.late == 2
    assert emulator.stats().injected == 2
