# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Alive is who keeps his word: each thread says when it will be heard of again; systemd is fed while all are on time.

What hangs (a transfer on the bus that never ends, a disk that does not answer, a lock nobody gives back) keeps a thread
from its word; then the feeding stops, systemd kills the process with SIGABRT, the traces of all threads go to the
journal, and a new process begins, which finds everything committed or journaled. A link that is down, a chip that fails
again and again, a full disk are no such thing: their threads go on trying, and say so.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from agent.notify import Notifier

logger = logging.getLogger(__name__)

ORDINARY_S = 30.0
"""Until the next word of a thread that does nothing long."""
LOOKS_PER_PERIOD = 4
"""How often all are looked at while systemd waits for one sign of life."""


class Pulse:
    """The word of one thread. Its thread beats, any other looks.

    Args:
        name: of the thread.
        clock_s: monotonic.
    """

    def __init__(self, name: str, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock_s = clock_s
        self._due_s = math.inf

    def beat(self, within_s: float = ORDINARY_S) -> None:
        """Be alive now, and promise to be heard of again.

        Args:
            within_s: at most so many seconds from now; what is done meanwhile has a limit of its own below that.
        """
        self._due_s = self._clock_s() + within_s

    def end(self) -> None:
        """Promise nothing any more: the thread ends."""
        self._due_s = math.inf

    def overdue_s(self) -> float:
        """Return for how long the word has been broken; 0 when it has not, or none was given yet."""
        return max(0.0, self._clock_s() - self._due_s)


class Watchdog:
    """Feeds systemd's watchdog while every pulse is on time. Use it as a context: it ends with it.

    Args:
        notifier: to whom it is said.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._pulses: tuple[Pulse, ...] = ()
        self._hung: frozenset[str] = frozenset()
        self._ended = threading.Event()
        self._stopping = False
        self._unheard = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        if self._notifier.watchdog_s is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(ORDINARY_S)

    def pulse(self, name: str) -> Pulse:
        """Return the pulse of a new thread."""
        pulse = Pulse(name)
        self._pulses += (pulse,)
        return pulse

    def ready(self) -> None:
        """Tell systemd that the start is over, with each look again until it has heard it."""
        self._unheard = not self._notifier.ready()

    def stopping(self) -> None:
        """Tell systemd that the end begins; from here on its limit for the end holds, and threads come to theirs."""
        self._stopping = True
        self._unheard = False
        self._notifier.stopping()

    def look(self) -> bool:
        """Feed systemd if all are alive, and say whether they are."""
        if self._unheard:
            self.ready()
        late = {pulse.name: pulse.overdue_s() for pulse in self._pulses}
        hung = frozenset(name for name, overdue_s in late.items() if overdue_s > 0)
        for name in sorted(hung - self._hung):
            logger.error("event=hung thread=%s overdue_s=%.1f what=systemd is not fed until it moves", name, late[name])
        for name in sorted(self._hung - hung):
            logger.warning("event=moves_again thread=%s", name)
        self._hung = hung
        if hung and not self._stopping:
            return False
        self._notifier.alive()
        return True

    def _run(self) -> None:
        assert self._notifier.watchdog_s is not None
        while not self._ended.wait(self._notifier.watchdog_s / LOOKS_PER_PERIOD):
            self.look()
