# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Transmission: the vendor's registers, the right moment on the air, and nothing that is not allowed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.boards import TxGain, load_board
from drivers.errors import ChipError, ForbiddenTransmissionError, HandshakeTimeoutError
from drivers.plans import TransmitBand, load_plan
from drivers.sx1302.counter import WRAP_US
from drivers.sx1302.ledger import AirtimeLedger
from drivers.sx1302.limits import check
from drivers.sx1302.registers import ADDRESSES, reset_value, uncheckable_mask, writable_mask
from drivers.sx1302.spi import AddressSpace
from drivers.sx1302.transmission import (
    CarrierTransmission,
    FskTransmission,
    LoraTransmission,
    Transmission,
    Trigger,
    TxFate,
    TxStatus,
)
from drivers.sx1302.tx import LateTransmissionError, frequency_register, start_delay_ticks
from tests.drivers.bench import Bench, packet
from tests.drivers.recorded import trace, vectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.sx1302.concentrator import Concentrator

CHAIN_A = range(0x5205, 0x5272)
"""Registers of the transmit chain behind trigger and target, which depend on the moment."""

MAILBOX = range(0x578A, 0x578D)
PAYLOAD_BUFFER = 0x5300

COUNTER = b"\x00\x61\x01"
"""What a reading of the counter begins with."""
LAST_LOOK = 6
"""Readings are done twice: to know the moment, before all is programmed, and before the trigger."""

LOUD = replace(load_plan("eu868"), transmit=(TransmitBand(863_000_000, 870_000_000, 30.0),))
"""The recorded runs used more power than a gateway may."""

DOWNLINK = LoraTransmission(868_100_000, 14, 125_000, 9, 1, b"downlink")


def _recorded_at_trigger(name: str) -> list[dict[int, int]]:
    """What the vendor's software had written into the chip each time it pulled a trigger, or took one back."""
    memory = {address: reset_value(address) for address in ADDRESSES}
    moments = []
    for frame in trace(name):
        if frame.mosi[0] == 0 and frame.mosi[1] & 0x80:
            address = int.from_bytes(frame.mosi[1:3], "big") & 0x7FFF
            memory.update(enumerate(frame.mosi[3:], address))
            if address == 0x5200 and frame.mosi[3]:
                moments.append(dict(memory))
    return moments


def _chip(bench: Bench) -> dict[int, int]:
    space = AddressSpace(bench.emulator.bus())
    plain = [a for a in (*CHAIN_A, *MAILBOX) if writable_mask(a) and not uncheckable_mask(a)]
    return {a: space.read(a, 1)[0] for a in plain}


def _wait_until_free(bench: Bench, concentrator: Concentrator) -> None:
    for _ in range(5000):
        if concentrator.transmit_status() is TxStatus.FREE:
            return
        bench.clock.sleep(0.001)
    raise AssertionError


RECORDED_PAYLOAD = bytes.fromhex("40abababab00000002090a0b0c0d0e0f10111213")


@pytest.mark.parametrize(
    ("recorded", "transmission", "differing"),
    [
        ("hal_tx_lora", LoraTransmission(868_100_000, 27, 125_000, 12, 1, RECORDED_PAYLOAD, invert_polarity=False), {}),
        # The tool hands a LoRa bandwidth to the AGC, which FSK and CW do not have; the packet forwarder does not.
        (
            "hal_tx_fsk_timestamped",
            FskTransmission(868_800_000, 13, 50_000, 25_000, RECORDED_PAYLOAD, preamble_bytes=8),
            {0x520C: 0x80},
        ),
        ("hal_tx_cw", CarrierTransmission(868_500_000, 12, offset_hz=10_000), {0x520C: 0x80, 0x520D: 0x0F}),
    ],
)
def test_registers_at_the_trigger_equal_the_vendors(
    recorded: str, transmission: Transmission, differing: dict[int, int]
) -> None:
    bench = Bench(LOUD)
    bench.started().transmit(transmission, Trigger.IMMEDIATE)
    theirs, *_ = _recorded_at_trigger(recorded)
    ours = _chip(bench)
    assert ours == {a: differing.get(a, theirs[a]) for a in ours}


