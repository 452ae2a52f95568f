# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How each destination stands: its account since its stream began, and what waits; for those who only look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.batch.model import HOUR_US

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.batch.model import Account
    from agent.spool.intake import Hour
    from agent.spool.state import State, Stream


@dataclass(frozen=True, slots=True)
class Standing:
    """A destination at one moment.

    Attributes:
        destination: its name.
        account: every bucket, since its stream began.
        delivered: frames that the platform has signed for, of this stream.
        waiting: frames that are to be delivered still.
        oldest: the hour in which the oldest of them was heard; None when nothing waits.
    """

    destination: str
    account: Account
    delivered: int
    waiting: int
    oldest: Hour | None

    def oldest_s(self, boot_id: bytes, boottime_us: int) -> float | None:
        """Return how long the oldest frame has waited, up to an hour too much; None when nothing waits.

        Of an earlier boot it is not known how long ago it was: then this is the time since the present one began.
        """
        if self.oldest is None:
            return None
        heard_us = self.oldest.hour * HOUR_US if self.oldest.boot_id == boot_id else 0
        return max(boottime_us - heard_us, 0) / 1e6


def standings(state: State) -> Iterator[Standing]:
    """Yield how the destinations stand that frames are kept for."""
    names = state.hour_names()
    for stream in state.open_streams():
        oldest = next((hour for hour in stream.hours if stream.waiting_in(hour)), None)
        yield Standing(
            stream.destination,
            stream.since_start,
            stream.delivered,
            _waiting(stream),
            None if oldest is None else names.get(oldest),
        )


def _waiting(stream: Stream) -> int:
    return sum(map(stream.waiting_in, stream.hours))
