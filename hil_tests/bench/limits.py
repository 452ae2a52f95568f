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
        rssi_repeat_db: between two packets of the same level.
        golden_error_db: between the gateway under test and the golden one.
        stamp_error_us: of a packet's time stamp beyond the two moments between which it came.
        counter_error_ppm: of the concentrator's counter against the host.
        tx_moment_error_us: of a transmission's end, as the node and this machine tell it, from where the counter value
            that was asked for puts it.
        telling_s: after a transmission has ended, how long a node may take to say that it has heard it.
        celsius_low, celsius_high: what a temperature may be on this bench.
        frame_time_error_us: of a frame's stated time beyond its stated error: what reading the counter costs here; an
            emulator's bus is a socket to a busy process.
        gnss_pulse_error_us: what is stated for a pulse of the GNSS receiver.
        gnss_anchor_error_us: what is stated for the host's time by it.
        gnss_error_us: of a GNSS receiver's UTC; an emulated one begins its seconds anywhere.
        notice_us: from the moment at which a node says that a packet is sent back to the one at which it was.
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
    rssi_repeat_db: float = 0.6
    golden_error_db: float = 3.0
    stamp_error_us: float = 500_000.0
    counter_error_ppm: float = 100.0
    tx_moment_error_us: float = 20_000.0
    telling_s: float = 0.5
    celsius_low: float = -20.0
    celsius_high: float = 70.0
    frame_time_error_us: int = 1_000_000
    gnss_pulse_error_us: int = 20_000
    gnss_anchor_error_us: int = 500_000
    gnss_error_us: int = 1_100_000
    notice_us: int = 0
    power_cuts: int = 2
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
