# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""One run at a time on a bench; who comes second is told who has it."""

from __future__ import annotations

import datetime
import fcntl
import getpass
import hashlib
import json
import os
import re
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hil_tests.bench.roles import BenchError


def lock_file(name: str) -> Path:
    """Return the lock file of a bench; it stays there, the lock on it ends with its holder."""
    plain = re.sub(r"[^A-Za-z0-9-]+", "-", name).strip("-")[-40:]
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"civigate-bench-{plain}-{mark}.lock"


@contextmanager
def held(name: str) -> Iterator[Path]:
    """Hold a bench, and say in its lock file by whom.

    Raises:
        BenchError: somebody else holds it; the error says who.
    """
    path = lock_file(name)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BenchError(
                f"{name} is in use by {_holder(path)}", role="lock", hint="wait for that run, or ask its user"
            ) from None
        said = {
            "user": getpass.getuser(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": " ".join(sys.argv)[:200],
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(said).encode() + b"\n", 0)
        try:
            yield path
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _holder(path: Path) -> str:
    with suppress(OSError, ValueError, LookupError, TypeError):
        said = json.loads(path.read_text()[:4096])
        return f"{said['user']} on {said['host']} (process {said['pid']}, since {said['since']})"
    return "somebody who has not yet said who"
