# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A word to systemd: started, alive, ending. Without systemd nobody listens, and nothing happens.

One datagram per word on the socket that NOTIFY_SOCKET names [sd_notify(3)].
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

_STEP = 1e6


class Notifier:
    """Where systemd listens.

    Args:
        environment: of the process.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is in the abstract namespace, which the kernel writes with a null byte.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        own = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        said = environment.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(said) / _STEP if own and said.isdecimal() and int(said) else None
        """How long systemd waits for a sign of life; None when it does not."""

    def ready(self) -> bool:
        """Say that the start is over; False when nobody heard it who should: without it systemd ends the service."""
        return self._say("READY=1")

    def alive(self) -> None:
        """Say that all is well, until the next time."""
        self._say("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Give `systemctl status` a line to show."""
        self._say("STATUS=" + text.replace("\n", " "))

    def stopping(self) -> None:
        """Say that the end begins."""
        self._say("STOPPING=1")

    def _say(self, what: str) -> bool:
        if not self._address:
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                to.settimeout(1.0)
                to.sendto(what.encode(), self._address)
        except OSError:
            # A systemd that restarts itself is away for a moment; the next word will reach it.
            return False
        return True
