# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The newest receptions and the newest report, for whoever wants to look: who writes never waits for who reads.

The radio's thread adds to a ring that forgets its oldest; readers remember how far they have come, and learn how many
they missed. While nobody follows, nobody is woken.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.local.sighting import Sighting

KEPT: Final = 512
"""Receptions in the ring: some seconds of the busiest air, an hour of a quiet one."""


class Feed:
    """The ring, the report, and a file descriptor that becomes readable when there is something new."""

    def __init__(self) -> None:
        self._ring: deque[Sighting] = deque(maxlen=KEPT)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.followed = False
        """Whether somebody wants to be woken; set by who serves."""
        self.report: Mapping[str, Any] | None = None
        """The newest one; None before the first."""
        self.reports = 0
        """How many there were."""

    def fileno(self) -> int:
        """Return the file descriptor to wait for."""
        return self._bell

    def add(self, seen: Iterable[Sighting]) -> None:
        """Add receptions, numbered on from the newest. Never waits."""
        self._ring.extend(seen)
        self._ring_bell()

    def renew(self, said: Mapping[str, Any]) -> None:
        """Take a new report. Never waits."""
        self.report = said
        self.reports += 1
        self._ring_bell()

    def end(self) -> None:
        """Wake who serves, although nobody follows."""
        self.followed = True
        self._ring_bell()

    def heard_bell(self) -> None:
        """Let the bell ring anew next time."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)

    @property
    def newest(self) -> int:
        """Number of the newest reception, 0 before the first."""
        return self._ring[-1].number if self._ring else 0

    def since(self, number: int, most: int) -> tuple[int, Sequence[Sighting]]:
        """Return how many receptions after `number` are forgotten already, and those after that, oldest first.

        Args:
            number: of the last one that the reader has; 0: none.
            most: that are returned.
        """
        while True:
            # The radio's thread may add at any time; then the walk through the ring begins anew.
            with suppress(RuntimeError, IndexError):
                ring = self._ring
                if not ring or ring[-1].number <= number:
                    return 0, ()
                oldest = ring[0].number
                skip = max(number + 1 - oldest, 0)
                found = tuple(islice(ring, skip, skip + most))
                return (found[0].number - number - 1 if found else 0), found

    def close(self) -> None:
        """Release the file descriptor; nobody adds any more."""
        self.followed = False
        os.close(self._bell)

    def _ring_bell(self) -> None:
        if self.followed:
            with suppress(BlockingIOError, OSError):
                os.eventfd_write(self._bell, 1)
