# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""H07 to H12: what is sent arrives as it was sent, levels are right, overflow is told, transmission keeps its word."""

from __future__ import annotations

from dataclasses import replace
from statistics import linear_regression

import pytest

from drivers.errors import ChipError, ForbiddenTransmissionError
from drivers.sx1302.airtime import airtime_us
from drivers.sx1302.concentrator import Concentrator
from drivers.sx1302.fifo import Fault
from drivers.sx1302.packet import CrcStatus, RxPacket
from drivers.sx1302.rx import temperature_term_db
from drivers.sx1302.transmission import LoraTransmission
from drivers.sx1302.tx import LateTransmissionError
from hil_tests.bench.model import Bench
from hil_tests.bench.roles import Air, Golden, RadioSettings, ReferenceNode, RfPath, SpiDoor
from hil_tests.bench.strategy import State
from hil_tests.conftest import Shelf
from hil_tests.frames import uplink
from hil_tests.marks import begins, hil, needs
from hil_tests.measured import Measure
from hil_tests.test_h01_h06_chip import bracketed

MEDIUM_DB = 90.0
AHEAD_US = 1_000_000
"""Enough to program a transmission on a machine that does other things as well."""
SOON_US = 200_000
"""Enough on one that does not."""
LONGEST = 255
BURST = 16
FIFO_BYTES = 4096
COLD_CELSIUS, WARM_CELSIUS = 0.0, 60.0
STRONG_ENOUGH_DB = 0.0
"""SNRs above say nothing: each receiver has its own ceiling there."""


def hear(bench: Bench, concentrator: Concentrator, payload: bytes, *, crc: CrcStatus = CrcStatus.OK) -> RxPacket:
    """Wait for one packet; what else is on the air is somebody else's."""

    def look() -> RxPacket | None:
        return next((one for one in concentrator.receive().packets if one.payload == payload and one.crc is crc), None)

    return bench.wait_for(look, f"a packet of {len(payload)} bytes")


def transmit_soon(concentrator: Concentrator, transmission: LoraTransmission) -> int:
    """Let it be sent as soon as this machine manages to ask for it in time; return the counter value of its begin."""
    ahead_us = SOON_US
    while True:
        due_us = concentrator.counter_us() + ahead_us
        try:
            concentrator.transmit(transmission, due_us)
        except LateTransmissionError:
            if ahead_us > AHEAD_US:
                raise
            ahead_us *= 2
        else:
            return due_us


@pytest.fixture
def medium(rf: RfPath) -> RfPath:
    """Return the path, set to the middle of what it can."""
    rf.attenuate(min(rf.steps_db, key=lambda step: abs(step - MEDIUM_DB)))
    return rf


@hil("H07")
@needs("spi", "node", "rf")
@begins(State.BOOTED)
def test_h07_every_channel_and_spreading_factor(
    bench: Bench, node: ReferenceNode, medium: RfPath, concentrator: Concentrator, spi: SpiDoor, measure: Measure
) -> None:
    rssi_errors, snrs, doubts_us = [], [], []
    plan = spi.plan
    settings = [RadioSettings(one.frequency_hz, sf) for one in plan.multi_sf for sf in range(7, 13)]
    if plan.service is not None:
        service = plan.service
        settings.append(RadioSettings(service.frequency_hz, service.spreading_factor, service.bandwidth_hz))
    for one in settings:
        payload = uplink(bench.dev_addr, 20 + one.sf)
        node.configure(one)
        begin_us = concentrator.counter_us()
        node.transmit(payload)
        packet = hear(bench, concentrator, payload)
        end_us = concentrator.counter_us()
        assert (packet.frequency_hz, packet.datarate, packet.bandwidth_hz) == (
            one.frequency_hz,
            one.sf,
            one.bandwidth_hz,
        )
        rssi_errors.append(packet.rssi_channel_dbm - (one.power_dbm - medium.attenuation_db))
        snrs.append(packet.snr_db if packet.snr_db is not None else -99.0)
        # the end of the packet lies between the two looks at the counter, give or take what decoding it takes
        doubts_us.append(max(begin_us - packet.counter_us, packet.counter_us - end_us, 0))
    measure("settings heard", len(settings), low=len(plan.multi_sf) * 6)
    limit_db = bench.limits.rssi_error_db
    measure("RSSI error, lowest", min(rssi_errors), "dB", low=-limit_db)
    measure("RSSI error, highest", max(rssi_errors), "dB", high=limit_db)
    measure("SNR, worst of strong packets", min(snrs), "dB", low=STRONG_ENOUGH_DB)
    measure("time stamp outside its packet", max(doubts_us), "us", high=bench.limits.stamp_error_us)


