# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A gateway somewhere else: everything is a command that runs there, through whatever leads there (SSH)."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hil_tests.bench.roles import BenchError, Done, GoldenReception

STOP_S: Final = 120.0
SPOOL_S: Final = 300.0
JOURNAL_LINES: Final = 5000
NEWER_SPOOL: Final = 99 << 16 | 99
"""PRAGMA user_version of a spool that no present program can use (docs/spool.md)."""
RESERVE_KB: Final = 256
"""What filling a disk leaves, for the file system's own needs."""
_BACKUP: Final = """\
import sqlite3, sys, tempfile, os
f = tempfile.mkdtemp(); p = os.path.join(f, "spool.db")
a = sqlite3.connect("file:" + sys.argv[1] + "?mode=ro", uri=True); b = sqlite3.connect(p); a.backup(b); b.close()
sys.stdout.buffer.write(open(p, "rb").read()); os.unlink(p); os.rmdir(f)
"""
_MARK: Final = """\
import sqlite3, sys
a = sqlite3.connect("file:" + sys.argv[1] + "?mode=rw", uri=True)
print(a.execute("PRAGMA user_version").fetchone()[0]); a.execute("PRAGMA user_version = " + sys.argv[2]); a.close()
"""


@dataclass(frozen=True, slots=True)
class Place:
    """How commands get to a gateway.

    Attributes:
        via: what is put before them; the command is its last argument, as one text: ("ssh", "pi@gateway.local").
        root: what is put before those that need an administrator's rights; empty where they are there.
        service: the agent's unit.
        config: path of gateway.toml there.
        state_dir, runtime_dir: as in that file.
    """

    via: tuple[str, ...]
    root: tuple[str, ...] = ("sudo", "-n")
    service: str = "civigate"
    config: str = "/etc/civigate/gateway.toml"
    state_dir: str = "/var/lib/civigate"
    runtime_dir: str = "/run/civigate"

    def words(self, command: Sequence[str]) -> list[str]:
        """Return what to run on this machine."""
        return [*self.via, shlex.join(command)]


