# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The gateway in the machine: install it, set it up by hand, look at it, as somebody at its console would."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from hil_tests.vm.machine import Machine
from hil_tests.vm.platform import Platform
from hil_tests.vm.shell import Shell
from hil_tests.vm.stick import MOUNT

UNIT = "civigate.service"
CONFIG = "/etc/civigate/gateway.toml"
SPOOL = "/var/lib/civigate/spool.db"
NEWER_SPOOL = 99 << 16 | 99
"""PRAGMA user_version of a program that is newer than any, and whose spool only such can use."""
BOARD = "/etc/bench/board.toml"
INSTALL_LIMIT_S = 900.0
CHANGE_LIMIT_S = 300.0
_KEYRING = "/usr/share/keyrings/civigate-archive-keyring.gpg"


class Gateway:
    """A gateway.

    Args:
        machine: which it is in, with power.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    @property
    def shell(self) -> Shell:
        """Root's shell in it."""
        return self.machine.shell

    def trust_stick(self) -> None:
        """Take the repository on the stick into use, as packaging/README.md says."""
        there = f"{MOUNT}/civigate"
        self._mount_stick()
        self.shell.check(f"install -D -m 644 {there}/civigate-archive-keyring.gpg {_KEYRING}")
        self.shell.check(f"cp {there}/civigate.sources /etc/apt/sources.list.d/ && apt-get update -q")

    def install(self, version: str, *options: str) -> str:
        """Install a version from the stick, with all that it depends on, and return what apt said."""
        self._mount_stick()
        words = " ".join(("apt-get install -y -q", *options, f"civigate={version}"))
        return self.shell.check(words, limit_s=INSTALL_LIMIT_S)

    def _mount_stick(self) -> None:
        self.shell.check(f"mkdir -p {MOUNT} && (mountpoint -q {MOUNT} || mount -o ro LABEL=stick {MOUNT})")

    def configure(self, platform: Platform, *, batch_age_s: float = 2.0, commit_window_s: float = 0.5) -> None:
        """Write a configuration, make a key, enrol with a claim code, and start."""
        text = (
            f'[gateway]\nname = "bench"\n[concentrator]\nboard = "{BOARD}"\npoll_interval_ms = 50\n'
            f"[spool]\nbatch_age_s = {batch_age_s}\ncommit_window_s = {commit_window_s}\n"
        )
        self.shell.put(CONFIG, text, 0o640)
        self.shell.check(f"chown root:civigate {CONFIG}")
        self.shell.check(f"runuser -u civigate -- civigate identity create -c {CONFIG}")
        # the chip's EUI is the gateway's name, and only the agent asks the chip
        self.start()
        self.wait_for(lambda: bool(self.report().get("gateway", {}).get("eui")), "the EUI of the chip")
        claim, fingerprint = platform.invite()
        told = f"--claim {claim} --fingerprint {fingerprint} -c {CONFIG}"
        self.shell.check(f"civigate enrol {platform.enrolment_url} {told}")
        self.shell.check(f"systemctl restart {UNIT}", limit_s=CHANGE_LIMIT_S)

    def start(self) -> None:
        """Start the service and wait until it says that it is ready."""
        self.shell.check(f"systemctl start {UNIT}", limit_s=CHANGE_LIMIT_S)

    def properties(self, *names: str, unit: str = UNIT) -> dict[str, str]:
        """Return properties of a unit."""
        asked = " ".join(f"-p {name}" for name in names)
        lines = self.shell.check(f"systemctl show {asked} {unit}").splitlines()
        return {name: value for name, _, value in (line.partition("=") for line in lines)}

    def report(self) -> dict[str, Any]:
        """Return what the running agent says of itself; empty when there is no report."""
        result = self.shell.run("cat /run/civigate/status.json")
        if result.code != 0:
            return {}
        said = json.loads(result.output)
        assert isinstance(said, dict)
        return said

    def journal(self, lines: int = 40, unit: str = UNIT) -> str:
        """Return the end of a unit's journal."""
        return self.shell.check(f"journalctl -u {unit} --no-pager -o short-monotonic -n {lines}")

    def wait_for(self, condition: Callable[[], bool], what: str, limit_s: float = CHANGE_LIMIT_S) -> float:
        """Wait for something of it; return for how long, in seconds.

        Raises:
            AssertionError: it does not come; the text has the journal.
        """
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > limit_s:
                raise AssertionError(f"waited {limit_s:g} s for {what}\n{self.journal()}")
            time.sleep(0.5)
        return time.monotonic() - began

    def waiting(self) -> int:
        """Return how many frames are committed and not acknowledged yet, whatever the agent says."""
        return int(self._ask_spool("SELECT count(*) FROM frame") or 0)

    def committed(self) -> set[bytes]:
        """Return the payloads of the frames that are in the spool, as another reader of the database sees them."""
        return {bytes.fromhex(line) for line in self._ask_spool("SELECT hex(phy_payload) FROM frame").split()}

    def numbers(self) -> set[tuple[int, int]]:
        """Return series and number of the frames that are in the spool: what tells them apart, in few bytes."""
        said = self._ask_spool("SELECT hex(substr(phy_payload, 10, 8)) FROM frame")
        return {(int(one[:8], 16), int(one[8:], 16)) for one in said.split()}

    def _ask_spool(self, query: str) -> str:
        result = self.shell.run(f"sqlite3 -readonly -cmd '.timeout 20000' {SPOOL} '{query}'")
        return result.output.strip() if result.code == 0 else ""

    def receiving(self) -> bool:
        """Whether the chip of the running agent is set up and listens."""
        radio = self.report().get("radio")
        return isinstance(radio, dict) and radio.get("state") == "receiving"
