# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The programs of the emulator bench: agent and receiver as processes, on the concentrator of this process.

They are started when a test first asks for one. What a cut of the power takes with it: the agent's process, what is in
memory (its runtime_dir), and the chip. What it leaves: the kernel's buffers, which are those of this machine; that the
card keeps what it was told to keep is shown by the virtual machine.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Final

from agent import report
from agent.clock import HostClock
from agent.demo.stage import CIVIGATE, RECEIVER, Stage
from drivers.emulator import Emulator
from drivers.emulator.remote import Server
from hil_tests.bench.roles import LIES, BenchError, Done, PlatformFrame

MAX_SAID: Final = 200_000
"""Characters of a journal that are kept as evidence."""

_HASTE: Final = {
    "commit_window_s = 0.5": "commit_window_s = 0.1",
    "batch_age_s = 2.0": "batch_age_s = 0.1\nbatch_frames = 10",
    "\n[destination.filter]": "answer_timeout_s = 1.0\n\n[destination.filter]",
}
"""What a gateway on a bench does sooner than one in the field, so that nobody waits for it."""


class Town(Stage):
    """Agent and receiver around an emulator of this process.

    Args:
        folder: empty, short.
        emulator: the chip.

    Attributes:
        lies: file that tells the receiver how to answer; see `lying_receiver`.
        clock: file that tells the agent its time; see `tests.e2e.lying_clock`. Missing: the agent has the host's.
    """

    def __init__(self, folder: Path, emulator: Emulator) -> None:
        super().__init__(folder, mqtt=False)
        self._emulator = emulator
        self._server: Server | None = None
        self.folder = folder
        self.lies = folder / "lies"
        self.clock = folder / "clock.json"
        self._helper = ThreadPoolExecutor(1, "town")
        self._begun: Future[None] | None = None

    def begin_soon(self) -> None:
        """Set the stage, once, while tests of the chip go on."""
        if self._begun is None:
            self._begun = self._helper.submit(self._begin)

    def begin(self) -> None:
        """Set the stage, once, and wait for it."""
        self.begin_soon()
        assert self._begun is not None
        self._begun.result()

    def _begin(self) -> None:
        self.set()
        text = self.gateway_toml.read_text()
        for old, new in _HASTE.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        self.gateway_toml.write_text(text)

    def agent_pid(self) -> int | None:
        """Return the process of the agent, None when it does not run."""
        process = self._running.get("agent")
        return process.pid if process is not None and process.poll() is None else None

    def close(self) -> None:
        """Stop everything."""
        self._helper.shutdown()
        super().close()
        if self._server is not None:
            self._server.close()

    def _start(self, name: str, *command: str, until: Callable[[], bool] = lambda: True) -> None:
        if name == "emulator":
            self._server = Server(self._emulator, self.control_socket.with_name("spi.sock"), self.control_socket)
            return
        if name == "receiver":
            lying = (sys.executable, "-m", "hil_tests.bench.lying_receiver", str(self.lies))
            command = (*lying, *command[len(RECEIVER) :])
        if name == "agent":
            command = (sys.executable, "-m", "hil_tests.bench.hasty_agent", str(self.clock), *command[len(CIVIGATE) :])
        super()._start(name, *command, until=until)