def test_registers_of_a_row_of_downlinks_equal_the_packet_forwarders() -> None:
    bench = Bench(LOUD)
    concentrator = bench.started()
    payload = bytes(range(12))
    row: list[Transmission] = [
        LoraTransmission(868_100_000, 14, 125_000, 9, 1, payload),
        LoraTransmission(869_525_000, 27, 125_000, 12, 1, payload),
        FskTransmission(868_800_000, 14, 50_000, 25_000, b"hello"),
    ]
    moments = _recorded_at_trigger("pktfwd_eu868")
    for transmission, theirs in zip(row, moments[:3], strict=True):
        bench.bus.sent.clear()
        concentrator.transmit(transmission, concentrator.counter_us() + 50_000)
        ours = _chip(bench)
        assert ours == {a: theirs[a] for a in ours}
        assert len(bench.bus.sent) <= 33  # 66 in the recorded run
        _wait_until_free(bench, concentrator)
    assert [e.modulation for e in bench.emulator.txlog()] == ["LORA", "LORA", "FSK"]
    assert [e.payload for e in bench.emulator.txlog()] == [payload, payload, b"hello"]


def test_frequency_words() -> None:
    for row in vectors("vectors_misc.csv"):
        if row["kind"] == "tx_freq_reg":
            assert frequency_register(int(row["in1"])) == int(row["out1"]), row


@pytest.mark.parametrize(("sf", "ticks"), [(7, 47413), (9, 47413), (10, 46901), (12, 46901)])
def test_start_delay(sf: int, ticks: int) -> None:
    assert start_delay_ticks(replace(DOWNLINK, spreading_factor=sf)) == ticks


@pytest.mark.parametrize("sf", range(5, 13))
@pytest.mark.parametrize("bandwidth_hz", [125_000, 250_000, 500_000])
def test_a_timed_packet_leaves_at_its_counter_value(sf: int, bandwidth_hz: int) -> None:
    bench = Bench(LOUD, counter_start_us=WRAP_US - 500_000)
    concentrator = bench.started()
    due_us = concentrator.counter_us() + 100_000
    transmission = replace(DOWNLINK, frequency_hz=868_000_000, spreading_factor=sf, bandwidth_hz=bandwidth_hz)
    concentrator.transmit(transmission, due_us)
    assert concentrator.transmit_status() is TxStatus.SCHEDULED
    bench.clock.sleep(0.101)
    assert concentrator.transmit_status() is TxStatus.EMITTING
    _wait_until_free(bench, concentrator)
    (emission,) = bench.emulator.txlog()
    assert emission.start_ticks is not None
    assert emission.start_ticks == due_us * 32
    assert (emission.payload, emission.outcome) == (b"downlink", "sent")
    assert emission.freq_hz == pytest.approx(868_000_000, abs=123)


def test_a_packet_at_the_next_pps() -> None:
    bench = Bench(LOUD)
    concentrator = bench.started()
    with pytest.raises(ChipError, match="no pulse came for seconds"):
        concentrator.transmit(DOWNLINK, Trigger.PPS)
    for _ in range(3):
        bench.clock.sleep(1.0)
        concentrator.receive()
    concentrator.transmit(DOWNLINK, Trigger.PPS)
    assert concentrator.transmit_status() is TxStatus.SCHEDULED
    bench.clock.sleep(1.1)
    _wait_until_free(bench, concentrator)
    assert [e.trigger for e in bench.emulator.txlog()] == ["gps"]
    bench.emulator.fault("pps_lost")
    for _ in range(4):
        bench.clock.sleep(1.0)
        concentrator.receive()
    with pytest.raises(ChipError, match="PPS"):
        concentrator.transmit(DOWNLINK, Trigger.PPS)


@pytest.mark.parametrize("lead_us", [-1_000_000, -1, 0, 2_900, WRAP_US - 900_000, WRAP_US + 50_000])
def test_a_moment_that_cannot_be_met_arms_nothing(lead_us: int) -> None:
    bench = Bench(LOUD)
    concentrator = bench.started()
    bench.clock.sleep(10)
    with pytest.raises(LateTransmissionError, match=r"late|ahead"):
        concentrator.transmit(DOWNLINK, concentrator.counter_us() + lead_us)
    bench.clock.sleep(200)
    assert bench.emulator.txlog() == []


