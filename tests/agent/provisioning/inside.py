# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Provisioning in this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from agent.provisioning.provisioner import Places, Provisioner

LIMIT_S = 60.0


@contextlib.contextmanager
def provisioning(places: Places) -> Iterator[threading.Thread]:
    """Let it work in a thread until the end."""
    stop = threading.Event()
    thread = threading.Thread(target=Provisioner(places, stop, longest_pause_s=0.05).run)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(LIMIT_S)
    assert not thread.is_alive()
