# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the scripts of the packages ask of the system, action by action; the system's tools note what they are told."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.conftest import Built

pytestmark = pytest.mark.xdist_group("packaging")
TOOLS = (
    "systemctl",
    "deb-systemd-helper",
    "deb-systemd-invoke",
    "systemd-sysusers",
    "udevadm",
    "py3compile",
    "py3clean",
)


def told(built: Built, folder: Path, script: str, *action: str, tmpfiles: bool = True) -> list[str]:
    """Run a script below a folder where systemd runs; return the tools that it calls, with their arguments."""
    tools, noted = folder / "tools", folder / "noted"
    tools.mkdir(parents=True)
    (folder / "run/systemd/system").mkdir(parents=True)
    for name in ("sh", "rm", "touch"):
        (tools / name).symlink_to(str(shutil.which(name)))
    for name, code in [*((name, 0) for name in TOOLS), ("install", 0), ("systemd-tmpfiles", 0 if tmpfiles else 1)]:
        (tools / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{noted}\nexit {code}\n')
        (tools / name).chmod(0o755)
    text = re.sub(r"(?<![\w.-])/(var|etc|run|usr)/", rf"{folder}/\1/", (built.control / script).read_text())
    copy = folder / script
    copy.write_text(text)
    done = subprocess.run([tools / "sh", copy, *action], capture_output=True, text=True, env={"PATH": str(tools)})
    assert done.returncode == 0, done.stderr
    return noted.read_text().replace(str(folder), "").splitlines() if noted.exists() else []


def services(calls: list[str]) -> list[str]:
    """Return what services are told."""
    verbs = (call.split()[1] for call in calls if call.startswith("deb-systemd-invoke "))
    return list(dict.fromkeys(verbs))


def test_an_upgrade_restarts_and_an_installation_starts(built: Built, tmp_path: Path) -> None:
    assert services(told(built, tmp_path / "new", "postinst", "configure", "")) == ["start"]
    assert services(told(built, tmp_path / "again", "postinst", "configure", "0.1.0")) == ["try-restart", "start"]


@pytest.mark.parametrize("action", [("abort-upgrade", "0.2.0"), ("abort-deconfigure", "in-favour", "other", "1")])
def test_what_was_refused_leaves_the_services_alone(built: Built, tmp_path: Path, action: tuple[str, ...]) -> None:
    """A refused downgrade said that nothing was changed, and restarted the radio."""
    assert [call.split()[0] for call in told(built, tmp_path / "new", "postrm", *action)] == []
    calls = told(built, tmp_path / "old", "postinst", *action)
    assert [call.split()[0] for call in calls] == ["py3compile"], "prerm has cleaned that away"


def test_a_removal_that_is_called_off_starts_what_it_had_stopped(built: Built, tmp_path: Path) -> None:
    stopped = told(built, tmp_path / "prerm", "prerm", "remove")
    assert services(stopped) == ["stop"]
    started = told(built, tmp_path / "postinst", "postinst", "abort-remove")
    assert services(started) == ["start"]
    assert started[-1].split()[2:] == stopped[0].split()[2:]


def test_an_upgrade_stops_nothing_beforehand(built: Built, tmp_path: Path) -> None:
    assert services(told(built, tmp_path, "prerm", "upgrade", "0.2.0")) == []


def test_the_folders_are_made_where_systemd_does_not_make_them(built: Built, tmp_path: Path) -> None:
    """In a chroot without /proc there was no folder for the file that the script told to write."""
    assert not any(call.startswith("install ") for call in told(built, tmp_path / "with", "postinst", "configure", ""))
    calls = told(built, tmp_path / "without", "postinst", "configure", "", tmpfiles=False)
    made = {tuple(call.split()[2:]) for call in calls if call.startswith("install -d ")}
    (listed,) = (built.tree / "usr/lib/tmpfiles.d").iterdir()
    lines = [line.split() for line in listed.read_text().splitlines() if line.startswith("d ")]
    wanted = {
        ("-m", mode, "-o", user, "-g", group, path)
        for _, path, mode, user, group, _ in lines
        if not path.startswith("/run/")
    }
    assert made == wanted
