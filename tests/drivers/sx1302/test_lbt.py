# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Listen before talk and spectral scans with the SX1261, against the recorded run of the vendor's software."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from drivers import sx1261_patch
from drivers.errors import BusError, ChipError, FirmwareError, ForbiddenTransmissionError, HandshakeTimeoutError
from drivers.plans import Listening, TransmitBand, load_plan
from drivers.sx1261 import SpectralScan, Sx1261
from drivers.sx1302.concentrator import State
from drivers.sx1302.transmission import CarrierTransmission, LoraTransmission, Trigger, TxFate, TxStatus
from tests.drivers.bench import Bench, packet
from tests.drivers.recorded import trace

if TYPE_CHECKING:
    from pathlib import Path

    from drivers.sx1302.concentrator import Concentrator

BAND = TransmitBand(863_000_000, 870_000_000, 30.0, listening=Listening(128, -70))
PLAN = replace(load_plan("eu868"), transmit=(BAND,))
DOWNLINK = LoraTransmission(868_100_000, 14, 125_000, 9, 1, bytes(20))


def _is_patch(frame: bytes) -> bool:
    return frame[0] == 0x0D and frame[1] >= 0x80


def _bench(band: TransmitBand = BAND, **options: bool) -> Bench:
    return Bench(replace(PLAN, transmit=(band,)), sx1261=options.get("sx1261", True))


def _fate(bench: Bench, concentrator: Concentrator, seconds: float = 1.0) -> TxFate | None:
    """Go on receiving, as the agent does, and say what became of the transmission."""
    for _ in range(round(seconds * 100)):
        concentrator.receive()
        bench.clock.sleep(0.01)
    return concentrator.transmit_fate()


def _recorded() -> list[bytes]:
    return [frame.mosi for frame in trace("pktfwd_lbt_sx1261", "spidev0.1") if not _is_patch(frame.mosi)]


def _sent(bench: Bench) -> list[bytes]:
    assert bench.bus_1261 is not None
    return [frame for frame in bench.bus_1261.sent if not _is_patch(frame)]


@pytest.mark.parametrize(("channel_dbm", "fate"), [(-120, TxFate.SENT), (-50, TxFate.REFUSED)])
def test_start_and_transmission_give_the_sx1261_the_vendors_commands(channel_dbm: float, fate: TxFate) -> None:
    bench = _bench()
    concentrator = bench.concentrator()
    concentrator.start()
    assert bench.bus_1261 is not None
    words = [frame for frame in bench.bus_1261.sent if _is_patch(frame)]
    assert [int.from_bytes(frame[1:3], "big") for frame in words] == list(range(0x8000, 0x8000 + 386 * 4, 4))
    assert b"".join(frame[3:] for frame in words) == sx1261_patch.SYNTHETIC
    bench.emulator.set_channel(channel_dbm)
    concentrator.transmit(DOWNLINK, concentrator.counter_us() + 30_000)
    assert concentrator.transmit_fate() is TxFate.SCHEDULED
    assert _fate(bench, concentrator) is fate
    # In the recorded run the first packet was sent and the second one blocked.
    recorded = _recorded()
    start, rounds = recorded[:14], (recorded[14:25], recorded[25:36])
    assert _sent(bench) == start + rounds[fate is TxFate.REFUSED]
    assert concentrator.transmit_status() is TxStatus.FREE
    outcome = "sent" if fate is TxFate.SENT else "blocked"
    assert [emission.outcome for emission in bench.emulator.txlog()] == [outcome]
    assert bench.emulator.complaints() == []


def test_reception_goes_on_and_the_chip_stays_healthy_whatever_was_decided() -> None:
    bench = _bench()
    concentrator = bench.started()
    for number, channel_dbm in enumerate((-120, -50, -71, -69)):
        bench.emulator.set_channel(channel_dbm)
        concentrator.transmit(DOWNLINK, concentrator.counter_us() + 100_000)
        expected = TxFate.SENT if channel_dbm < -70 else TxFate.REFUSED
        assert _fate(bench, concentrator, 20) is expected
        bench.emulator.inject(packet(number))
        assert len(concentrator.receive().packets) == 1
    assert concentrator.state is State.RUNNING


@pytest.mark.parametrize("trigger", [Trigger.IMMEDIATE, Trigger.PPS])
@pytest.mark.parametrize(("channel_dbm", "fate"), [(-120, TxFate.SENT), (-50, TxFate.REFUSED)])
def test_any_trigger_waits_for_a_quiet_channel(trigger: Trigger, channel_dbm: float, fate: TxFate) -> None:
    bench = _bench()
    concentrator = bench.started()
    _fate(bench, concentrator, 4)
    bench.emulator.set_channel(channel_dbm)
    concentrator.transmit(DOWNLINK, trigger)
    assert _fate(bench, concentrator, 2) is fate


