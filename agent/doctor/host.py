# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Small facts of the host: its files, and who may open what."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 65_536
_BOOT: Final = ("boot/firmware", "boot")
"""Where Raspberry Pi OS has its boot partition: bookworm and later, before."""
_SECTIONS: Final = {
    "none": "(?!)",
    "pi0": "Zero",
    "pi0w": "Zero (2 )?W",
    "pi02": "Zero 2",
    "pi1": "Model [AB]|Compute Module Rev",
    "pi2": "2 ",
    "pi3": "(Compute Module )?3 ",
    "pi3+": "(Compute Module )?3 .*Plus",
    "pi4": "(Compute Module )?4S? |400 ",
    "pi400": "400 ",
    "cm4": "Compute Module 4 ",
    "cm4s": "Compute Module 4S ",
    "pi5": "(Compute Module )?5 |500 ",
    "pi500": "500 ",
    "cm5": "Compute Module 5 ",
}
"""How the device tree calls the machines that a section of config.txt is for, after "Raspberry Pi" [Raspberry Pi
documentation, config.txt, model filters]. All other sections are taken as if they applied."""
_OVERLAYS: Final = re.compile(r"spi0-[0-9]cs")
"""Overlays that switch SPI on, besides what else they do."""


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


def settings(config_txt: str, machine: str | None) -> Iterator[str]:
    """Yield the lines of a config.txt that say something to a machine, without comments, spaces and sections.

    Args:
        config_txt: its text.
        machine: as the device tree calls it; None when nobody knows.
    """
    applies = True
    for raw in config_txt.splitlines():
        line = raw.partition("#")[0].strip()
        if line.startswith("["):
            applies = _is_for(line.strip("[] ").lower(), machine)
        elif line and applies:
            yield line


def _is_for(section: str, machine: str | None) -> bool:
    pattern = _SECTIONS.get(section)
    if pattern is None or (machine is None and section != "none"):
        return True
    return re.match(pattern, (machine or "").removeprefix("Raspberry Pi ")) is not None


def switched_on(config_txt: str, parameter: str, machine: str | None) -> bool | None:
    """Say whether config.txt switches a `dtparam` such as "spi" on or off; None when it does not say."""
    state: bool | None = None
    for line in settings(config_txt, machine):
        key, _, rest = line.partition("=")
        if key.strip() == "dtoverlay" and parameter == "spi" and _OVERLAYS.fullmatch(rest.partition(",")[0].strip()):
            state = True
        if key.strip() not in {"dtparam", "device_tree_param"}:
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