@hil("H08")
@needs("spi", "node", "rf")
@begins(State.BOOTED)
def test_h08_rssi_follows_the_level(
    bench: Bench, node: ReferenceNode, rf: RfPath, concentrator: Concentrator, spi: SpiDoor, measure: Measure
) -> None:
    channel = spi.plan.multi_sf[0]
    powers = sorted({node.powers_dbm[0], node.powers_dbm[len(node.powers_dbm) // 2], node.powers_dbm[-1]})
    levels, readings = [], []
    for attenuation_db in rf.steps_db:
        rf.attenuate(attenuation_db)
        for power_dbm in powers:
            payload = uplink(bench.dev_addr)
            node.configure(RadioSettings(channel.frequency_hz, 9, power_dbm=power_dbm))
            node.transmit(payload)
            levels.append(power_dbm - attenuation_db)
            readings.append(hear(bench, concentrator, payload).rssi_channel_dbm)
    slope, _ = linear_regression(levels, readings)
    measure("levels compared", len(set(levels)), low=3)
    off = bench.limits.rssi_slope_error
    measure("slope of RSSI over level", slope, "", low=1 - off, high=1 + off)
    worst = max((one - other for one, other in zip(readings, levels, strict=True)), key=abs)
    limit_db = bench.limits.rssi_error_db
    measure("RSSI error, worst", worst, "dB", low=-limit_db, high=limit_db)
    measure.line("RSSI (dBm) over the level at the connector (dBm)", sorted(zip(levels, readings, strict=True)))


@hil("H08")
@needs("spi", "node", "rf", "golden")
@begins(State.BOOTED)
def test_h08_the_golden_gateway_hears_the_same(
    bench: Bench,
    node: ReferenceNode,
    medium: RfPath,
    concentrator: Concentrator,
    spi: SpiDoor,
    golden: Golden,
    measure: Measure,
) -> None:
    ours, theirs = [], []
    for channel in spi.plan.multi_sf:
        payload = uplink(bench.dev_addr)
        node.configure(RadioSettings(channel.frequency_hz, 9))
        node.transmit(payload)
        ours.append((channel.frequency_hz / 1e6, hear(bench, concentrator, payload).rssi_channel_dbm))
        heard = bench.wait_for(lambda payload=payload: golden.heard(payload), "the golden gateway")  # type: ignore[misc]  # bound now
        theirs.append((channel.frequency_hz / 1e6, heard.rssi_dbm + golden.offset_db))
    measure.line("RSSI of the gateway under test, by channel (MHz)", ours)
    measure.line("RSSI of the golden gateway, by channel (MHz)", theirs)
    worst = max((one[1] - other[1] for one, other in zip(ours, theirs, strict=True)), key=abs)
    limit_db = bench.limits.golden_error_db
    measure("difference to the golden gateway, worst", worst, "dB", low=-limit_db, high=limit_db)


@hil("H09")
@needs("spi", "node", "rf")
@begins(State.BOOTED)
@pytest.mark.usefixtures("medium")
def test_h09_long_packets_and_bursts(
    bench: Bench, node: ReferenceNode, concentrator: Concentrator, spi: SpiDoor, measure: Measure
) -> None:
    node.configure(RadioSettings(spi.plan.multi_sf[0].frequency_hz, 7))
    long = uplink(bench.dev_addr, LONGEST)
    node.transmit(long)
    assert hear(bench, concentrator, long).payload == long
    sent = [uplink(bench.dev_addr) for _ in range(BURST)]
    for payload in sent:
        node.transmit(payload)
    came: list[bytes] = []

    def look() -> bool:
        came.extend(one.payload for one in concentrator.receive().packets if one.payload in sent)
        return len(came) >= BURST

    bench.wait_for(look, f"a burst of {BURST}")
    measure(
        "packets of a burst that are missing or doubled", abs(len(came) - BURST) + len(set(sent) - set(came)), high=0
    )
    assert came == sent, "another order"


@hil("H09")
@needs("spi", "node", "rf")
@begins(State.BOOTED)
@pytest.mark.usefixtures("medium")
def test_h09_overflow_is_told(
    bench: Bench, node: ReferenceNode, concentrator: Concentrator, spi: SpiDoor, measure: Measure
) -> None:
    node.configure(RadioSettings(spi.plan.multi_sf[0].frequency_hz, 7))
    concentrator.receive()
    sent = [uplink(bench.dev_addr, LONGEST) for _ in range(FIFO_BYTES // LONGEST + 4)]
    for payload in sent:
        node.transmit(payload)
    fetch = concentrator.receive()
    came = [one.payload for one in fetch.packets if one.payload in sent]
    measure("packets that nobody had read", len(sent), low=len(sent))
    measure("of these, kept whole", len(came), low=1, high=len(sent) - 1)
    measure("reports of a full memory", fetch.faults.get(Fault.FULL, 0), low=1)
    after = uplink(bench.dev_addr)
    node.transmit(after)
    hear(bench, concentrator, after)


@hil("H09", required=False)
@needs("spi", "rf", "air")
@begins(State.BOOTED)
@pytest.mark.usefixtures("medium")
def test_h09_a_bad_checksum_is_marked(bench: Bench, concentrator: Concentrator, spi: SpiDoor, air: Air) -> None:
    """A real node sends none on purpose."""
    payload = uplink(bench.dev_addr)
    air.send_damaged(payload, RadioSettings(spi.plan.multi_sf[0].frequency_hz, 7))
    assert hear(bench, concentrator, payload, crc=CrcStatus.BAD).payload == payload


@hil("H10")
@needs("spi", "node", "rf")
@begins(State.BOOTED)
@pytest.mark.usefixtures("medium")
def test_h10_the_node_hears_what_is_sent_when_it_is_due(
    bench: Bench, node: ReferenceNode, concentrator: Concentrator, spi: SpiDoor, measure: Measure
) -> None:
    errors_us = []
    for channel, sf in zip(spi.plan.multi_sf[:3], (7, 8, 9), strict=False):
        payload = uplink(bench.dev_addr)
        settings = RadioSettings(channel.frequency_hz, sf, inverted=True)
        node.configure(settings)
        node.listen()
        transmission = LoraTransmission(channel.frequency_hz, 14, 125_000, sf, 1, payload)
        due_us = transmit_soon(concentrator, transmission)
        heard = node.heard(bench.limits.answer_s)
        assert heard is not None, f"{channel.frequency_hz} Hz, SF{sf}: nothing heard"
        assert heard.payload == payload
        counter_us, at_ns, _ = bracketed(concentrator)
        ended_us = counter_us + (heard.end_ns - at_ns) / 1000
        errors_us.append(ended_us - due_us - airtime_us(transmission))
    limit_us = bench.limits.tx_moment_error_us
    worst_us = max(errors_us, key=abs)
    measure("moment of a transmission, worst error", worst_us, "us", low=-limit_us, high=limit_us)


@hil("H10")
@needs("spi", "node", "rf")
@begins(State.BOOTED)
@pytest.mark.usefixtures("medium")
def test_h10_a_node_that_listens_otherwise_hears_nothing(
    bench: Bench, node: ReferenceNode, concentrator: Concentrator, spi: SpiDoor
) -> None:
    channel = spi.plan.multi_sf[0]
    right = RadioSettings(channel.frequency_hz, 8, inverted=True)
    for wrong in (replace(right, inverted=False), replace(right, sf=9), replace(right, frequency_hz=869_525_000)):
        node.configure(wrong)
        node.listen()
        payload = uplink(bench.dev_addr)
        transmit_soon(concentrator, LoraTransmission(channel.frequency_hz, 14, 125_000, 8, 1, payload))
        bench.wait_for(lambda: concentrator.transmit_status().value == "free", "the transmission to end")
        heard = node.heard(bench.limits.telling_s)
        assert heard is None or heard.payload != payload, wrong


@hil("H11")
@needs("spi")
@begins(State.BOOTED)
def test_h11_what_must_not_be_sent_is_refused(
    bench: Bench, concentrator: Concentrator, spi: SpiDoor, measure: Measure
) -> None:
    channel = spi.plan.multi_sf[0]
    good = LoraTransmission(channel.frequency_hz, 14, 125_000, 9, 1, uplink(bench.dev_addr))
    now_us = concentrator.counter_us()
    refused = 0
    for transmission, due_us, error in (
        (replace(good, frequency_hz=868_650_000), now_us + AHEAD_US, ForbiddenTransmissionError),
        (replace(good, power_dbm=27), now_us + AHEAD_US, ForbiddenTransmissionError),
        (good, now_us - 1_000, LateTransmissionError),
        (good, now_us + 500_000_000, LateTransmissionError),
        (
            replace(good, frequency_hz=868_950_000, spreading_factor=12, payload=bytes(LONGEST)),
            now_us + AHEAD_US,
            ForbiddenTransmissionError,
        ),
    ):
        with pytest.raises(error):
            concentrator.transmit(transmission, due_us)
        refused += 1
    concentrator.transmit(good, concentrator.counter_us() + 60_000_000)
    with pytest.raises(ChipError):
        concentrator.transmit(good, concentrator.counter_us() + 60_500_000)
    concentrator.abort_transmission()
    measure("kinds of forbidden transmissions refused", refused + 1, low=6)


@hil("H12")
@needs("spi")
@begins(State.BOOTED)
def test_h12_the_temperature_is_plausible(bench: Bench, spi: SpiDoor, measure: Measure) -> None:
    read = spi.thermometer()
    if read is None:
        pytest.skip(f"{spi.board.name} has no temperature sensor, and is compensated as if it had 25 degrees")
    limits = bench.limits
    measure("temperature of the board", read(), "degC", low=limits.celsius_low, high=limits.celsius_high)


@hil("H12")
@needs("spi", "node", "rf")
@begins(State.BOOTED)
@pytest.mark.usefixtures("medium")
def test_h12_the_temperature_is_taken_into_account(
    bench: Bench, node: ReferenceNode, spi: SpiDoor, shelf: Shelf, measure: Measure
) -> None:
    shelf.clear()
    node.configure(RadioSettings(spi.plan.multi_sf[0].frequency_hz, 7))
    readings = []
    for celsius in (COLD_CELSIUS, WARM_CELSIUS):
        concentrator = spi.open_concentrator(lambda celsius=celsius: celsius)  # type: ignore[misc]  # bound now
        concentrator.start()
        payload = uplink(bench.dev_addr)
        node.transmit(payload)
        readings.append(hear(bench, concentrator, payload).rssi_channel_dbm)
        concentrator.stop()
        concentrator.close()
    expected_db = temperature_term_db(WARM_CELSIUS) - temperature_term_db(COLD_CELSIUS)
    off = bench.limits.rssi_repeat_db
    measure(
        "RSSI between 0 and 60 degrees", readings[1] - readings[0], "dB", low=expected_db - off, high=expected_db + off
    )
