# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Files that root made for the service's user: 'sudo civigate enrol' must not lock the agent out of its own keys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from agent.errors import IdentityError


def hand_over(state_dir: Path, *paths: Path) -> None:
    """Give files and folders to whom the state folder belongs, where root made them; nothing to do for others.

    Args:
        state_dir: whose owner gets them.
        paths: with all that is in them; those that are missing are left out.

    Raises:
        IdentityError: CG-ENR-018, one cannot be given away.
    """
    if os.geteuid() != 0:
        return
    try:
        owner = state_dir.stat()
        for path in _all(paths):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    except OSError as error:
        hint = f"give it to the user that runs civigate: chown -R --reference={state_dir} {state_dir}"
        what = f"cannot be given to its owner: {error.strerror}"
        raise IdentityError(what, where=str(error.filename or state_dir), hint=hint, code="CG-ENR-018") from error


def _all(paths: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        if path.exists():
            yield path
            yield from path.rglob("*")
