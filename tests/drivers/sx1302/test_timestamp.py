# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Corrections of time stamps, against the vendor's own results."""

from __future__ import annotations

import pytest

from drivers.sx1302.timestamp import fsk_correction_us, lora_correction_us, lora_precision_correction_us
from tests.drivers.recorded import vectors


def test_lora_corrections_equal_the_vendors() -> None:
    rows = vectors("vectors_tscorr.csv")
    for row in rows:
        shape = [int(row[column]) for column in ("bw_hz", "sf", "cr", "size")]
        crc = row["crc"] == "1"
        assert lora_correction_us(*shape, crc=crc) == int(row["legacy_us"]), row
        assert lora_precision_correction_us(*shape, crc=crc) == int(row["precision_us"]), row
    assert len(rows) == 5568


@pytest.mark.parametrize(("bitrate_bps", "expected_us"), [(50_000, -7), (250_000, -18), (1_200, 546)])
def test_fsk_correction(bitrate_bps: int, expected_us: int) -> None:
    assert fsk_correction_us(bitrate_bps) == expected_us
