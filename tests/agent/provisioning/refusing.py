# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Provisioning on a card that takes no file, at one step after the other. A program, for a mount namespace of its own.

    unshare --user --map-root-user --mount python -m tests.agent.provisioning.refusing FOLDER

A small file system stands for the card. It is full, or read-only, when a step wants to write; the file on the boot
partition has to say so and the request has to stay; then the card takes files again, and provisioning has to go on by
itself. The concentrator is taken as found: what comes after it is looked at.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

from agent import config
from agent.demo.authority import Authority
from agent.provisioning import preparation
from agent.provisioning.boot import BootPartition
from agent.provisioning.desk import Desk
from agent.provisioning.preparation import Located
from agent.provisioning.provisioner import Places
from tests.agent.provisioning import inside
from tests.agent.spool.crowded import fill
from tests.receiver.enrolment.town import Town, town
from tests.receiver.platform import Certificates, until

EUI = "0016c001ff123456"
CARD = "the card does not take it"
LIMIT_S = 60.0


def mount(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    return folder


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


class Gateway:
    """What a technician sees of it: the boot partition."""

    def __init__(self, folder: Path, town: Town) -> None:
        self.boot, self.desk, self.toml = folder / "boot", folder / "desk", folder / "etc/gateway.toml"
        self.root, self.state = folder / "root", folder / "state"
        self.boot.mkdir(parents=True)
        self.toml.parent.mkdir()
        self.code = town.code(bytes.fromhex(EUI))
        (self.boot / "platform-ca.pem").write_bytes(town.platform.certificates.authority.read_bytes())
        (self.boot / "civigate.toml").write_text(
            f'[provision]\nformat = 1\nname = "mast"\nclaim = "{self.code}"\nplatform = "{town.url}"\n'
            'ca_file = "platform-ca.pem"\nboard = "rak_2287"\n'
        )

    def configured(self) -> Gateway:
        """Have a gateway.toml beforehand, whose state is below the folder."""
        self.toml.write_text(f'[gateway]\nstate_dir = "{self.state}"\nruntime_dir = "{self.root}"\n')
        return self

    def stage(self, stage: str) -> bool:
        with contextlib.suppress(OSError, tomllib.TOMLDecodeError):
            said = tomllib.loads((self.boot / "civigate.toml").read_text())
            return bool(said.get("result", {}).get("stage") == stage)
        return False

    @property
    def request_is_kept(self) -> bool:
        """Whether the code is still somewhere."""
        return self.code.replace("-", "") in (self.desk / "request.toml").read_text().replace("-", "")

    def provisioning(self) -> contextlib.AbstractContextManager[threading.Thread]:
        return inside.provisioning(Places(BootPartition(self.boot), Desk(self.desk, self.root), self.toml, self.root))

    def reaches(self, stage: str, thread: threading.Thread) -> None:
        until(lambda: self.stage(stage) or not thread.is_alive(), LIMIT_S)
        assert self.stage(stage), (self.boot / "civigate.toml").read_text()


def at_the_first_step(folder: Path, town: Town) -> None:
    """The request itself cannot be kept."""
    gateway = Gateway(folder, town).configured()
    filler = fill(mount(gateway.desk), 0)
    note = gateway.boot / "civigate-error.txt"
    with gateway.provisioning() as thread:
        until(lambda: note.exists() or not thread.is_alive(), LIMIT_S)
        assert thread.is_alive()
        assert "No space left on device" in note.read_text()
        assert gateway.code in (gateway.boot / "civigate.toml").read_text(), "it is nowhere else"
        filler.unlink()
        gateway.reaches("waiting for the platform", thread)
        assert not note.exists()
        assert gateway.request_is_kept


def at_the_key(folder: Path, town: Town) -> None:
    """There is no room for the gateway's key."""
    gateway = Gateway(folder, town).configured()
    filler = fill(mount(gateway.state), 0)
    with gateway.provisioning() as thread:
        gateway.reaches(CARD, thread)
        assert gateway.request_is_kept
        filler.unlink()
        gateway.reaches("waiting for the platform", thread)


def at_the_configuration(folder: Path, town: Town) -> None:
    """The folder of gateway.toml is read-only: first there is none, then there is one."""
    mount(Path("/var/lib"))  # of this namespace alone; a gateway.toml that is made here says nothing of another place
    for gateway in (Gateway(folder / "without", town), Gateway(folder / "with", town)):
        mount(gateway.toml.parent)
        if gateway.toml.parent.parent.name == "with":
            gateway.configured()
        remount(gateway.toml.parent, "ro")
        with gateway.provisioning() as thread:
            gateway.reaches(CARD, thread)
            assert gateway.request_is_kept
            remount(gateway.toml.parent, "rw")
            gateway.reaches("waiting for the platform", thread)


def at_the_enrolment(folder: Path, town: Town) -> None:
    """The card fills between the gateway's key and that for TLS."""
    gateway = Gateway(folder, town).configured()
    mount(gateway.state)
    make, fillers = preparation.make_key, []

    def then_full(loaded: config.GatewayConfig) -> bytes:
        made = make(loaded)
        fillers.append(fill(gateway.state, 0))
        return made

    preparation.make_key = then_full
    with town.platform.serving(), gateway.provisioning() as thread:
        gateway.reaches(CARD, thread)
        assert gateway.request_is_kept
        fillers[0].unlink()
        gateway.reaches("enrolled", thread)
        assert config.load(gateway.toml).destination


def main(folder: Path) -> None:
    """Meet each of them."""
    found = Located(config.parse_bus("spi:/dev/spidev0.0"), "rak_2287", "SX1302", EUI)
    preparation.locate = lambda asked: found
    authority = Authority(folder)
    certificates = Certificates(authority.certificate, authority.server("platform"), authority.client("gateway"))
    (folder / "platform").mkdir()
    here = town(folder / "platform", certificates)
    for step in (at_the_first_step, at_the_key, at_the_configuration, at_the_enrolment):
        step(folder / step.__name__, here)
        print(step.__name__, flush=True)


if __name__ == "__main__":
    os.umask(0o077)  # as the unit has it
    main(Path(sys.argv[1]))