def test_a_band_that_does_not_ask_is_never_too_loud() -> None:
    free = replace(BAND, low_hz=869_000_000, listening=None)
    bench = Bench(replace(PLAN, transmit=(replace(BAND, high_hz=869_000_000), free)), sx1261=True)
    concentrator = bench.started()
    bench.emulator.set_channel(-10)
    concentrator.transmit(replace(DOWNLINK, frequency_hz=869_525_000), Trigger.IMMEDIATE)
    assert _fate(bench, concentrator) is TxFate.SENT
    concentrator.transmit(DOWNLINK, Trigger.IMMEDIATE)
    assert _fate(bench, concentrator) is TxFate.REFUSED


def test_a_transmission_taken_back_leaves_nobody_listening() -> None:
    bench = _bench()
    concentrator = bench.started()
    concentrator.transmit(DOWNLINK, concentrator.counter_us() + 5_000_000)
    concentrator.abort_transmission()
    assert _sent(bench)[-2:] == [bytes.fromhex("0d089b00"), b"\xc1"]
    assert _fate(bench, concentrator) is TxFate.ABORTED
    concentrator.transmit(DOWNLINK, Trigger.IMMEDIATE)
    assert _fate(bench, concentrator) is TxFate.SENT


def test_what_cannot_be_listened_to_is_not_sent() -> None:
    bench = _bench(replace(BAND, listening=Listening(1000, -70)))
    concentrator = bench.started()
    with pytest.raises(ForbiddenTransmissionError, match="125000 Hz for 1000"):
        concentrator.transmit(DOWNLINK, Trigger.IMMEDIATE)
    bench = _bench()
    concentrator = bench.started()
    with pytest.raises(ForbiddenTransmissionError, match="not in 500000 Hz"):
        concentrator.transmit(replace(DOWNLINK, bandwidth_hz=500_000), Trigger.IMMEDIATE)
    with pytest.raises(ForbiddenTransmissionError, match="not in 400000 Hz"):
        concentrator.transmit(CarrierTransmission(868_500_000, 14, 200_000), Trigger.IMMEDIATE)
    assert bench.emulator.txlog() == []


def test_an_sx1261_that_is_missing_costs_transmission_but_not_reception() -> None:
    bench = _bench()
    assert bench.bus_1261 is not None
    bench.bus_1261.meddle = lambda _, answer: bytes(len(answer))
    concentrator = bench.started()
    bench.emulator.inject(packet(1))
    assert len(concentrator.receive().packets) == 1
    with pytest.raises(ChipError, match="SX1261: did not start") as caught:
        concentrator.transmit(DOWNLINK, Trigger.IMMEDIATE)
    assert caught.value.code == "CG-1261-005"
    bench.bus_1261.meddle = None
    concentrator.start()
    concentrator.transmit(DOWNLINK, Trigger.IMMEDIATE)
    assert _fate(bench, concentrator) is TxFate.SENT


def test_without_an_sx1261_nothing_is_sent_where_listening_is_asked_for() -> None:
    bench = _bench(sx1261=False)
    with pytest.raises(ForbiddenTransmissionError, match="listening before talking"):
        bench.started().transmit(DOWNLINK, Trigger.IMMEDIATE)


def test_a_decision_that_never_comes_is_a_transmission_taken_back() -> None:
    bench = _bench()
    concentrator = bench.started()
    bench.emulator.fault("agc_stuck", status=0x00)
    concentrator.transmit(DOWNLINK, concentrator.counter_us() + 30_000)
    assert _fate(bench, concentrator) is not TxFate.SCHEDULED
    assert concentrator.transmit_status() is TxStatus.FREE


def test_an_agc_that_does_not_take_note_is_not_waited_for_for_ever() -> None:
    bench = _bench()
    concentrator = bench.started()
    concentrator.transmit(DOWNLINK, Trigger.IMMEDIATE)
    bench.emulator.fault("agc_stuck", status=0x41)
    begin_ns = bench.clock.now_ns
    with pytest.raises(HandshakeTimeoutError, match=r"0x41 for 0\.5 s"):
        concentrator.receive()
    assert bench.clock.now_ns - begin_ns < 2_000_000_000


# The SX1261 by itself


def _alone(bench: Bench) -> Sx1261:
    assert bench.bus_1261 is not None
    return Sx1261(bench.bus_1261, bench.clock, sx1261_patch.SYNTHETIC)