def test_a_host_that_is_slow_in_the_middle_arms_nothing() -> None:
    bench = Bench(LOUD)
    concentrator = bench.started()

    def dawdle(frame: bytes, answer: bytes) -> bytes:
        if frame[:2] == b"\x00\xd3":
            bench.clock.sleep(0.1)
        return answer

    bench.bus.meddle = dawdle
    with pytest.raises(LateTransmissionError, match="too late"):
        concentrator.transmit(DOWNLINK, concentrator.counter_us() + 50_000)
    bench.clock.sleep(200)
    assert bench.emulator.txlog() == []
    assert concentrator.transmit_status() is TxStatus.FREE


def held_up(bench: Bench, pause_us: int) -> Callable[[bytes, bytes], bytes]:
    """Return what holds a host up between its last look at the counter and the trigger."""
    looks = 0

    def dawdle(frame: bytes, answer: bytes) -> bytes:
        nonlocal looks
        if frame[:3] == COUNTER:
            looks += 1
            if looks == LAST_LOOK:
                bench.clock.sleep(pause_us / 1e6)
        return answer

    return dawdle


@pytest.mark.parametrize("pause_us", [48_600, 49_900, 50_100, 2_000_000])
def test_a_trigger_that_is_set_too_late_is_taken_back(pause_us: int) -> None:
    """Left alone it would send when the counter has come round, into whatever is on the air then."""
    bench = Bench(LOUD)
    concentrator = bench.started()
    bench.bus.meddle = held_up(bench, pause_us)
    with pytest.raises(LateTransmissionError, match="held up"):
        concentrator.transmit(DOWNLINK, concentrator.counter_us() + 50_000)
    assert concentrator.transmit_status() is TxStatus.FREE
    assert concentrator.transmit_fate() is TxFate.ABORTED
    bench.clock.sleep(200)
    assert [e.outcome for e in bench.emulator.txlog()] == ["aborted"]
    concentrator.transmit(DOWNLINK, concentrator.counter_us() + 50_000)
    _wait_until_free(bench, concentrator)
    assert concentrator.transmit_fate() is TxFate.SENT


@pytest.mark.parametrize("pause_us", [0, 46_000, 47_100, 48_400])
def test_a_trigger_that_is_set_just_in_time_is_left_alone(pause_us: int) -> None:
    bench = Bench(LOUD)
    concentrator = bench.started()
    bench.bus.meddle = held_up(bench, pause_us)
    concentrator.transmit(DOWNLINK, concentrator.counter_us() + 50_000)
    _wait_until_free(bench, concentrator)
    assert [e.outcome for e in bench.emulator.txlog()] == ["sent"]


def test_a_busy_chain_takes_nothing_until_it_is_free_or_aborted() -> None:
    bench = Bench(LOUD)
    concentrator = bench.started()
    concentrator.transmit(DOWNLINK, concentrator.counter_us() + 1_000_000)
    with pytest.raises(ChipError, match="chain is scheduled"):
        concentrator.transmit(DOWNLINK, Trigger.IMMEDIATE)
    concentrator.abort_transmission()
    concentrator.transmit(DOWNLINK, Trigger.IMMEDIATE)
    _wait_until_free(bench, concentrator)
    assert [e.outcome for e in bench.emulator.txlog()] == ["aborted", "sent"]


def test_an_abort_that_does_not_help_ends_after_a_second() -> None:
    bench = Bench(LOUD)
    concentrator = bench.started()
    concentrator.transmit(CarrierTransmission(868_500_000, 12), Trigger.IMMEDIATE)
    bench.bus.meddle = lambda frame, answer: (
        answer[:-1] + b"\x91" if frame[:3] == b"\x00\x52\x11" and len(frame) == 5 else answer
    )
    with pytest.raises(HandshakeTimeoutError, match="still scheduled 1 s after"):
        concentrator.abort_transmission()
    bench.bus.meddle = None
    concentrator.stop()
    assert [e.outcome for e in bench.emulator.txlog()] == ["aborted"]


