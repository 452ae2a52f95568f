# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Where the account of airtime outlives the process, and the power.

It is written twice: at once into a file in RAM, for a process that is killed; and by a thread into a file on the card,
for a host that loses its power. A transmission waits for neither: a card may take a second, a packet is due in tens of
milliseconds.
"""

from __future__ import annotations

import json
import logging
import os
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, Final

from drivers.sx1302.ledger import MEMORY_LIMIT_BYTES, AirtimeLedger

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from drivers.plans import TransmitBand

logger = logging.getLogger(__name__)

FLUSH_LIMIT_S: Final = 5.0

QUIET_S: Final = 4000.0
"""After so long without a transmission nothing is on any account: an hour, a step, and what can be scheduled ahead."""


class AirtimeMemory:
    """Two files with what was sent in the past hour.

    Args:
        quick: in RAM.
        lasting: on the card.
        boot_id: the kernel's, which tells whether monotonic times of the files still mean something.
    """

    def __init__(self, quick: Path, lasting: Path, boot_id: bytes) -> None:
        self._quick = quick
        self._lasting = lasting
        self._boot = boot_id.hex()
        self._change = Condition()
        self._newest: str | None = None
        self._empty = self._text(AirtimeLedger((), 0).memory())
        self._writing = False
        self._thread: Thread | None = None

    def ledger(self, bands: Iterable[TransmitBand], now_ns: int, *, fresh: bool) -> AirtimeLedger:
        """Return the account as the last process left it.

        Without a file that makes sense it is one of a band that is used up: in an hour at the latest it is free.

        Args:
            bands: of the plan.
            now_ns: CLOCK_MONOTONIC_RAW.
            fresh: this gateway has never run, so that it cannot have sent anything.
        """
        bands = tuple(bands)
        ledger = self._recall(bands, now_ns, fresh=fresh)
        self._empty = self._text(AirtimeLedger.unused(bands, now_ns).memory())
        # Also a gateway that sends nothing shall know that next time.
        self.keep(ledger.memory())
        return ledger

    def _recall(self, bands: tuple[TransmitBand, ...], now_ns: int, *, fresh: bool) -> AirtimeLedger:
        found = [told for told in (_read(self._quick), _read(self._lasting)) if told is not None]
        for boot, memory in sorted(found, key=lambda told: told[0] != self._boot):
            try:
                return AirtimeLedger.recalled(bands, now_ns, memory, same_boot=boot == self._boot, keep=self.keep)
            except ValueError as error:
                logger.warning("event=airtime_memory_unreadable problem=%s", error)
        if fresh:
            return AirtimeLedger.unused(bands, now_ns, self.keep)
        if any(band.duty_cycle < 1 for band in bands):
            logger.warning(
                "event=airtime_unknown what=nothing is sent for an hour where the time on the air is limited"
            )
        return AirtimeLedger(bands, now_ns, self.keep)

    def keep(self, memory: str) -> None:
        """Write the account down; returns before the card has it."""
        text = self._text(memory)
        self._put(self._quick, text, durable=False)
        with self._change:
            self._newest = text
            self._change.notify_all()
            if self._thread is None:
                self._thread = Thread(target=self._run, name="airtime", daemon=True)
                self._thread.start()

    def flush(self) -> bool:
        """Wait until the card has all, a few seconds at most; False when it has not."""
        with self._change:
            return self._change.wait_for(lambda: self._newest is None and not self._writing, FLUSH_LIMIT_S)

    def _run(self) -> None:
        written = ""
        while True:
            with self._change:
                if not self._change.wait_for(lambda: self._newest is not None, QUIET_S) and written != self._empty:
                    # What is old is not to be taken for new by the next boot, which cannot tell.
                    self._newest = self._empty
                written, self._newest, self._writing = self._newest or "", None, True
            if written:
                self._put(self._lasting, written, durable=True)
            with self._change:
                self._writing = False
                self._change.notify_all()
            written = written or self._empty

    def _text(self, memory: str) -> str:
        return json.dumps({"boot": self._boot, "memory": memory})

    @staticmethod
    def _put(path: Path, text: str, *, durable: bool) -> None:
        try:
            _write(path, text, durable=durable)
        except OSError as error:
            logger.warning("event=airtime_not_kept file=%s problem=%s", path, error.strerror)


def _write(path: Path, text: str, *, durable: bool) -> None:
    """Put a file in its place, whole or not at all."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with fresh.open("w", encoding="ascii") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    fresh.replace(path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(path: Path) -> tuple[str, str] | None:
    try:
        with path.open("rb") as file:
            told: Any = json.loads(file.read(MEMORY_LIMIT_BYTES))
        boot, memory = told["boot"], told["memory"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        logger.warning("event=airtime_memory_unreadable file=%s problem=%s", path, error)
        return None
    return str(boot), str(memory)
