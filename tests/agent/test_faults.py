# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Every fault that the emulator can make, met by the radio thread while frames come in.

Each is named, the thread lives, reception resumes once the fault is gone (or in spite of it), and no frame before,
during or after is lost or altered but those that physically cannot be had.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from agent.radio import RadioState, Receiver
from agent.rescue import UNDATED
from drivers.emulator.faults import KINDS
from drivers.emulator.usb import UsbPort
from drivers.linux.usb import UsbBridge
from drivers.stts751 import Stts751
from drivers.sx1302.concentrator import Concentrator
from drivers.sx1302.transmission import LoraTransmission, Trigger
from tests.agent.test_radio import Play, air
from tests.drivers.bench import synthetic_firmware
from tests.drivers.emulator.test_usb import wait_until
from tests.drivers.test_stts751 import EmulatedDevice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

WHILE_SOUND, AT_THE_FAULT, AFTERWARDS = (1, 2, 3), (4, 5, 6), (7, 8, 9)


@dataclass(frozen=True)
class Case:
    """A fault, and what is seen of it.

    Attributes:
        kind: of the fault.
        parameters: of it.
        named: a code in the log, or a kind in the status's faults; empty where nothing is to be noticed.
        lost: frames that cannot be had: the chip never had them whole, or has forgotten them.
        on_start: shows only when the chip is started.
        deaf: nothing is received while it lasts.
        seconds: how long it lasts, about.
    """

    kind: str
    named: str = ""
    parameters: Mapping[str, int | str] = field(default_factory=dict)
    lost: tuple[int, ...] = ()
    on_start: bool = False
    deaf: bool = True
    seconds: int = 20

    def __str__(self) -> str:
        return "-".join((self.kind, *map(str, self.parameters.values()), f"{self.seconds}s"))


CASES = (
    # A link that stays dead looks like a chip without supply: the reset that may cure it takes what the chip holds.
    Case("miso", "CG-RAD-003", lost=AT_THE_FAULT),
    Case("miso", "CG-CHIP-004", {"value": 255}, lost=AT_THE_FAULT),
    Case("miso", "CG-CHIP-004", {"value": 255}, seconds=1),
    Case("bus_error", "CG-EMU-001", deaf=False),
    Case("bus_error", "CG-EMU-001", {"errno": 19, "times": 0}),
    Case("version", "CG-CHIP-008"),
    Case("version", "CG-CHIP-001", {"value": 255}, on_start=True),
    Case("agc_stuck", "CG-CHIP-011", {"status": 0x14}),
    Case("agc_stuck", "CG-MCU-005", on_start=True),
    Case("silent", "CG-MCU-005", on_start=True),
    Case("silent", "CG-MCU-005", {"mcu": "agc"}, on_start=True),
    Case("stall", "CG-CHIP-010"),
    Case("stall", "CG-CHIP-010", {"cure": "reload"}),
    Case("readback", "CG-MCU-001", on_start=True),
    Case("radio_missing", "CG-RADIO-003", on_start=True),
    Case("radio_missing", "CG-RADIO-003", {"radio": 1}, on_start=True),
    Case("image_calibration", "CG-RADIO-002", on_start=True),
    Case("image_calibration", "CG-RADIO-002", {"radio": 1}, on_start=True),
    Case("torn_fill", parameters={"times": 0}, deaf=False),
    Case("torn_counter", parameters={"times": 3}, deaf=False),
    Case("damage", "resync", {"how": "garbage"}, deaf=False),
    Case("damage", "checksum", {"how": "checksum"}, lost=(4,), deaf=False),
    Case("damage", "checksum", {"how": "truncated"}, lost=(4,), deaf=False),
    Case("damage", "crc16", {"how": "crc16"}, lost=(4,), deaf=False),
    Case("damage", "range", {"how": "range"}, lost=(4,), deaf=False),
    Case("overflow", "", {"times": 1}, lost=(4,), deaf=False),
    Case("tx_stuck", "CG-TX-003", deaf=False),
    # With its registers the chip lost what it knew of its FIFO.
    Case("brown_out", "CG-CHIP-0", lost=AT_THE_FAULT),
    Case("pps_lost", deaf=False),
    Case("rate", deaf=False),
    Case("i2c", "temperature", deaf=False),
)


class Scene(Play):
    """A radio on an emulated chip, with a temperature sensor, and a downlink that is stuck."""

    def __init__(self) -> None:
        super().__init__()
        self.concentrator: Concentrator | None = None

    def open(self) -> Receiver:
        self.opened += 1
        emulator = self.bench.emulator
        self.bench.bus.bus = emulator.bus()
        sensor = Stts751(EmulatedDevice(emulator), self.clock)
        self.concentrator = self.bench.concentrator(temperature=sensor.celsius)
        return self.concentrator

    def start_anew(self) -> None:
        """Have the chip started again, for faults that only show then."""
        self.bench.emulator.drive_reset(active=True)
        self.bench.emulator.drive_reset(active=False)

    def inject(self, *numbers: int) -> None:
        for number in numbers:
            self.bench.emulator.inject(replace(air(number), identifier=str(number)))


