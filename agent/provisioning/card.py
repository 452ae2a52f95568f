# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Tell a card that takes no file, which may pass, from a request that cannot be met."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import Final

from agent.errors import AgentError
from drivers.errors import DriverError

NEXT_STEP: Final = "make room on the card; if it is not full, it is worn or read-only: replace it"
_OF_THE_CARD: Final = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.EUCLEAN,
        errno.EBADMSG,
        errno.EACCES,
        errno.EPERM,
    )
)
"""Full, read-only, worn, damaged, or another's [errno(3); the fifth and sixth as ext4 names its checksums]. A folder
that is missing is none of these: a setting names the wrong one."""
_OF_ITS_DATABASE: Final = frozenset(
    (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
)


def next_step(error: Exception) -> str:
    """Return what to do about an error of the card; where a permission lacks, no room on it helps."""
    if isinstance(error, AgentError | DriverError) and isinstance(error.__cause__, PermissionError):
        return error.hint
    return NEXT_STEP


def refuses(error: Exception) -> bool:
    """Whether an error comes of a card that does not take, or give, a file.

    Args:
        error: of a step that has nothing to do with the network, or that names the network's errors otherwise. What
            the system said is the error itself, or its cause.
    """
    if isinstance(error, OSError) and not isinstance(error, AgentError | DriverError):
        return True
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        # a folder where the file should be is a setting that names the wrong place
        misplaced = isinstance(error, AgentError) and Path(error.where).is_dir()
        return not misplaced and getattr(cause, "sqlite_errorcode", 0) & 0xFF in _OF_ITS_DATABASE
    return isinstance(cause, OSError) and cause.errno in _OF_THE_CARD
