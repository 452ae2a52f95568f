# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The bench `vm`: the suite against the installed package in a virtual machine, under its own systemd.

The concentrator is emulated in the guest behind a real spidev node and a real gpiochip; node and path are numbers, as
on the bench `emulator`. The chip's registers are not within reach of this host while the guest runs: no role `spi`.
"""

from __future__ import annotations

import base64
import json
import shlex
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from hil_tests.bench.limits import Limits
from hil_tests.bench.model import Bench, Run
from hil_tests.bench.roles import (
    LIES,
    BenchError,
    Done,
    NodeIdentity,
    NodeReception,
    PlatformFrame,
    RadioSettings,
    TxReport,
)
from hil_tests.bench.virtual import VirtualNode, VirtualPath, air_packet, hears, raw_ns, snr_db
from hil_tests.vm.air import Air, AirError
from hil_tests.vm.disks import copy_sparse
from hil_tests.vm.door import open_door
from hil_tests.vm.factory import NEW, OLD, installed
from hil_tests.vm.gateway import CONFIG, NEWER_SPOOL, SPOOL, UNIT, Gateway
from hil_tests.vm.machine import Disk, Machine, MachineError
from hil_tests.vm.platform import EUI, Platform
from hil_tests.vm.shell import ShellError

SUITE = "trixie"
LIMITS = Limits(
    frames_away=60,
    power_cuts=1,
    soak_s=60.0,
    answer_s=300.0,
    boot_s=600.0,
    tx_moment_error_us=2_000_000,
    telling_s=10.0,
)
"""A processor that is emulated needs time for everything. The soak shows that its looks work; a day is for a rig. What
the node hears is asked for ten times a second, through the guest: that says little of the moment."""
MAX_SAID = 200_000
FIFO_SHARE_BYTES = 2048
UNREAD_S = 10.0
"""A chip whose FIFO does not empty for so long is read by nobody."""
_VERSIONS = {"this": NEW, "previous": OLD}
_SYNCHRONISED = (
    "import ctypes; t = (ctypes.c_long * 32)(); t[0] = 0x1c; t[2] = t[3] = 20000; "
    "b = ctypes.cast(t, ctypes.POINTER(ctypes.c_int)); b[10] = 1; "
    "assert ctypes.CDLL(None).adjtimex(t) >= 0"
)
"""What a time daemon tells the kernel: status PLL without UNSYNC, and errors of 20 ms [adjtimex(2)]."""


class VmDut:
    """The gateway in the machine, through its shell."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.config = CONFIG
        self._ready = True

    def lost(self) -> None:
        """Take note that its power is gone: the next command waits for the shell."""
        self._ready = False

    def start(self) -> None:
        """Start the service, and let it start with the machine."""
        self._run(f"systemctl enable --quiet {UNIT}; systemctl start --no-block {UNIT}")

    def stop(self) -> None:
        """Stop it, and wait for that."""
        self._run(f"systemctl disable --quiet {UNIT}; systemctl stop {UNIT}")

    def kill(self) -> None:
        """SIGKILL it; systemd starts it again."""
        self._run(f"systemctl kill --signal=KILL {UNIT}")

    def runs(self) -> bool:
        """Ask systemd."""
        return self._run(f"systemctl show -P MainPID {UNIT}").strip() not in {"", "0"}

    def status(self) -> Mapping[str, Any] | None:
        """Return the report of the process that runs now."""
        said = self._run(f"systemctl show -P MainPID {UNIT}; cat /run/civigate/status.json")
        pid, _, report = said.partition("\n")
        try:
            told: dict[str, Any] = json.loads(report)
        except ValueError:
            return None
        return told if str(told["pid"]) == pid.strip() else None

    def journal(self) -> str:
        """Return the journal of the unit, all boots that it kept."""
        return self._run(f"journalctl -u {UNIT} --no-pager -o short-iso | tail -c {MAX_SAID}")

    def copy_spool(self, folder: Path) -> Path:
        """Copy it as SQLite copies a database that is in use."""
        self._run(f"sqlite3 -readonly {SPOOL} '.backup /run/bench-spool.db'")
        copy = folder / "spool.db"
        copy.write_bytes(self._gateway.shell.get("/run/bench-spool.db"))
        return copy

    def run(self, *command: str, stdin: bytes = b"", limit_s: float = 60.0) -> Done:
        """Run a command as root in the machine."""
        given = base64.b64encode(stdin).decode()
        words = " ".join(map(shlex.quote, command))
        limit = max(limit_s, 120.0)
        script = (
            f"echo {given} | base64 -d | timeout {limit:.0f} {words} >/run/bench.out 2>/run/bench.err; code=$?; "
            "base64 -w0 /run/bench.out; echo; base64 -w0 /run/bench.err; echo; echo $code"
        )
        out, err, code = self._run(script, limit_s=limit + 60).rstrip("\n").split("\n")[-3:]
        return Done(
            command,
            int(code),
            base64.b64decode(out).decode(errors="replace"),
            base64.b64decode(err).decode(errors="replace"),
        )

    def evidence(self, folder: Path) -> None:
        """Write journal, console and status."""
        (folder / "console.txt").write_text(self._gateway.machine.last_words(2000))
        (folder / "journal.txt").write_text(self.journal())
        said = self.status()
        if said is not None:
            (folder / "status.json").write_text(json.dumps(said, indent=1) + "\n")

    def _run(self, command: str, limit_s: float = 180.0) -> str:
        try:
            if not self._ready:
                self._gateway.machine.wait_for_shell(10)
                self._ready = True
            return self._gateway.shell.run(command, limit_s=limit_s).output
        except (ShellError, MachineError) as error:
            raise BenchError(str(error), role="dut", hint="see the console of the machine") from error