def test_reception_goes_on_after_a_transmission() -> None:
    bench = Bench(LOUD)
    concentrator = bench.started()
    concentrator.transmit(DOWNLINK, Trigger.IMMEDIATE)
    _wait_until_free(bench, concentrator)
    bench.clock.sleep(0.5)
    bench.emulator.inject(packet(1))
    assert len(concentrator.receive().packets) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frequency_hz": 869_300_000}, "in no transmit band"),
        ({"frequency_hz": 868_550_000}, "in no transmit band"),
        ({"bandwidth_hz": 500_000, "frequency_hz": 869_525_000}, "in no transmit band"),
        ({"power_dbm": 16.2}, r"16\.2 dBm EIRP where 16\.15 are allowed"),
        ({"power_dbm": 29.2, "frequency_hz": 869_525_000}, r"29\.2 dBm EIRP where 29\.15"),
        ({"payload": bytes(256)}, "payload of 256 bytes"),
        ({"spreading_factor": 13}, "spreading factor 13"),
        ({"coding_rate": 0}, "coding rate 0"),
        ({"bandwidth_hz": 62_500}, "bandwidth 62500 Hz"),
        ({"preamble_symbols": 5}, "preamble of 5 symbols"),
    ],
)
def test_what_is_not_allowed_does_not_reach_the_chip(change: dict[str, Any], message: str) -> None:
    bench = Bench()
    concentrator = bench.started()
    with pytest.raises(ForbiddenTransmissionError, match=message):
        concentrator.transmit(replace(DOWNLINK, **change), Trigger.IMMEDIATE)
    assert bench.bus.sent == []


@pytest.mark.parametrize(
    ("transmission", "message"),
    [
        (FskTransmission(868_300_000, 14, 499, 25_000, b""), "499 bit/s"),
        (FskTransmission(868_300_000, 14, 50_000, 499, b""), "deviation 499 Hz"),
        (FskTransmission(868_300_000, 14, 50_000, 25_000, b"", preamble_bytes=2), "preamble of 2 bytes"),
        (FskTransmission(868_300_000, 14, 50_000, 25_000, bytes(256)), "payload of 256 bytes"),
        (CarrierTransmission(868_300_000, 14, offset_hz=0), "carrier offset 0 Hz"),
        (CarrierTransmission(868_300_000, 14, offset_hz=-200_001), "carrier offset -200001 Hz"),
    ],
)
def test_what_the_chip_cannot_do_is_refused(transmission: Transmission, message: str) -> None:
    with pytest.raises(ForbiddenTransmissionError, match=message):
        check(transmission, load_board("semtech_corecell_eu868"), load_plan("eu868"), 0.0)


SHORT = b"12345678"


@pytest.mark.parametrize(
    ("plan", "transmission", "message"),
    [
        (
            "us915_0",
            LoraTransmission(923_300_000, 20, 125_000, 9, 1, SHORT),
            "125000 Hz wide where .* allows from 500000",
        ),
        (
            "in865",
            LoraTransmission(866_000_000, 20, 250_000, 9, 1, SHORT),
            "250000 Hz wide where .* allows up to 200000",
        ),
        (
            "as923",
            LoraTransmission(923_200_000, 14, 125_000, 11, 1, SHORT),
            r"on the air where .* allows 400 ms at a time",
        ),
        ("au915_0", LoraTransmission(923_300_000, 20, 125_000, 12, 1, SHORT), "allows 400 ms at a time"),
        ("cn470_0", LoraTransmission(500_300_000, 14, 125_000, 12, 1, SHORT * 8), "allows 1000 ms at a time"),
        ("kr920", LoraTransmission(922_100_000, 10, 125_000, 7, 1, SHORT), "asks for listening before talking"),
        ("as923_jp", LoraTransmission(923_200_000, 10, 125_000, 7, 1, SHORT), "asks for listening before talking"),
        ("ru864", LoraTransmission(865_100_000, 10, 125_000, 7, 1, SHORT), "in no transmit band"),
        ("eu868", CarrierTransmission(868_300_000, 14), "a carrier lasts until it is aborted, and band M"),
        (
            "eu868",
            LoraTransmission(864_100_000, 14, 125_000, 12, 1, bytes(255)),
            "band K .863 to 865 MHz. allows 3600 ms",
        ),
    ],
)
def test_what_a_region_does_not_allow_is_refused(plan: str, transmission: Transmission, message: str) -> None:
    with pytest.raises(ForbiddenTransmissionError, match=message):
        check(transmission, load_board("semtech_corecell_eu868"), load_plan(plan), 0.0)


