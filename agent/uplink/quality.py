# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What is odd about a link that works, so that a person need not guess: slow answers, loss, connections cut by a clock.

None of it is a fault: everything arrives. It tells which of the antenna, the data plan and the proxy to look at.
"""

from __future__ import annotations

from collections import deque
from statistics import median

from agent.uplink.port import Traffic

SLOW_S = 2.5
"""Answers that take longer on average are slow: what is usual takes tenths of a second, on satellites one."""
ANSWERS = 5
"""So many of the latest answers count."""
LOSS_SHARE = 0.1
"""Of the segments, sent again: more than that is a bad signal, or a crowded link."""
LOSS_SEGMENTS = 20
"""So many have to be sent before that is believed."""
LIVES = 3
"""So many connections in a row that ended at the same age were ended by a clock."""
SAME_SHARE = 0.1
"""How far, of the longest, their ages may differ; and never by less than `SAME_S`."""
SAME_S = 0.5
SHORTEST_LIFE_S = 1.0
"""A connection that ends sooner was not cut by a clock."""


class Quality:
    """The latest experience with one link. Belongs to one thread."""

    def __init__(self) -> None:
        self._answers: deque[float] = deque(maxlen=ANSWERS)
        self._lives: deque[float] = deque(maxlen=LIVES)
        self._before = Traffic()
        self._now = Traffic()
        self._loss: float | None = None

    def answered(self, after_s: float) -> None:
        """Take note of how long an answer took that came on the link on which its batch went out."""
        self._answers.append(after_s)

    def carried(self, traffic: Traffic) -> None:
        """Take note of what the transport has carried since the start."""
        self._now = traffic
        segments = traffic.segments - self._before.segments
        if segments >= LOSS_SEGMENTS:
            self._loss = (traffic.repeated - self._before.repeated) / segments
            self._before = traffic

    def cut(self, age_s: float) -> None:
        """Take note of a connection that worked and was ended by somebody else."""
        self._lives.append(age_s)

    def left(self) -> None:
        """Take note of a connection that ended in any other way: no clock ends them."""
        self._lives.clear()

    @property
    def answer_s(self) -> float | None:
        """How long answers take, None before the first."""
        return median(self._answers) if self._answers else None

    @property
    def notice(self) -> str | None:
        """One line for a person, None when nothing is odd."""
        found = []
        if (clock_s := self._clock_s()) is not None:
            found.append(
                f"each connection is cut after about {clock_s:.0f} s: a proxy or firewall on the way does that; "
                "nothing is lost"
            )
        if self._loss is not None and self._loss >= LOSS_SHARE:
            found.append(f"the link loses what is sent: {self._loss:.0%} of the segments had to be repeated")
        if self.answer_s is not None and self.answer_s >= SLOW_S:
            found.append(f"the link is slow: an answer takes {self.answer_s:.1f} s")
        return "; ".join(found) or None

    def _clock_s(self) -> float | None:
        """Return the age at which connections are cut, None when they are not, or not always at the same."""
        if len(self._lives) < LIVES or min(self._lives) < SHORTEST_LIFE_S:
            return None
        longest = max(self._lives)
        same = longest - min(self._lives) <= max(SAME_S, SAME_SHARE * longest)
        return median(self._lives) if same else None