class VmPower:
    """The plug of the machine."""

    def __init__(self, machine: Machine, dut: VmDut) -> None:
        self._machine = machine
        self._dut = dut

    def on(self) -> None:
        """Put it in."""
        if not self._machine.on:
            self._machine.power_on()

    def off(self) -> None:
        """Pull it."""
        self._machine.cut()
        self._dut.lost()

    def is_on(self) -> bool:
        """Say whether QEMU runs."""
        return self._machine.on


class VmNode:
    """A node on the air of the guest's concentrator."""

    powers_dbm = VirtualNode.powers_dbm

    def __init__(self, machine: Machine, path: VirtualPath, dut: VmDut) -> None:
        self._machine = machine
        self._path = path
        self._dut = dut
        self._settings = RadioSettings(868_100_000, 7)
        self._air: tuple[int, Air] | None = None
        self._listening_since = 0
        self._unread = False

    def identify(self) -> NodeIdentity:
        """Say that it is none."""
        return NodeIdentity("emulated node", "", "")

    def configure(self, settings: RadioSettings) -> None:
        """Set all of it."""
        self._settings = settings

    def transmit(self, payload: bytes) -> TxReport:
        """Put a packet on the air whose decoding completes now, once the chip has room for it."""
        self.send(payload, self._settings, "ok")
        return TxReport(payload, self._settings, raw_ns())

    def send_damaged(self, payload: bytes, settings: RadioSettings) -> None:
        """Let a packet arrive with a wrong CRC."""
        self.send(payload, settings, "bad")

    def send(self, payload: bytes, settings: RadioSettings, crc: str) -> None:
        """Put a packet on the air.

        Raises:
            BenchError: the concentrator does not answer.
        """
        packet = air_packet(settings, payload, self._path.attenuation_db)
        self._wait_for_room()
        told: dict[str, object] = {
            "freq_hz": packet.freq_hz,
            "payload": payload.hex(),
            "sf": packet.sf,
            "bw_hz": packet.bw_hz,
            "cr": f"4/{4 + packet.coding_rate}",
            "rssi_dbm": packet.rssi_dbm,
            "snr_db": packet.snr_db,
            "crc": crc,
            "invert_iq": packet.invert_iq,
            "preamble": packet.preamble,
        }
        if packet.sync_word is not None:
            told["sync_word"] = packet.sync_word
        self._ask(cmd="inject", **told)

    def _wait_for_room(self) -> None:
        """Wait while the chip is half full and somebody reads it; where nobody does, an overflow is what is wanted."""
        lowest = self._ask(cmd="stats")["fifo_bytes"]
        deadline = time.monotonic() + (0.0 if self._unread else UNREAD_S)
        while (level := self._ask(cmd="stats")["fifo_bytes"]) > FIFO_SHARE_BYTES:
            if level < lowest:
                lowest, deadline = level, time.monotonic() + UNREAD_S
            elif time.monotonic() >= deadline:
                self._unread = True
                return
            time.sleep(0.05)
        self._unread = False

    def listen(self) -> None:
        """Hear what is sent from now on."""
        self._listening_since = len(self._ask(cmd="txlog")["tx"])

    def heard(self, within_s: float) -> NodeReception | None:
        """Return the next packet that a node with these settings hears."""
        deadline = time.monotonic() + within_s
        while True:
            for one in self._ask(cmd="txlog")["tx"][self._listening_since :]:
                if one["outcome"] != "sent":
                    break
                self._listening_since += 1
                level_dbm = 14.0 - self._path.attenuation_db
                if hears(self._settings, one["freq_hz"], one):
                    return NodeReception(bytes.fromhex(one["payload"]), level_dbm, snr_db(level_dbm), raw_ns())
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.1)

    def _ask(self, **command: object) -> dict[str, Any]:
        boot = self._machine.boots
        if self._air is None or self._air[0] != boot:
            self._air = (boot, Air(self._machine.air_port))
        try:
            self._air[1].wait(LIMITS.answer_s)
            return self._air[1].ask(**command)
        except AirError as error:
            raise BenchError(str(error), role="node", hint="the machine must be on") from error


