# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The mildest cure: microcontrollers loaded anew, and nothing else of the chip is touched."""

from __future__ import annotations

import pytest

from drivers.emulator import Model
from drivers.errors import ChipError, HandshakeTimeoutError
from drivers.sx1302.concentrator import Concentrator, State
from drivers.sx1302.fine import FineTimestamps
from drivers.sx1302.packet import RxPacket
from drivers.sx1302.spi import AddressSpace
from drivers.sx1302.transmission import LoraTransmission, TxFate
from tests.drivers.bench import Bench, packet


def _numbers(packets: tuple[RxPacket, ...]) -> list[int]:
    return [int.from_bytes(p.payload[:2], "big") for p in packets]


def _fall_ill(bench: Bench, concentrator: Concentrator, **how: str) -> None:
    bench.emulator.fault("stall", **how)
    with pytest.raises(ChipError, match=r"wrong parity .* nothing was heard for 15 min"):
        _listen(bench, concentrator)


def _listen(bench: Bench, concentrator: Concentrator) -> None:
    for _ in range(1000):
        concentrator.receive()
        bench.clock.sleep(1)


def _lose_modems(bench: Bench, concentrator: Concentrator) -> None:
    bench.emulator.transfer(bytes.fromhex("00d60500"))
    bench.clock.sleep(6)
    with pytest.raises(ChipError, match="modems are off"):
        concentrator.receive()


def test_it_receives_again_with_its_counter() -> None:
    bench = Bench()
    concentrator = bench.started()
    bench.clock.sleep(3)
    _fall_ill(bench, concentrator, cure="reload")
    begin_ns = bench.clock.now_ns
    bench.bus.sent.clear()
    concentrator.revive()
    assert bench.clock.now_ns - begin_ns < 200_000_000
    assert len(bench.bus.sent) < 200
    assert bench.emulator.stats().resets == 1
    assert (concentrator.state, bench.emulator.faults(), bench.emulator.complaints()) == (State.RUNNING, [], [])
    bench.emulator.inject(packet(2))
    (got,) = concentrator.receive().packets
    assert got.counter_us == pytest.approx(bench.emulator.rxlog()[0][0].counter_us, abs=1)
    assert concentrator.counter_us() == pytest.approx(bench.emulator.counter_us(), abs=1)


def test_what_was_in_the_fifo_stays_there() -> None:
    bench = Bench()
    concentrator = bench.started()
    for number in range(3):
        bench.emulator.inject(packet(number))
    _lose_modems(bench, concentrator)
    concentrator.revive()
    bench.emulator.inject(packet(3))
    got = concentrator.receive().packets
    assert _numbers(got) == [0, 1, 2, 3]
    assert [p.counter_us for p in got] == pytest.approx([e.counter_us for e in bench.emulator.rxlog()[0]], abs=1)


def test_settings_are_as_a_start_leaves_them() -> None:
    bench = Bench(model=Model.SX1303, fine_timestamps=FineTimestamps.HIGH_CAPACITY)
    concentrator = bench.started()
    space = AddressSpace(bench.emulator.bus())
    blocks = [(0x5600, 0x50), (0x5780, 0x50), (0x5800, 0x100), (0x5B00, 0x70), (0x6080, 0x20), (0x6180, 0x10)]
    before = [space.read(*block) for block in blocks]
    _fall_ill(bench, concentrator, cure="reload")
    concentrator.revive()
    assert [space.read(*block) for block in blocks] == before


def test_what_it_does_not_cure_is_said_within_its_limit_and_left_to_a_start() -> None:
    bench = Bench()
    concentrator = bench.started()
    _fall_ill(bench, concentrator)
    begin_ns = bench.clock.now_ns
    with pytest.raises(HandshakeTimeoutError, match="boot: status 0x14"):
        concentrator.revive()
    assert bench.clock.now_ns - begin_ns < 3_000_000_000
    assert concentrator.state is State.FAULT
    with pytest.raises(ChipError):
        concentrator.receive()
    concentrator.start()
    bench.emulator.inject(packet(1))
    assert _numbers(concentrator.receive().packets) == [1]


def test_a_chip_that_lost_its_settings_is_left_to_a_start() -> None:
    bench = Bench()
    concentrator = bench.started()
    _fall_ill(bench, concentrator, cure="reload")
    bench.emulator.transfer(bytes.fromhex("00d82200"))
    with pytest.raises(ChipError, match="1 registers have lost what was written, the first at 0x5822") as caught:
        concentrator.revive()
    assert (caught.value.code, concentrator.state) == ("CG-CHIP-013", State.FAULT)
    bench.emulator.fault("brown_out")
    with pytest.raises(ChipError, match="the chip was restarted"):
        concentrator.revive()
    with pytest.raises(ChipError, match="is off"):
        bench.concentrator().revive()


def test_a_transmission_is_taken_back() -> None:
    bench = Bench()
    concentrator = bench.started()
    downlink = LoraTransmission(868_100_000, 14, 125_000, 9, 1, b"downlink")
    concentrator.transmit(downlink, concentrator.counter_us() + 60_000_000)
    _lose_modems(bench, concentrator)
    concentrator.revive()
    assert concentrator.transmit_fate() is TxFate.ABORTED
