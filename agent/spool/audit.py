# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A look now and then whether the spool's sums still match: counted anew from the file, beside the writer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from agent.errors import SpoolError
from agent.spool.reader import SpoolReader

log = logging.getLogger(__name__)

FIRST_S = 60.0
EVERY_S = 3600.0
"""It reads every page with frames that wait: some tenths of a second for a week of them."""


class Audit:
    """A thread that counts, and says what it has found.

    Args:
        path: of the spool.
        found: is told after each look what does not add up, one sentence each, or why the file cannot be read.
    """

    def __init__(self, path: Path, found: Callable[[tuple[str, ...], SpoolError | None], None]) -> None:
        self._path = path
        self._found = found
        self._stopping = threading.Event()
        self._asked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def look(self) -> None:
        """Look soon."""
        self._asked.set()

    def stop(self, limit_s: float) -> None:
        """End the thread; a look that takes longer is left to itself, it changes nothing."""
        self._stopping.set()
        self._asked.set()
        if self._thread.ident is not None:
            self._thread.join(limit_s)

    def _run(self) -> None:
        wait_s = FIRST_S
        while True:
            self._asked.wait(wait_s)
            self._asked.clear()
            if self._stopping.is_set():
                return
            wait_s = EVERY_S
            try:
                with SpoolReader(self._path) as reader:
                    wrong, problem = tuple(reader.check()), None
            except SpoolError as error:
                wrong, problem = (), error
            self._found(wrong, problem)