class VmPlatform:
    """The receiver on this host, and the relay in front of it."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def frames(self) -> Sequence[PlatformFrame]:
        """Read its ledger."""
        if not self._platform.ledger.exists():
            return []
        with closing(sqlite3.connect(f"file:{self._platform.ledger}?mode=ro", uri=True, timeout=60)) as ledger:
            rows = ledger.execute(
                "SELECT seq, phy_payload, counter_us, utc_us, utc_error_us FROM reception ORDER BY seq"
            ).fetchall()
        return [PlatformFrame(seq, bytes.fromhex(phy), counter, utc, error) for seq, phy, counter, utc, error in rows]

    def verifies(self) -> bool:
        """Ask the receiver."""
        return bool(self._platform.ask("status", "--json")["ok"])

    def cut(self) -> None:
        """Cut the relay."""
        self._platform.relay.cut()

    def restore(self) -> None:
        """Restore the relay."""
        if not self._platform.relay.open:
            self._platform.relay.restore()

    def lie(self, how: str) -> None:
        """Tell the receiver how to answer."""
        assert how in {*LIES, ""}
        draft = self._platform.lies.with_suffix(".new")
        draft.write_text(how)
        draft.replace(self._platform.lies)

    def lies_told(self) -> int:
        """Return how often it lied."""
        try:
            return int(self._platform.lies.with_suffix(".told").read_text())
        except (OSError, ValueError):
            return 0

    def evidence(self, folder: Path) -> None:
        """Write what the receiver said."""
        (folder / "receiver.txt").write_text(self._platform.log()[-MAX_SAID:])


class VmClock:
    """The wall clock of the guest; nothing synchronises it."""

    def __init__(self, dut: VmDut) -> None:
        self._dut = dut

    def set_wrong(self, offset_s: float) -> None:
        """Set it."""
        self._dut.run("date", "-s", f"@{max(time.time() + offset_s, 1):.0f}")

    def synchronise(self) -> None:
        """Set it right, and let the kernel know that it is."""
        self._dut.run("date", "-s", f"@{time.time():.3f}")
        self._dut.run("python3", "-c", _SYNCHRONISED)


class VmDisk:
    """The file system under the spool."""

    def __init__(self, dut: VmDut) -> None:
        self._dut = dut

    @contextmanager
    def full(self) -> Iterator[None]:
        """Fill it, with a file of root's; what is reserved for root is no room for others."""
        script = "fallocate -l $(( $(stat -f -c '%a * %S' /var/lib/civigate) - 65536 )) /var/lib/bench-ballast"
        filled = self._dut.run(
            "sh", "-c", f"{script}; dd if=/dev/zero bs=4k oflag=append conv=notrunc of=/var/lib/bench-rest"
        )
        if "No space left" not in filled.stderr:
            raise BenchError(f"it is not full: {filled.stderr}", role="disk", hint="see the console of the machine")
        try:
            yield
        finally:
            self._dut.run("rm", "-f", "/var/lib/bench-ballast", "/var/lib/bench-rest")


