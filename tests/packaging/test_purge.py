# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a purge takes away, what it keeps, and that it names what it keeps."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.conftest import Built

pytestmark = [
    pytest.mark.xdist_group("packaging"),
    # the receiver is not set up from a file on a boot partition
    pytest.mark.parametrize("built", ["civigate"], indirect=True, scope="session"),
]
KEPT = ("var/lib/civigate/gateway.key", "var/lib/civigate/spool.db", "etc/civigate/gateway.toml")
REQUEST = "var/lib/civigate-provision/request.toml"
CONNECTION = "etc/NetworkManager/system-connections/civigate.nmconnection"


def purge(built: Built, folder: Path) -> str:
    """Run the script of the package below a folder, without any service manager; return what it says."""
    tools = folder / "tools"
    tools.mkdir()
    (tools / "rm").symlink_to(str(shutil.which("rm")))
    text = re.sub(r"(?<![\w.-])/(var|etc|run)/", rf"{folder}/\1/", (built.control / "postrm").read_text())
    script = folder / "postrm"
    script.write_text(text)
    done = subprocess.run(
        [str(shutil.which("sh")), script, "purge"], capture_output=True, text=True, env={"PATH": str(tools)}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.replace(str(folder), "")


def gateway(folder: Path, *more: str) -> None:
    """Lay out the files of a gateway that was set up over Wi-Fi."""
    for name in (*KEPT, *more):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret\n")


def test_a_purge_leaves_no_claim_code_and_names_where_the_wifi_password_stays(built: Built, tmp_path: Path) -> None:
    """A reinstallation went on with the set-up of the one before."""
    gateway(tmp_path, REQUEST, CONNECTION)
    said = purge(built, tmp_path)
    assert not (tmp_path / REQUEST).parent.exists()
    assert all((tmp_path / name).exists() for name in (*KEPT, CONNECTION))
    assert "/var/lib/civigate and /etc/civigate are kept" in said
    (line,) = (line for line in said.splitlines() if f"/{CONNECTION}" in line)
    assert "Wi-Fi password" in line
    assert "nmcli connection delete civigate" in line


def test_a_purge_that_was_asked_to_deletes_all_but_the_way_in(built: Built, tmp_path: Path) -> None:
    gateway(tmp_path, REQUEST, CONNECTION, "var/lib/civigate/delete-on-purge")
    said = purge(built, tmp_path)
    for gone in ("var/lib/civigate", "etc/civigate", "var/lib/civigate-provision"):
        assert not (tmp_path / gone).exists()
    assert (tmp_path / CONNECTION).exists(), "whoever purges may be logged in over it"
    assert f"/{CONNECTION}" in said


def test_what_is_not_there_is_not_named(built: Built, tmp_path: Path) -> None:
    gateway(tmp_path)
    assert "nmconnection" not in purge(built, tmp_path)