class RemoteDut:
    """A gateway with a service manager."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._since = ""

    @property
    def config(self) -> str:
        """Path of its gateway.toml."""
        return self._place.config

    def start(self) -> None:
        """Start the unit."""
        self._manage("start", "--no-block")

    def stop(self) -> None:
        """Stop the unit, and wait for it."""
        self._manage("stop")

    def kill(self) -> None:
        """SIGKILL its processes."""
        self._manage("kill", "--signal=KILL")

    def runs(self) -> bool:
        """Ask the service manager."""
        said = self.run("systemctl", "is-active", self._place.service).stdout.strip()
        return said in {"active", "activating", "reloading"}

    def status(self) -> Mapping[str, Any] | None:
        """Read its report, if it is of the process that runs now: a killed one leaves its last one behind."""
        asked = f"systemctl show --property=MainPID --value {shlex.quote(self._place.service)}"
        report = shlex.quote(f"{self._place.runtime_dir}/status.json")
        done = self.run(*self._place.root, "sh", "-c", f"{asked}; cat {report}")
        pid, _, text = done.stdout.partition("\n")
        try:
            said: dict[str, Any] = json.loads(text)
        except ValueError:
            return None
        return said if str(said["pid"]) == pid.strip() else None

    def journal(self) -> str:
        """Read the journal of this boot."""
        words = ("journalctl", "--no-pager", "--boot", f"--lines={JOURNAL_LINES}", "--unit", self._place.service)
        return self.run(*self._place.root, *words).stdout

    def copy_spool(self, folder: Path) -> Path:
        """Let SQLite copy it there, and bring the copy."""
        copy = folder / "spool.db"
        command = [*self._place.root, "python3", "-c", _BACKUP, f"{self._place.state_dir}/spool.db"]
        try:
            done = subprocess.run(self._place.words(command), capture_output=True, timeout=SPOOL_S, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise BenchError(f"the spool cannot be copied: {error}", role="dut", hint="see its journal") from error
        copy.write_bytes(done.stdout)
        return copy

    def run(self, *command: str, stdin: bytes = b"", limit_s: float = 60.0) -> Done:
        """Run a command there."""
        try:
            done = subprocess.run(
                self._place.words(command), input=stdin, capture_output=True, timeout=limit_s, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BenchError(
                f"{shlex.join(command)}: {error}", role="dut", hint="can it be reached, and has it power?"
            ) from error
        if self._place.via[:1] == ("ssh",) and done.returncode == 255:
            said = done.stderr.decode(errors="replace").strip()
            raise BenchError(f"ssh: {said}", role="dut", hint="can it be reached, and has it power?")
        return Done(
            command, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def evidence(self, folder: Path) -> None:
        """Bring journal, status and a copy of the spool."""
        (folder / "journal.txt").write_text(self.journal())
        status = self.status()
        if status is not None:
            (folder / "status.json").write_text(json.dumps(status, indent=1) + "\n")
        self.copy_spool(folder)

    def _manage(self, verb: str, *options: str) -> None:
        done = self.run(*self._place.root, "systemctl", verb, *options, self._place.service, limit_s=STOP_S)
        if done.exit_code:
            raise BenchError(f"systemctl {verb}: {done.stderr.strip()}", role="dut", hint="see its journal")


class RemoteClock:
    """The wall clock there: set by hand, and by the time daemon."""

    def __init__(self, dut: RemoteDut, place: Place) -> None:
        self._dut = dut
        self._root = place.root

    def set_wrong(self, offset_s: float) -> None:
        """Switch the time daemon off, then set the clock."""
        self._order("timedatectl", "set-ntp", "false")
        self._order("date", "--set", f"@{time.time() + offset_s:.0f}")

    def synchronise(self) -> None:
        """Switch the time daemon on again."""
        self._order("timedatectl", "set-ntp", "true")

    def _order(self, *command: str) -> None:
        done = self._dut.run(*self._root, *command)
        if done.exit_code:
            raise BenchError(
                f"{command[0]}: {done.stderr.strip()}", role="clock", hint="may the user of the bench do it?"
            )


class RemoteDisk:
    """The file system of the spool there."""

    def __init__(self, dut: RemoteDut, place: Place) -> None:
        self._dut = dut
        self._place = place

    def full(self) -> AbstractContextManager[None]:
        """Fill it with one large file, until the end."""
        return self._full()

    @contextmanager
    def _full(self) -> Iterator[None]:
        ballast = shlex.quote(f"{self._place.state_dir}/hil-ballast")
        folder = shlex.quote(self._place.state_dir)
        free = f"$(( $(df --output=avail -k {folder} | tail -1) - {RESERVE_KB} ))"
        try:
            self._order(f"fallocate -l {free}K {ballast} && dd if=/dev/zero of={ballast}2 bs=4k 2>/dev/null; true")
            yield
        finally:
            self._order(f"rm -f {ballast} {ballast}2")

    def _order(self, script: str) -> None:
        done = self._dut.run(*self._place.root, "sh", "-c", script, limit_s=SPOOL_S)
        if done.exit_code:
            raise BenchError(f"{done.stderr.strip()}", role="disk", hint="may the user of the bench do it?")


class RemoteSystem:
    """The installed package there.

    Args:
        dut: the gateway.
        place: how commands get there.
        packages: files of "this" and the "previous" release, on this machine.
    """

    def __init__(self, dut: RemoteDut, place: Place, packages: Mapping[str, Path]) -> None:
        self._dut = dut
        self._place = place
        self._packages = dict(packages)
        self._upgraded = False

    @property
    def service(self) -> str:
        """Name of the unit."""
        return self._place.service

    def install(self, which: str) -> Done:
        """Bring a package there and install it, as an administrator does.

        On the way back from an upgrade the spool is marked as that of a program newer than both, since the two releases
        may well use the same one.

        Raises:
            BenchError: the bench has no such package, or the spool cannot be marked.
        """
        if which not in self._packages:
            raise BenchError(f"no package of {which!r} release", role="system", hint="name it in [system]")
        back = which == "previous" and self._upgraded
        version = self._mark(NEWER_SPOOL) if back else 0
        try:
            done = self._install(which)
        finally:
            if back:
                self._mark(version)
                self._dut.start()
        self._upgraded = which == "this" and done.exit_code == 0
        return done

    def _mark(self, version: int) -> int:
        """Stop the agent, write the version of its spool, and return the one of before."""
        self._dut.stop()
        spool = f"{self._place.state_dir}/spool.db"
        done = self._dut.run(*self._place.root, "python3", "-c", _MARK, spool, str(version))
        if done.exit_code:
            raise BenchError(f"{spool}: {done.stderr.strip()}", role="system", hint="see what it says")
        return int(done.stdout)

    def _install(self, which: str) -> Done:
        there = f"/tmp/hil-{which}.deb"
        self._dut.run("sh", "-c", f"cat > {there}", stdin=self._packages[which].read_bytes(), limit_s=SPOOL_S)
        words = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "--allow-downgrades", there)
        return self._dut.run(*self._place.root, *words, limit_s=SPOOL_S)

    def hang_kernel(self) -> None:
        """Let it panic without a reboot; the connection hangs with it."""
        script = "echo 0 > /proc/sys/kernel/panic; (sleep 1; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 &"
        self._dut.run(*self._place.root, "sh", "-c", script, limit_s=10)


class RemoteGolden:
    """A second gateway that is known to be good, asked for what is in its spool.

    Args:
        place: how commands get there.
        offset_db: what its way attenuates more.
    """

    LOOKED_AT: Final = "200"

    def __init__(self, place: Place, offset_db: float) -> None:
        self._gateway = RemoteDut(place)
        self._place = place
        self.offset_db = offset_db

    def heard(self, payload: bytes) -> GoldenReception | None:
        """Look for a packet among its newest frames."""
        words = ("civigate", "spool", "list", "-c", self._place.config, "--json", "--last", self.LOOKED_AT)
        done = self._gateway.run(*self._place.root, *words)
        if done.exit_code:
            raise BenchError(f"{done.stderr.strip()}", role="golden", hint="look at the golden gateway")
        for line in done.stdout.splitlines():
            row = json.loads(line)
            if row["phy_payload"] == payload.hex():
                return GoldenReception(payload, float(row["rssi_dbm"]), row["snr_db"])
        return None