class VmSystem:
    """The installed package."""

    service = UNIT

    def __init__(self, gateway: Gateway, dut: VmDut) -> None:
        self._gateway = gateway
        self._dut = dut

    def install(self, which: str) -> Done:
        """Install a version from the stick with apt.

        Both are of the same working tree; for the way back the spool is marked as that of a program newer than both.
        """
        self._gateway.trust_stick()
        words = ("apt-get", "install", "-y", "-q", "--allow-downgrades", f"civigate={_VERSIONS[which]}")
        back = which == "previous" and NEW in self._dut.run("civigate", "--version").stdout
        if not back:
            return self._dut.run(*words, limit_s=900)
        self._dut.run("systemctl", "stop", UNIT, limit_s=300)
        version = self._dut.run("sqlite3", SPOOL, "PRAGMA user_version").stdout.strip()
        self._dut.run("sqlite3", SPOOL, f"PRAGMA user_version = {NEWER_SPOOL}")
        done = self._dut.run(*words, limit_s=900)
        self._dut.run("sqlite3", SPOOL, f"PRAGMA user_version = {version}")
        self._dut.run("systemctl", "start", "--no-block", UNIT)
        return done

    def hang_kernel(self) -> None:
        """Let the kernel panic, and stay so."""
        shell = self._gateway.shell
        shell.check("sysctl -q -w kernel.panic=0 kernel.sysrq=1; sync")
        shell.send("echo c >/proc/sysrq-trigger")
        self._dut.lost()


@contextmanager
def bench(run: Run) -> Iterator[Bench]:
    """Open it: a card with the package on it is made or taken from the cache, started, and enrolled."""
    made = installed(SUITE)
    # disks are large: not where sockets go
    folder = Path(tempfile.mkdtemp(prefix="civigate-vm-", dir="/var/tmp"))
    try:
        disk, path = copy_sparse(made.disk, folder / "card.raw"), VirtualPath()
        platform = Platform(folder / "platform", mqtt=False, through_relay=True)
        machine = Machine(made.card, disk, folder / "machine", disks=[Disk(made.stick, read_only=True)])
        with platform, machine, ExitStack() as ends:
            machine.boot()
            gateway = Gateway(machine)
            gateway.trust_stick()
            gateway.configure(platform)
            dut, door = VmDut(gateway), open_door(gateway)
            ends.callback(door.release)
            node = VmNode(machine, path, dut)
            yield Bench(
                "vm",
                simulated=True,
                limits=LIMITS,
                description={
                    "board": "emulated behind CUSE and CP2112",
                    "emulator": gateway.shell.check("civigate --version"),
                    "image": made.card.disk.parent.name,
                    "eui": EUI,
                },
                dut=dut,
                spi=door,
                power=VmPower(machine, dut),
                node=node,
                rf=path,
                platform=VmPlatform(platform),
                clock=VmClock(dut),
                disk=VmDisk(dut),
                system=VmSystem(gateway, dut),
                air=node,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
