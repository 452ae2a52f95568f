# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The driver's own time on air, against the vendor's."""

from __future__ import annotations

import pytest

from drivers.sx1302.airtime import airtime_us
from drivers.sx1302.timestamp import payload_symbols
from drivers.sx1302.transmission import FskTransmission, LoraTransmission
from tests.drivers.recorded import vectors


def test_all_recorded_times_on_air() -> None:
    rows = vectors("vectors_toa.csv")
    for row in rows:
        bandwidth_hz, sf, cr, preamble, implicit, crc, size, toa_us, symbols = map(int, row.values())
        packet = LoraTransmission(
            868_100_000,
            14,
            bandwidth_hz,
            sf,
            cr,
            bytes(size),
            crc=bool(crc),
            implicit_header=bool(implicit),
            preamble_symbols=preamble,
        )
        assert airtime_us(packet) == toa_us, row
        assert payload_symbols(sf, cr, size, crc=bool(crc), implicit_header=bool(implicit)) == symbols, row
    assert len(rows) == 9216


@pytest.mark.parametrize(
    ("size", "bitrate_bps", "crc", "expected_us"),
    [(0, 50_000, True, 1760), (20, 50_000, False, 4640), (1, 300, True, 320_000)],
)
def test_fsk(size: int, bitrate_bps: int, crc: bool, expected_us: int) -> None:
    packet = FskTransmission(868_800_000, 14, bitrate_bps, 25_000, bytes(size), crc=crc)
    assert airtime_us(packet) == expected_us


def test_no_part_of_a_microsecond_is_forgotten() -> None:
    assert airtime_us(FskTransmission(868_800_000, 14, 249_999, 25_000, bytes(10))) == 673