def test_every_fault_has_a_case() -> None:
    assert {case.kind for case in CASES} | {"usb", "usb_unplug"} == set(KINDS)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_is_named_and_costs_no_frame_that_can_be_had(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    play = Scene()
    emulator = play.bench.emulator

    def break_it() -> None:
        if case.on_start:
            emulator.fault(case.kind, **case.parameters)
            play.start_anew()
            return
        if case.kind == "tx_stuck":
            assert play.concentrator is not None
            play.concentrator.transmit(LoraTransmission(868_100_000, 14, 125_000, 7, 1, b"down"), Trigger.IMMEDIATE)
            play.clock.sleep(1)
        afterwards = case.kind in {"damage", "overflow", "i2c"}
        if not afterwards:
            play.inject(*AT_THE_FAULT)
        emulator.fault(case.kind, **case.parameters)
        if afterwards:
            play.clock.sleep(20)
            play.inject(*AT_THE_FAULT)
        if case.kind == "tx_stuck":
            assert play.concentrator is not None
            with pytest.raises(TimeoutError, match="still scheduled"):
                play.concentrator.abort_transmission()

    def wait() -> Iterator[Callable[[], None]]:
        # Signs of a stall are an illness only after a quarter of an hour of silence.
        step_s = 30 if case.kind in {"stall", "agc_stuck"} else 0.5
        for _ in range(2 * case.seconds):
            yield lambda: play.clock.sleep(step_s)

    def mend() -> None:
        emulator.clear_faults()
        play.clock.sleep(6)

    resume = [lambda: play.clock.sleep(60)] * 6 if case.deaf or case.on_start else []
    steps = [
        lambda: play.inject(*WHILE_SOUND),
        lambda: None,
        break_it,
        *wait(),
        mend,
        *resume,
        *[lambda: None] * 3,
        lambda: play.inject(*AFTERWARDS),
        lambda: None,
    ]
    begin_s = time.monotonic()
    radio = play.run(*steps)
    assert time.monotonic() - begin_s < 60
    assert radio.status.state is RadioState.OFF
    sent = (*WHILE_SOUND, *(() if case.on_start else AT_THE_FAULT), *AFTERWARDS)
    assert play.keeper.frames == [number for number in sent if number not in case.lost]
    _check_unaltered(play, long_deaf=case.deaf)
    if case.named and case.kind != "tx_stuck":
        told = " ".join((caplog.text, *radio.status.faults))
        assert case.named in told
    account = play.keeper.account()
    assert account.balanced
    if case.lost and case.kind != "overflow":
        assert account.overrun >= 1


def _check_unaltered(play: Scene, *, long_deaf: bool) -> None:
    """All that was kept is what was on the air, byte for byte, and at its time, unless that is said not to be known."""
    ends = {str(entry.identifier): entry.end_us for entry in play.bench.emulator.rxlog()[0]}
    zero_us = play.clock.boottime_us() - play.bench.emulator.now_us()
    for heard in play.keeper.heard:
        for routed in heard.frames:
            frame = routed.frame
            number = int.from_bytes(frame.phy_payload[1:5], "little")
            assert frame.phy_payload == air(number).payload
            assert (frame.frequency_hz, frame.datarate, frame.crc.name) == (868_100_000, 7, "OK")
            assert -81 < frame.rssi_ddbm / 10 < -79
            if frame.session == UNDATED:
                assert long_deaf
                continue
            assert frame.boottime_us == pytest.approx(zero_us + ends[str(number)], abs=3000)


@pytest.mark.parametrize("how", ["stall", "short", "refuse", "unplug"])
def test_a_fault_of_the_usb_bridge_is_named_and_costs_no_frame(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    play = Play()
    bench, link = play.bench, tmp_path / "ttyACM0"

    def open_() -> Receiver:
        bridge = UsbBridge(str(link), answer_limit_s=0.3)
        return Concentrator(
            bridge,
            bridge.reset_line(),
            bridge.power_line(),
            board=bench.board,
            plan=bench.plan,
            firmware=synthetic_firmware(),
            clock=play.clock,
        )

    def break_it() -> None:
        play.inject(*AT_THE_FAULT)
        if how == "unplug":
            bench.emulator.fault("usb_unplug")
        else:
            bench.emulator.fault("usb", how=how, times=1)

    def mend() -> None:
        bench.emulator.clear_faults()
        # The port lives in a thread of its own, in real time.
        wait_until(link.exists)

    steps: list[Callable[[], None]] = [
        lambda: play.inject(*WHILE_SOUND),
        lambda: None,
        break_it,
        *[lambda: play.clock.sleep(1)] * 3,
        mend,
        *[lambda: play.clock.sleep(60)] * 3,
        lambda: play.inject(*AFTERWARDS),
        lambda: None,
    ]
    with UsbPort(bench.emulator, link, time.monotonic_ns):
        radio = play.run(*steps, open_=open_)
    assert play.keeper.frames == [*WHILE_SOUND, *AT_THE_FAULT, *AFTERWARDS]
    assert "CG-USB-" in caplog.text
    assert radio.status.state is RadioState.OFF
