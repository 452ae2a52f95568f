# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The receive FIFO shows a frame when its time has come, drops what does not fit, and keeps popped bytes in its RAM."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator.fifo import SIZE, RxFifo
from tests.drivers.emulator.bench import Bench, uplink

FRAME_BYTES = 23 + 13


def nb_bytes(bench: Bench) -> int:
    return int.from_bytes(bench.read(0x58C8, 2), "big")


def test_a_frame_appears_when_the_counter_reaches_its_timestamp(receiving: Bench) -> None:
    packet = uplink(sf=12)
    end_us = receiving.now_us + 2_000_000
    reception = receiving.hear(packet, end_us=end_us)
    receiving.wait_us(2_000_000 + packet.readable_after_us - 1)
    assert nb_bytes(receiving) == 0
    assert reception.outcome == "pending"
    assert receiving.chip.pending_bytes == FRAME_BYTES
    receiving.wait_us(1)
    assert nb_bytes(receiving) == FRAME_BYTES
    frame = receiving.fetch()
    stamp = int.from_bytes(frame[15 + 13 : 19 + 13], "little")
    assert stamp == receiving.counter()
    assert reception.counter_us == stamp // 32 - packet.readable_after_us
    assert reception.end_ns == end_us * 1000


@given(
    sf=st.integers(5, 12),
    delays_us=st.lists(st.integers(0, 3_000_000), min_size=1, max_size=8),
    size=st.integers(0, 255),
)
def test_no_frame_is_ever_ahead_of_the_counter(sf: int, delays_us: list[int], size: int) -> None:
    receiving = STARTED.again()
    for delay_us in delays_us:
        receiving.hear(uplink(sf=sf, payload=bytes(size)), end_us=receiving.now_us + delay_us)
    for _ in range(len(delays_us) + 40):
        receiving.wait_us(100_000)
        frames = receiving.fetch()
        now = receiving.counter()
        for at in range(0, len(frames), 23 + size):
            stamp = int.from_bytes(frames[at + 15 + size : at + 19 + size], "little")
            assert (now - stamp) % (1 << 32) < 1 << 31


class _Started:
    """A started chip that is drained and used again: starting one takes longer than the example."""

    def __init__(self) -> None:
        self._bench: Bench | None = None

    def again(self) -> Bench:
        if self._bench is None:
            self._bench = Bench().start()
        self._bench.wait_us(10_000_000)
        self._bench.fetch()
        return self._bench


STARTED = _Started()


def test_a_full_fifo_drops_the_new_frame_and_keeps_the_old(receiving: Bench) -> None:
    outcomes = [receiving.hear(uplink(payload=bytes((i,)) * 200)).outcome for i in range(20)]
    fitting = SIZE // 223
    assert outcomes == ["fifo"] * fitting + ["overflow"] * (20 - fitting)
    frames = receiving.fetch()
    assert len(frames) == fitting * 223
    assert [frames[at + 9] for at in range(0, len(frames), 223)] == list(range(fitting))
    assert receiving.hear(uplink()).outcome == "fifo"


def test_read_means_popped_to_the_last_byte(receiving: Bench) -> None:
    first, second = receiving.hear(uplink()), receiving.hear(uplink())
    receiving.read(0x4000, FRAME_BYTES)
    assert (first.read, second.read) == (True, False)
    receiving.read(0x4000, FRAME_BYTES - 1)
    assert not second.read
    receiving.read(0x4000)
    assert second.read


def test_an_empty_fifo_reads_zeros(receiving: Bench) -> None:
    assert receiving.read(0x4000, 8) == bytes(8)
    assert nb_bytes(receiving) == 0


def test_popped_bytes_stay_in_the_ram_until_overwritten(receiving: Bench) -> None:
    receiving.hear(uplink())
    frame = receiving.fetch()
    receiving.modify(0x58C0, set_bits=0x08)
    ram = receiving.read(0x4000, 1024) + receiving.read(0x4400, 1024)
    ram += receiving.read(0x4800, 1024) + receiving.read(0x4C00, 1024)
    assert ram.startswith(frame)
    assert receiving.read(0x4000 + 9, 4) == frame[9:13]
    receiving.write(0x4000, 0x55)
    assert receiving.read(0x4000) == b"\x55"
    receiving.modify(0x58C0, clear_bits=0x08)
    assert nb_bytes(receiving) == 0


def test_pointers_name_the_last_bytes(receiving: Bench) -> None:
    def pointer(address: int) -> int:
        return int.from_bytes(receiving.read(address, 2), "big")

    receiving.hear(uplink())
    receiving.hear(uplink())
    receiving.read(0x4000, FRAME_BYTES)
    assert pointer(0x58C6) == 2 * FRAME_BYTES - 1
    assert pointer(0x58C4) == FRAME_BYTES - 1


def test_a_reset_clears_the_pointers_and_leaves_the_ram(receiving: Bench) -> None:
    reception = receiving.hear(uplink())
    ram = bytes(receiving.chip.fifo.ram)
    receiving.chip.drive_reset(receiving.now_ns, active=True)
    receiving.chip.drive_reset(receiving.now_ns, active=False)
    receiving.start()
    assert nb_bytes(receiving) == 0
    assert bytes(receiving.chip.fifo.ram) == ram
    assert (reception.outcome, reception.read) == ("fifo", False)


def test_writing_the_window_is_refused(receiving: Bench) -> None:
    receiving.write(0x4000, 1)
    assert "DIRECT_RAM_IF" in receiving.chip.complaints[-1]


@given(steps=st.lists(st.tuples(st.integers(0, 700), st.binary(min_size=1, max_size=700)), max_size=40))
def test_the_ring_is_a_queue(steps: list[tuple[int, bytes]]) -> None:
    fifo = RxFifo(bytes(SIZE))
    queue = b""
    for popped, pushed in steps:
        taken = fifo.pop(popped)
        assert taken == queue[:popped].ljust(popped, b"\0")
        queue = queue[popped:]
        fits = len(queue) + len(pushed) <= SIZE
        assert fifo.push(pushed, lambda: None) is fits
        queue += pushed if fits else b""
        assert fifo.nb_bytes == len(queue)
    assert fifo.pop(len(queue)) == queue