class TownDut:
    """The agent of a town."""

    def __init__(self, town: Town) -> None:
        self._town = town
        self.enabled = False
        """Whether it starts with the machine."""

    @property
    def config(self) -> str:
        """Path of its gateway.toml."""
        return str(self._town.gateway_toml)

    def start(self) -> None:
        """Start it, and what it speaks with."""
        self.enabled = True
        if not self.runs():
            self._town.begin()
            self._town.start_agent()

    def stop(self) -> None:
        """End it with SIGTERM."""
        self.enabled = False
        if self.runs():
            self._town.stop_agent()

    def kill(self) -> None:
        """SIGKILL it, and start it as a service manager would."""
        if self.runs():
            self._town.kill_agent()

    def runs(self) -> bool:
        """Say whether its process is there."""
        return self._town.agent_pid() is not None

    def status(self) -> Mapping[str, Any] | None:
        """Return its report, if it is of the process that runs now."""
        pid = self._town.agent_pid()
        try:
            said: dict[str, Any] = json.loads((self._town.folder / "run" / report.FILE_NAME).read_text())
        except (OSError, ValueError):
            return None
        return said if said["pid"] == pid else None

    def journal(self) -> str:
        """Return what it has said."""
        log = self._town.log_of("agent")
        return log.read_text(errors="replace") if log.exists() else ""

    def copy_spool(self, folder: Path) -> Path:
        """Copy its spool as SQLite copies a database that is in use."""
        copy = folder / "spool.db"
        if not self._town.spool.exists():
            raise BenchError("there is no spool yet", role="dut", hint="start the agent first")
        with (
            closing(sqlite3.connect(f"file:{self._town.spool}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        return copy

    def run(self, *command: str, stdin: bytes = b"", limit_s: float = 60.0) -> Done:
        """Run a command of this machine; `civigate` is the one that is tested."""
        words = [*CIVIGATE, *command[1:]] if command[0] == "civigate" else list(command)
        try:
            done = subprocess.run(words, input=stdin, capture_output=True, timeout=limit_s, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BenchError(f"{' '.join(command)}: {error}", role="dut", hint="see the log") from error
        return Done(
            command, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def evidence(self, folder: Path) -> None:
        """Write journal and status, and copy the spool."""
        if said := self.journal():
            (folder / "journal.txt").write_text(said[-MAX_SAID:])
        status = self.status()
        if status is not None:
            (folder / "status.json").write_text(json.dumps(status, indent=1) + "\n")
        if self._town.spool.exists():
            self.copy_spool(folder)


class TownPlatform:
    """The receiver of a town, and the relay in front of it."""

    def __init__(self, town: Town) -> None:
        self._town = town

    def frames(self) -> Sequence[PlatformFrame]:
        """Read its ledger."""
        if not self._town.ledger.exists():
            return []
        with closing(sqlite3.connect(f"file:{self._town.ledger}?mode=ro", uri=True, timeout=30)) as ledger:
            rows = ledger.execute(
                "SELECT seq, phy_payload, counter_us, utc_us, utc_error_us FROM reception ORDER BY seq"
            ).fetchall()
        return [PlatformFrame(seq, bytes.fromhex(phy), counter, utc, error) for seq, phy, counter, utc, error in rows]

    def verifies(self) -> bool:
        """Ask the receiver."""
        return bool(self._town.receiver_status()["ok"])

    def cut(self) -> None:
        """Cut the relay."""
        self._town.begin()
        self._town.relay.cut()

    def restore(self) -> None:
        """Restore the relay."""
        self._town.begin()
        if not self._town.relay.open:
            self._town.relay.restore()

    def lie(self, how: str) -> None:
        """Tell the receiver how to answer."""
        assert how in {*LIES, ""}
        draft = self._town.lies.with_suffix(".new")
        draft.write_text(how)
        draft.replace(self._town.lies)

    def lies_told(self) -> int:
        """Return how often it lied."""
        told = self._town.lies.with_suffix(".told")
        try:
            return int(told.read_text())
        except (OSError, ValueError):
            return 0

    def evidence(self, folder: Path) -> None:
        """Write what the receiver said."""
        log = self._town.log_of("receiver")
        if log.exists():
            (folder / "receiver.txt").write_text(log.read_text(errors="replace")[-MAX_SAID:])


class TownPower:
    """The supply of a town's gateway."""

    def __init__(self, town: Town, dut: TownDut, emulator: Emulator) -> None:
        self._town = town
        self._dut = dut
        self._emulator = emulator
        self._on = True

    def off(self) -> None:
        """Take process, memory and chip away, at once."""
        self._on = False
        if self._dut.runs():
            self._town.cut_power()
        self._emulator.drive_power(active=False)
        shutil.rmtree(self._town.folder / "run", ignore_errors=True)

    def on(self) -> None:
        """Give them back; what starts with the machine does."""
        self._on = True
        self._emulator.drive_power(active=True)
        if self._dut.enabled:
            self._dut.start()

    def is_on(self) -> bool:
        """Say how it was left."""
        return self._on


class TownClock:
    """The wall clock that the agent of a town sees."""

    def __init__(self, town: Town) -> None:
        self._town = town

    def set_wrong(self, offset_s: float) -> None:
        """Let the next start of the agent be in a new boot whose clock is off."""
        said = {
            "boot_id": secrets.token_hex(16),
            "began_us": HostClock().boottime_us(),
            "wall_error_us": round(offset_s * 1e6),
            "synchronised": False,
        }
        self._say(said)

    def synchronise(self) -> None:
        """Let the kernel believe its clock, which is right."""
        if self._town.clock.exists():
            self._say(json.loads(self._town.clock.read_text()) | {"wall_error_us": 0, "synchronised": True})

    def _say(self, said: Mapping[str, object]) -> None:
        draft = self._town.clock.with_suffix(".new")
        draft.write_text(json.dumps(said))
        draft.replace(self._town.clock)


class TownDisk:
    """The disk under the spool of a town's agent: its kernel answers "no space left" to what is written there."""

    def __init__(self, town: Town) -> None:
        self._town = town

    def full(self) -> AbstractContextManager[None]:
        """Let every write to the spool fail."""
        return self._full()

    @contextmanager
    def _full(self) -> Iterator[None]:
        pid = self._town.agent_pid()
        strace = shutil.which("strace")
        if pid is None or strace is None:
            raise BenchError("needs a running agent and strace", role="disk", hint="apt install strace")
        places = [part for name in ("", "-wal", "-shm") for part in ("-P", f"{self._town.spool}{name}")]
        command = [strace, "-f", "-p", str(pid), "-o", os.devnull, *places, "-e", "inject=pwrite64:error=ENOSPC"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            try:
                if "attached" not in (first := tracer.stderr.readline()):
                    raise BenchError(
                        f"no process may be traced here: {first.strip()}", role="disk", hint="allow ptrace"
                    )
                yield
            finally:
                tracer.terminate()
                tracer.communicate()
