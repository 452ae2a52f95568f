# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Where damaged files are kept: beside the good one, numbered, and not so many of them that they fill the card."""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger(__name__)

MOST_KEPT = 4
"""The first, which is nearest to what went wrong, and the newest ones."""


def name_for(path: Path) -> Path:
    """Return the name under which the damaged `path` is kept; copies beyond `MOST_KEPT` make room for it.

    Raises:
        OSError: one cannot be removed.
    """
    begin = f"{path.name}.damaged-"
    numbers = sorted(
        int(kept.name.removeprefix(begin))
        for kept in path.parent.glob(f"{begin}*")
        if kept.name.removeprefix(begin).isdecimal()
    )
    for number in numbers[1 : len(numbers) - MOST_KEPT + 2]:
        for suffix in ("-wal", ""):
            path.with_name(f"{begin}{number}{suffix}").unlink(missing_ok=True)
        log.warning("event=damaged_copy_removed file=%s%d", begin, number)
    return path.with_name(f"{begin}{numbers[-1] + 1 if numbers else 1}")
