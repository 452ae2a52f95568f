# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How the radio is, as small integers for the health record of a batch.

What tells of faults is in every record. What was listened to, channel by channel, takes some hundred bytes and says
little new from batch to batch: it travels four times an hour, in all batches that are sealed within some seconds then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.radio import RadioStatus
    from drivers.sx1302.statistics import Listened

LISTENED_INTERVAL_US: Final = 900_000_000
LISTENED_FOR_US: Final = 5_000_000


class RadioHealth:
    """Makes the record."""

    def __init__(self) -> None:
        self._told_us: int | None = None

    def record(self, status: RadioStatus, now_us: int) -> dict[str, int]:
        """Return the record; counts are since this process began.

        Args:
            status: of the radio.
            now_us: CLOCK_BOOTTIME.
        """
        record = {
            "radio_starts": status.starts,
            "radio_failures": status.failures,
            "radio_heard": status.heard,
            "radio_lost": status.lost,
        }
        record |= {f"radio_repair_{step}": count for step, count in status.repairs.items()}
        if self._told_us is None or now_us - self._told_us >= LISTENED_INTERVAL_US:
            self._told_us = now_us
        if now_us - self._told_us <= LISTENED_FOR_US:
            record |= dict(_listened(status.listened))
        return record


def _listened(listened: Listened) -> Iterator[tuple[str, int]]:
    for if_chain, channel in listened.channels.items():
        if channel.frames:
            yield f"ch{if_chain}_frames", channel.frames
        if channel.bad_crc:
            yield f"ch{if_chain}_bad_crc", channel.bad_crc
        for name, level in (
            ("rssi_dbm", channel.rssi_dbm),
            ("snr_db", channel.snr_db),
            ("noise_dbm", channel.noise_dbm),
        ):
            if level is not None:
                yield f"ch{if_chain}_{name}", round(level)
    for name, count in listened.counters.items():
        yield f"chip_{name}", count
