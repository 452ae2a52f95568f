# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Root's commands work as the service's user wherever they touch its folders.

So all that they leave there is the service's, after a power cut too; and no link that somebody laid who has taken over
the service leads root anywhere that the service itself could not go.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.errors import AgentError


@contextmanager
def as_owner(home: Path, folder: Path | None = None) -> Iterator[None]:
    """Work as the user whose folder `home` is, all threads of this process together.

    Nothing changes for others than root. Root stays root in a folder of root's, and where there is none yet.

    Args:
        home: folder of the service.
        folder: what is touched; where it is not in `home`, its own owner is meant.

    Raises:
        AgentError: CG-OWN-001, this root may not become somebody else; CG-OWN-002, the owner does not get there.
    """
    place = home if folder is None or folder.absolute().is_relative_to(home.absolute()) else folder
    owner = owner_of(place)
    if os.geteuid() != 0 or owner is None:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    try:
        _become(*owner, place)
        if not os.access(place, os.X_OK, effective_ids=True):
            hint = "let that user get there, for one by mounting it below /mnt; or give the folder to root"
            what = f"its owner, the user with number {owner[0]}, does not get there"
            raise AgentError(what, where=str(place), hint=hint, code="CG-OWN-002")
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        with suppress(OSError):  # who may not set them has not changed them
            os.setgroups(groups)


def owner_of(folder: Path) -> tuple[int, int] | None:
    """Return user and group whose folder it is; None for root, and for a folder that is not there."""
    try:
        found = folder.lstat()
        # who laid a link decides where it leads
        if found.st_uid == 0:
            found = folder.stat()
    except OSError:
        return None
    return None if found.st_uid == 0 else (found.st_uid, found.st_gid)


def _become(uid: int, gid: int, place: Path) -> None:
    try:
        user = pwd.getpwuid(uid)
        name, gid = user.pw_name, user.pw_gid
    except KeyError:  # another system's user, on a card of it
        name = ""
    try:
        os.setgroups(os.getgrouplist(name, gid) if name else [])
        os.setegid(gid)
        os.seteuid(uid)
    except OSError as error:
        hint = f"run this as that user: setpriv --reuid {uid} --regid {gid} --clear-groups civigate"
        what = f"belongs to the user with number {uid}, whom this root may not become"
        raise AgentError(what, where=str(place), hint=hint, code="CG-OWN-001") from error