def test_what_a_region_allows_is_not_refused() -> None:
    board = load_board("semtech_corecell_eu868")
    for plan, transmission in (
        ("us915_0", LoraTransmission(923_300_000, 27, 500_000, 12, 1, SHORT * 8)),
        ("au915_0", LoraTransmission(923_300_000, 27, 500_000, 12, 1, SHORT * 8)),
        ("as923", LoraTransmission(923_200_000, 14, 125_000, 10, 1, SHORT)),
        ("in865", LoraTransmission(866_550_000, 27, 125_000, 10, 1, SHORT * 3)),
        ("ru864", LoraTransmission(869_100_000, 22, 125_000, 12, 1, SHORT)),
        ("eu433", LoraTransmission(434_665_000, 12, 125_000, 12, 1, SHORT)),
        ("cn470_0", LoraTransmission(505_300_000, 19, 125_000, 11, 1, SHORT)),
    ):
        assert check(transmission, board, load_plan(plan), 0.0).bands
    quiet = LoraTransmission(921_900_000, 10, 125_000, 12, 1, SHORT)
    assert check(quiet, replace(board, transmit_gains=board.transmit_gains[:1]), load_plan("kr920"), -2.0, listens=True)
    with pytest.raises(ForbiddenTransmissionError, match="14 dBm EIRP where 10"):
        check(replace(quiet, power_dbm=14), board, load_plan("kr920"), 0.0, listens=True)


def test_a_chain_whose_radio_is_off_does_not_transmit() -> None:
    board = replace(load_board("semtech_corecell_eu868"), transmit_radio=1, clock_radio=0)
    with pytest.raises(ForbiddenTransmissionError, match=r"radio B, which transmits on .* is off in plan kr920"):
        check(DOWNLINK, board, load_plan("kr920"), 0.0)


def _send_until_refused(bench: Bench, concentrator: Concentrator, transmission: LoraTransmission) -> str:
    for _ in range(100):
        try:
            concentrator.transmit(transmission, Trigger.IMMEDIATE)
        except ForbiddenTransmissionError as error:
            return str(error)
        bench.clock.sleep(5)
    raise AssertionError("never refused")


def test_a_band_that_is_used_up_is_refused_by_name_until_it_is_free() -> None:
    bench = Bench()
    concentrator = bench.started()
    slow = replace(DOWNLINK, spreading_factor=12, payload=bytes(51))
    message = _send_until_refused(bench, concentrator, slow)
    assert "band M (868 to 868.6 MHz) allows 1 % of each hour, which is 36 s: " in message
    on_air_s = sum(e.airtime_us or 0 for e in bench.emulator.txlog()) / 1e6
    assert 33 < on_air_s <= 36
    used_s = {use.band.name: use.used_us / 1e6 for use in concentrator.airtime()}
    assert used_s["M"] == pytest.approx(on_air_s)
    assert used_s["P"] == 0
    bench.bus.sent.clear()
    for trigger in (Trigger.IMMEDIATE, Trigger.PPS, 100_000_000):
        with pytest.raises(ForbiddenTransmissionError, match="free again in"):
            concentrator.transmit(slow, trigger)
    assert bench.bus.sent == []
    concentrator.transmit(replace(slow, frequency_hz=867_100_000), Trigger.IMMEDIATE)
    wait_s = int(message.rsplit(" ", 2)[1])
    assert 3300 < wait_s < 3720
    bench.clock.sleep(wait_s + 5)
    concentrator.start()
    concentrator.transmit(slow, Trigger.IMMEDIATE)


