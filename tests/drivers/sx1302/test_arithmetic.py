# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Small arithmetic of the driver, against the vendor's own results."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.sx1250 import frequency_register, image_calibration
from drivers.sx1302.channelizer import if_error_hz, if_register
from drivers.sx1302.lora import frequency_to_time_drift, low_data_rate, sync_peaks
from drivers.sx1302.rx import frequency_offset_hz, payload_crc16, temperature_term_db
from tests.drivers.recorded import vectors


def _rows(kind: str) -> list[dict[str, str]]:
    rows = [row for row in vectors("vectors_misc.csv") if row["kind"] == kind]
    assert rows
    return rows


def test_payload_crc16() -> None:
    rows = vectors("vectors_crc.csv")
    for row in rows:
        assert payload_crc16(bytes.fromhex(row["payload_hex"])) == int(row["crc16"]), row
    assert len(rows) == 47


def test_if_registers_and_their_error() -> None:
    for row in _rows("if_reg"):
        if_hz = int(row["in1"])
        assert (if_register(if_hz), if_error_hz(if_hz)) == (int(row["out1"]), int(row["out2"])), row


def test_frequency_to_time_drift() -> None:
    for row in _rows("freq_to_time"):
        found = frequency_to_time_drift(int(row["in2"]), int(row["in1"]))
        assert found == (int(row["out1"]), int(row["out2"])), row


def test_radio_frequency_words() -> None:
    for row in _rows("sx1250_freq_reg"):
        assert frequency_register(int(row["in1"])) == int(row["out1"]), row


def test_temperature_term() -> None:
    for row in _rows("rssi_tcomp_sx1250"):
        assert temperature_term_db(float(row["in1"])) == pytest.approx(float(row["out1"]), abs=1e-6), row


@pytest.mark.parametrize(
    ("frequency_hz", "parameters"),
    [
        (433_375_000, "6b6f"),
        (470_600_000, "7581"),
        (780_000_000, "c1c5"),
        (867_500_000, "d7db"),
        (904_300_000, "e1e9"),
    ],
)
def test_image_calibration_per_band(frequency_hz: int, parameters: str) -> None:
    assert image_calibration(frequency_hz) == bytes.fromhex(parameters)


@pytest.mark.parametrize("frequency_hz", [779_000_000, 870_000_000, 600_000_000])
def test_image_calibration_has_gaps_and_open_ends(frequency_hz: int) -> None:
    assert image_calibration(frequency_hz) is None


def test_short_spreading_factors_keep_the_private_sync_word() -> None:
    assert [sync_peaks(sf, public=True) for sf in (5, 6, 7, 12)] == [(2, 4), (2, 4), (6, 8), (6, 8)]
    assert sync_peaks(12, public=False) == (2, 4)


def test_low_data_rate_is_for_symbols_of_sixteen_milliseconds() -> None:
    shapes = [(bw, sf) for bw in (125_000, 250_000, 500_000) for sf in range(5, 13)]
    assert [s for s in shapes if low_data_rate(*s)] == [(bw, sf) for bw, sf in shapes if 2**sf / bw >= 0.016]


@given(raw=st.integers(-(1 << 19), (1 << 19) - 1), bandwidth_hz=st.sampled_from((125_000, 250_000, 500_000)))
def test_frequency_offset_truncates_towards_zero(raw: int, bandwidth_hz: int) -> None:
    exact = raw * bandwidth_hz / 2**20
    found = frequency_offset_hz(raw, bandwidth_hz)
    assert abs(found) <= abs(exact) < abs(found) + 1
    assert frequency_offset_hz(-raw, bandwidth_hz) == -found