def test_a_scan_finds_the_level_and_does_not_touch_the_concentrator() -> None:
    bench = _bench()
    concentrator = bench.started()
    bench.emulator.set_channel(-104)
    bench.bus.sent.clear()
    sx1261 = _alone(bench)
    sx1261.start(867_500_000)
    scan = sx1261.scan(868_100_000, 2000)
    assert scan is not None
    assert (scan.frequency_hz, scan.samples, scan.percentile_dbm(50)) == (868_100_000, 2000, -104.0)
    assert scan.percentile_dbm(5) == -108
    assert scan.percentile_dbm(99) == -100
    assert bench.bus.sent == []
    bench.emulator.inject(packet(1))
    assert len(concentrator.receive().packets) == 1


def test_a_scan_that_a_transmission_ends_or_that_never_ends() -> None:
    bench = _bench()
    sx1261 = _alone(bench)
    sx1261.start(867_500_000)
    assert bench.bus_1261 is not None
    status = bytes.fromhex("1d07cd")
    bench.bus_1261.meddle = lambda frame, answer: answer[:-1] + b"\xf0" if frame[:3] == status else answer
    assert sx1261.scan(868_100_000, 100) is None
    bench.bus_1261.meddle = lambda frame, answer: answer[:-1] + b"\x0f" if frame[:3] == status else answer
    begin_ns = bench.clock.now_ns
    with pytest.raises(HandshakeTimeoutError, match="status 0x0F"):
        sx1261.scan(868_100_000, 100)
    assert bench.clock.now_ns - begin_ns < 2_000_000_000


@pytest.mark.parametrize(
    ("opcode", "answer", "message", "code"),
    [
        (b"\xc0", b"\x00\x00", "status 0x00 instead of 0x22", "CG-1261-001"),
        (b"\x1d", b"\x00" * 4 + b"SX1268 V2D 1D02", "1D02' with the patch", "CG-1261-002"),
        (b"\x17", b"\x22\x22\x00\x10", "image calibration failed", "CG-1261-003"),
    ],
)
def test_each_fault_of_its_start_is_told(opcode: bytes, answer: bytes, message: str, code: str) -> None:
    bench = _bench()
    assert bench.bus_1261 is not None
    bench.bus_1261.meddle = lambda frame, true: answer if frame[:1] == opcode else true
    with pytest.raises(ChipError, match=message) as caught:
        _alone(bench).start(867_500_000)
    assert caught.value.code == code


def test_a_short_answer_is_a_bus_that_fails() -> None:
    bench = _bench()
    assert bench.bus_1261 is not None
    bench.bus_1261.meddle = lambda _, answer: answer[:-1]
    with pytest.raises(BusError, match="1 bytes came back for 2"):
        _alone(bench).start(867_500_000)


def test_percentiles_of_a_histogram() -> None:
    counts = [0] * 33
    assert SpectralScan(868_100_000, tuple(counts)).percentile_dbm(50) is None
    counts[30], counts[20] = 90, 10
    scan = SpectralScan(868_100_000, tuple(counts), offset_db=2.0)
    assert [scan.percentile_dbm(percent) for percent in (0, 50, 90, 91, 100)] == [-118, -118, -118, -78, -78]


# Its patch


def test_the_patch_is_known_by_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [(7 * number + 1) * 0x01020304 & 0xFFFFFFFF for number in range(386)]
    patch = b"".join(word.to_bytes(4, "big") for word in words)
    file = tmp_path / sx1261_patch.FILE_NAME
    with pytest.raises(FirmwareError, match="cannot be read") as caught:
        sx1261_patch.load(file)
    assert "civigate firmware import" in caught.value.hint
    file.write_bytes(patch)
    with pytest.raises(FirmwareError, match="is not the patch"):
        sx1261_patch.load(file)
    file.write_bytes(sx1261_patch.SYNTHETIC)
    with pytest.raises(FirmwareError, match="is not the patch"):
        sx1261_patch.load(file)
    # Nobody has the vendor's bytes here: one made up takes their place.
    monkeypatch.setattr(sx1261_patch, "DIGEST", hashlib.sha256(patch).hexdigest())
    file.write_bytes(patch)
    assert sx1261_patch.load(file) == patch
    tree = tmp_path / "hal" / "src"
    tree.mkdir(parents=True)
    (tree / "other.c").write_text("int main(void) { return 0x10; }")
    assert sx1261_patch.find(tmp_path / "hal") is None
    text = ", ".join(f"0x{word:08x}" for word in words)
    (tree / "sx1261_pram.var").write_text(f"#define PRAM_COUNT 386\nuint32_t pram[PRAM_COUNT] = {{ {text} }};\n")
    assert sx1261_patch.find(tmp_path / "hal") == (tree / "sx1261_pram.var", patch)
    program = b"\x7fELF" + bytes(1000) + b"".join(word.to_bytes(4, "little") for word in words) + bytes(77)
    (tmp_path / "lora_pkt_fwd").write_bytes(program)
    assert sx1261_patch.find(tmp_path / "lora_pkt_fwd") == (tmp_path / "lora_pkt_fwd", patch)