def test_a_chip_that_is_started_anew_does_not_forget_what_was_sent() -> None:
    bench = Bench()
    concentrator = bench.started()
    slow = replace(DOWNLINK, spreading_factor=12, payload=bytes(51))
    _send_until_refused(bench, concentrator, slow)
    concentrator.start()
    with pytest.raises(ForbiddenTransmissionError, match="band M"):
        concentrator.transmit(slow, Trigger.IMMEDIATE)
    heir = bench.concentrator()
    heir.start()
    with pytest.raises(ForbiddenTransmissionError, match="band M"):
        heir.transmit(slow, Trigger.IMMEDIATE)


def test_a_transmitter_that_knows_nothing_of_the_past_hour_waits_for_one() -> None:
    bench = Bench()
    bench.airtime = AirtimeLedger(bench.plan.transmit, bench.clock.monotonic_ns())
    concentrator = bench.started()
    with pytest.raises(ForbiddenTransmissionError, match=r"36 s: 36\.000 s are used"):
        concentrator.transmit(DOWNLINK, Trigger.IMMEDIATE)


def test_two_rules_for_the_same_band() -> None:
    """Little power at any time, or more of it for a hundredth of the time: what was sent under one counts for both."""
    bench = Bench(
        board=replace(load_board("semtech_corecell_eu868"), transmit_gains=(TxGain(5, False, 5), TxGain(14, False, 17)))
    )
    concentrator = bench.started()
    loud = replace(DOWNLINK, frequency_hz=869_850_000, spreading_factor=12, payload=bytes(51))
    assert "band R" in _send_until_refused(bench, concentrator, loud)
    concentrator.transmit(replace(loud, power_dbm=9), Trigger.IMMEDIATE)


def test_the_fate_of_a_packet_is_told_as_it_is() -> None:
    bench = Bench(LOUD)
    concentrator = bench.started()
    assert concentrator.transmit_fate() is None
    concentrator.transmit(DOWNLINK, concentrator.counter_us() + 100_000)
    assert concentrator.transmit_fate() is TxFate.SCHEDULED
    bench.clock.sleep(0.15)
    assert concentrator.transmit_fate() is TxFate.EMITTING
    bench.clock.sleep(0.5)
    assert concentrator.transmit_fate() is TxFate.SENT
    concentrator.transmit(DOWNLINK, concentrator.counter_us() + 100_000)
    concentrator.abort_transmission()
    assert concentrator.transmit_fate() is TxFate.ABORTED
    concentrator.transmit(DOWNLINK, concentrator.counter_us() + 100_000)
    bench.emulator.bus().transfer(b"\0\xd2\0\0")  # what a chip that forgets would look like
    assert concentrator.transmit_fate() is TxFate.LOST
    concentrator.start()
    assert concentrator.transmit_fate() is None, "a counter that began anew says nothing of what was before"


def test_a_board_without_power_steps_does_not_transmit() -> None:
    board = replace(load_board("semtech_corecell_eu868"), transmit_gains=())
    with pytest.raises(ForbiddenTransmissionError, match="may not transmit"):
        check(DOWNLINK, board, load_plan("eu868"), 0.0)


@given(power_dbm=st.floats(-20, 40), antenna_gain_dbi=st.floats(-3, 12))
def test_what_is_radiated_never_exceeds_what_is_allowed(power_dbm: float, antenna_gain_dbi: float) -> None:
    board, plan = load_board("semtech_corecell_eu868"), load_plan("eu868")
    try:
        gain = check(replace(DOWNLINK, power_dbm=power_dbm), board, plan, antenna_gain_dbi).gain
    except ForbiddenTransmissionError:
        assert power_dbm > 16.15 or antenna_gain_dbi > 16.15 - 12
        return
    assert gain.power_dbm + antenna_gain_dbi <= 16.15
    assert gain.power_dbm == 12 or gain.power_dbm + antenna_gain_dbi <= power_dbm


def test_a_concentrator_that_is_off_transmits_nothing() -> None:
    concentrator = Bench().concentrator()
    with pytest.raises(ChipError, match="transmit: concentrator: is off"):
        concentrator.transmit(DOWNLINK, Trigger.IMMEDIATE)
    with pytest.raises(ChipError, match="is off"):
        concentrator.abort_transmission()
    with pytest.raises(ChipError, match="is off"):
        concentrator.transmit_status()
