# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The emulator in process: its time, its log of the truth, and several threads at once."""

from __future__ import annotations

from threading import Thread

import pytest

from drivers.emulator import Emulator
from drivers.errors import BusError
from tests.drivers.emulator.bench import marks, rows, uplink


class ManualClock:
    """Nanoseconds that pass when told to."""

    def __init__(self) -> None:
        self.now_ns = 123_456_789_000

    def __call__(self) -> int:
        return self.now_ns

    def pass_us(self, duration_us: int) -> None:
        self.now_ns += duration_us * 1000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def started(emulator: Emulator, clock: ManualClock) -> Emulator:
    """Bring the chip to reception through its bus."""
    bus = emulator.bus()
    begin_ns = clock.now_ns
    for row in rows("pktfwd_eu868"):
        if row.number > marks("pktfwd_eu868")["running"]:
            break
        clock.now_ns = begin_ns + row.at_us * 1000
        bus.transfer(row.mosi)
    return emulator


@pytest.fixture
def emulator(clock: ManualClock) -> Emulator:
    return started(Emulator(monotonic_ns=clock), clock)


def fetch(emulator: Emulator) -> bytes:
    bus = emulator.bus()
    waiting = int.from_bytes(bus.transfer(bytes.fromhex("0058c8000000"))[4:], "big")
    return bus.transfer(bytes.fromhex("00400000") + bytes(waiting))[4:]


def test_a_packet_without_a_time_can_be_read_at_once(emulator: Emulator) -> None:
    done = emulator.inject(uplink(sf=12, identifier="a"))
    assert (done.number, done.outcome, done.pending_bytes) == (1, "fifo", 36)
    now_us = emulator.now_us()
    (entry,), following = emulator.rxlog()
    assert (entry.number, entry.identifier, entry.outcome, entry.read) == (1, "a", "fifo", False)
    assert entry.end_us == now_us - uplink(sf=12).readable_after_us
    assert len(fetch(emulator)) == 36
    (entry,), following = emulator.rxlog()
    assert entry.read
    assert following == 1


def test_a_packet_with_a_time_is_pending_until_then(emulator: Emulator, clock: ManualClock) -> None:
    at_us = emulator.now_us() + 5_000
    assert emulator.inject(uplink(), end_us=at_us).outcome == "pending"
    assert emulator.stats().pending_bytes == 36
    clock.pass_us(50_000)
    (entry,), _ = emulator.rxlog()
    assert (entry.outcome, entry.end_us) == ("fifo", at_us)
    assert emulator.counter_us() - (entry.counter_us or 0) == emulator.now_us() - at_us


def test_the_past_and_too_much_are_refused(emulator: Emulator) -> None:
    with pytest.raises(ValueError, match="has passed"):
        emulator.inject(uplink(), end_us=0)
    far_us = emulator.now_us() + 10_000_000
    emulator.inject_many((uplink(), far_us) for _ in range(50_000))
    with pytest.raises(BlockingIOError, match="limit"):
        emulator.inject(uplink(), end_us=far_us)
    assert emulator.stats().injected == 50_000


def test_a_bad_packet_among_many_leaves_nothing_behind(emulator: Emulator) -> None:
    with pytest.raises(ValueError, match="has passed"):
        emulator.inject_many([(uplink(), None), (uplink(), 0)])
    assert emulator.stats().injected == 0
    assert emulator.stats().fifo_bytes == 0


def test_the_log_is_read_in_parts(emulator: Emulator) -> None:
    emulator.inject_many((uplink(identifier=str(n)), None) for n in range(10))
    first, following = emulator.rxlog(0, limit=4)
    second, end = emulator.rxlog(following, limit=100)
    assert [entry.number for entry in (*first, *second)] == list(range(1, 11))
    assert [entry.identifier for entry in second] == [str(n) for n in range(4, 10)]
    assert emulator.rxlog(end) == ([], 10)


def test_a_reset_restarts_the_counter_and_not_the_emulator(emulator: Emulator, clock: ManualClock) -> None:
    before_us = emulator.now_us()
    line = emulator.reset_line()
    line.set(active=True)
    assert emulator.lines() == {"reset": True, "power": True}
    assert "reset" in emulator.inject(uplink()).outcome
    clock.pass_us(100)
    line.set(active=False)
    assert emulator.counter_us() == 0
    assert emulator.now_us() == before_us + 100
    assert emulator.stats().resets == 1
    assert not emulator.stats().running


def test_the_counter_starts_where_it_is_told_to(clock: ManualClock) -> None:
    emulator = Emulator(monotonic_ns=clock, counter_start_us=(1 << 27) - 1_000)
    assert emulator.now_us() == emulator.counter_us() == (1 << 27) - 1_000
    started(emulator, clock)
    emulator.inject(uplink())
    entry = emulator.rxlog()[0][0]
    assert (entry.counter_us or 0) > 1 << 27, "the truth does not wrap"
    with pytest.raises(ValueError, match="outside"):
        Emulator(counter_start_us=1 << 27)
    with pytest.raises(ValueError, match="EUI"):
        Emulator(eui=b"short")


def test_the_supply_can_be_switched(emulator: Emulator) -> None:
    power = emulator.power_line()
    power.set(active=False)
    assert emulator.transfer(bytes.fromhex("0056060000")) == bytes(5)
    power.set(active=True)
    power.close()
    assert emulator.transfer(bytes.fromhex("0056060000"))[4] == 0x10


def test_a_closed_bus_says_so(emulator: Emulator) -> None:
    bus = emulator.bus()
    bus.close()
    bus.close()
    with pytest.raises(BusError, match="closed"):
        bus.transfer(bytes(5))


@pytest.mark.parametrize("frame", [b"", bytes(4101)])
def test_frames_no_controller_sends_are_refused(emulator: Emulator, frame: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        emulator.transfer(frame)
    with pytest.raises(ValueError, match="bytes"):
        emulator.transfer_all([frame])


def test_threads_do_not_tear_frames() -> None:
    clock = ManualClock()
    emulator = started(Emulator(monotonic_ns=clock), clock)
    heard: list[bytes] = []

    def inject() -> None:
        for number in range(200):
            emulator.inject(uplink(payload=number.to_bytes(4, "big")))

    def read() -> None:
        for _ in range(2_000):
            frames = fetch(emulator)
            heard.extend(frames[at : at + 27] for at in range(0, len(frames), 27))

    threads = [Thread(target=inject), Thread(target=inject), Thread(target=read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    rest = fetch(emulator)
    heard.extend(rest[at : at + 27] for at in range(0, len(rest), 27))
    assert all(frame.startswith(b"\xa5\xc0\x04") and sum(frame[:-1]) & 0xFF == frame[-1] for frame in heard)
    received = [entry for entry in emulator.rxlog()[0] if entry.outcome == "fifo"]
    assert len(heard) == len(received)
    assert all(entry.read for entry in received)
