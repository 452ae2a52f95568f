# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The numbers of a bench: tests take them from here and have none of their own."""

from __future__ import annotations

from dataclasses import dataclass, fields

from drivers.profile import Table


@dataclass(frozen=True, slots=True)
class Limits:
    """What this bench allows; those of an emulator where a bench file says nothing.

    Attributes:
        read_backs: of H01.
        rssi_error_db: between the level at the antenna connector and the RSSI.
        rssi_slope_error: of RSSI over level, from 1.
        golden_error_db: between the gateway under test and the golden one.
        snr_error_db: between the SNR on the air and the reported one; where it is far above 0, nobody compares it.
        counter_error_ppm: of the concentrator's counter against the host.
        tx_start_error_us: of a transmission's first symbol against the counter value that was asked for.
        frequency_error_hz: of a transmission's carrier.
        celsius_low, celsius_high: what a temperature may be on this bench.
        gnss_error_us: of a GNSS receiver's UTC; an emulated one begins its seconds anywhere.
        power_cuts: of H15.
        frames_away: how many frames H16 has heard while the platform is away.
        loss_share: of packets that a soak may lose on the air.
        soak_s: how long H21 lasts.
        memory_growth_mb, descriptor_growth: what a soak may add.
        answer_s: longest wait for anything that a machine does by itself.
        boot_s: from power to a machine that takes commands.
    """

    read_backs: int = 1000
    rssi_error_db: float = 1.0
    rssi_slope_error: float = 0.05
    golden_error_db: float = 3.0
    snr_error_db: float = 0.5
    counter_error_ppm: float = 100.0
    tx_start_error_us: float = 2.0
    frequency_error_hz: float = 200.0
    celsius_low: float = -20.0
    celsius_high: float = 70.0
    gnss_error_us: int = 1_100_000
    power_cuts: int = 3
    frames_away: int = 200
    loss_share: float = 0.01
    soak_s: float = 86_400.0
    memory_growth_mb: float = 5.0
    descriptor_growth: int = 4
    answer_s: float = 60.0
    boot_s: float = 120.0


def read_limits(table: Table | None) -> Limits:
    """Read [limits] of a bench file; what it does not name stays as it is.

    Raises:
        ProfileError: an unknown name, or no number.
    """
    if table is None:
        return Limits()
    given: dict[str, int | float] = {}
    for one in fields(Limits):
        default: int | float = getattr(Limits(), one.name)
        if isinstance(default, int):
            given[one.name] = table.integer(one.name, 0, 10**9, default)
        else:
            given[one.name] = table.number(one.name, -1e9, 1e9, default)
    table.finish()
    return Limits(**given)  # type: ignore[arg-type]  # each is of its default's type
