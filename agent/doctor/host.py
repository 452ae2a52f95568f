# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Small facts of the host: its files, and who may open what."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 65_536
_BOOT: Final = ("boot/firmware", "boot")
"""Where Raspberry Pi OS has its boot partition: bookworm and later, before."""


def text(path: Path) -> str | None:
    """Return what a file says, at most 64 kB; None when it is not there or may not be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode("utf-8", "replace").strip("\0 \t\r\n")
    except OSError:
        return None


def number(path: Path, base: int = 10) -> int | None:
    """Return the number in a file; None when there is none."""
    found = text(path)
    try:
        return None if found is None else int(found.split("=")[-1], base)
    except ValueError:
        return None


def model(root: Path) -> str | None:
    """Return what the device tree calls this machine; None without one."""
    return text(root / "proc/device-tree/model")


def boot_file(root: Path, name: str) -> str | None:
    """Return a file of a Raspberry Pi's boot partition; None when there is none."""
    return next((found for folder in _BOOT if (found := text(root / folder / name)) is not None), None)


def settings(config_txt: str) -> list[str]:
    """Return the lines of a config.txt that say something, without comments, spaces and sections."""
    lines = (line.partition("#")[0].strip() for line in config_txt.splitlines())
    return [line for line in lines if line and not line.startswith("[")]


def switched_on(config_txt: str, parameter: str) -> bool | None:
    """Say whether config.txt switches a `dtparam` such as "spi" on or off; None when it does not say."""
    state: bool | None = None
    for line in settings(config_txt):
        key, _, rest = line.partition("=")
        if key.strip() != "dtparam":
            continue
        for item in rest.split(","):
            name, _, value = item.partition("=")
            if name.strip() == parameter:
                state = value.strip() in {"", "on", "yes", "1", "true"}
    return state


def may_use(path: Path, user: str) -> bool:
    """Say whether a user may read and write a device, by its mode, owner and group.

    Raises:
        OSError: it is not there.
    """
    import pwd

    found = path.stat()
    with suppress(KeyError):
        entry = pwd.getpwnam(user)
        if entry.pw_uid == 0:
            return True
        bits = found.st_mode
        if found.st_uid == entry.pw_uid:
            return bits & 0o600 == 0o600
        if found.st_gid in os.getgrouplist(user, entry.pw_gid):
            return bits & 0o060 == 0o060
        return bits & 0o006 == 0o006
    return os.access(path, os.R_OK | os.W_OK)


def group_of(path: Path) -> str:
    """Return the group of a file; "root" when nobody knows."""
    import grp

    with suppress(KeyError, OSError):
        return grp.getgrgid(path.stat().st_gid).gr_name
    return "root"


def is_device(path: Path) -> bool:
    """Say whether something that can be opened as a device is there."""
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        return False
