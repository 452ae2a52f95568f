# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Durations equal those that Semtech's software computes."""

from __future__ import annotations

from drivers.emulator.air import AirPacket
from drivers.emulator.airtime import LoraShape, lora_airtime_us, lora_decode_delay_us, lora_header_lead_us
from drivers.emulator.frame import payload_crc
from drivers.sx1302.packet import Modulation
from tests.drivers.recorded import vectors


def shape(row: dict[str, str]) -> LoraShape:
    sf, bw_hz, coding_rate, size = (int(row[key]) for key in ("sf", "bw_hz", "cr", "size"))
    return LoraShape(sf, bw_hz, coding_rate, size, row["crc"] == "1")


def test_stored_times_lie_where_the_vendors_correction_expects_them() -> None:
    rows = vectors("vectors_tscorr.csv")
    assert len(rows) > 5000
    for row in rows:
        assert -lora_decode_delay_us(shape(row)) == int(row["legacy_us"]), row
        assert lora_header_lead_us(shape(row)) == int(row["precision_us"]), row


def test_time_on_air() -> None:
    rows = vectors("vectors_toa.csv")
    assert len(rows) > 9000
    for row in rows:
        airtime_us = lora_airtime_us(shape(row), preamble=int(row["preamble"]), implicit=row["implicit"] == "1")
        assert airtime_us == int(row["toa_us"]), row


def test_payload_crc() -> None:
    for row in vectors("vectors_crc.csv"):
        assert payload_crc(bytes.fromhex(row["payload_hex"])) == int(row["crc16"])


def test_fsk() -> None:
    packet = AirPacket(868_800_000, bytes(20), Modulation.FSK)
    assert packet.airtime_us == (5 + 3 + 1 + 20 + 2) * 160
    assert packet.stored_after_us == 7
    slow = AirPacket(868_800_000, bytes(20), Modulation.FSK, bitrate=1000)
    assert slow.stored_after_us == -660
    assert slow.readable_after_us == 0
