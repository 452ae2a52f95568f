# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The virtual machine: power, console, shell, disks, clock, and a watchdog that is hardware to it.

Always by plain emulation (TCG), named as such: where KVM opens but cannot run an ordinary kernel, QEMU would not fall
back by itself. QEMU dies with its process' parent, whatever becomes of the tests.
"""

from __future__ import annotations

import ctypes
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hil_tests.vm.image import Card
from hil_tests.vm.qmp import Qmp, QmpError
from hil_tests.vm.shell import Shell, ShellError

BOOT_LIMIT_S = 420.0
"""A boot takes some 20 s on an idle machine; this one may be shared by many."""
OFF_LIMIT_S = 180.0
MEMORY_MB = 1024
AIR_PORT = 7000
"""Where the guest serves the air of its virtual concentrator."""
CHIP_PORT = 7001
"""Where it serves the chip itself, for tests of the driver (`hil_tests.vm.door`)."""
HOST = "10.0.2.2"
"""This machine, as the guest sees it."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class MachineError(Exception):
    """The machine did not do what a machine does; the text has the end of its console."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A further disk, raw.

    Attributes:
        path: of the file.
        log: file into which each write and each flush is recorded beside; None for none.
        read_only: the guest cannot write.
    """

    path: Path
    log: Path | None = None
    read_only: bool = False


class Machine:
    """A machine with a card in it, off to begin with.

    Args:
        card: what it is started with.
        disk: its memory card, a copy that is written to.
        folder: for sockets and console; made if it is not there.
        disks: further ones.
        processors: 2 boot in two thirds of the time of 1.
        watchdog: plug in an Intel 6300ESB, which resets the machine when nobody feeds it.

    Attributes:
        air_port: of this host, leads to the air of the guest's concentrator while it is on.
        chip_port: the same, to its chip.
        boots: how often it was switched on, or came up again by itself.
    """

    def __init__(
        self,
        card: Card,
        disk: Path,
        folder: Path,
        *,
        disks: Sequence[Disk] = (),
        processors: int = 2,
        watchdog: bool = True,
    ) -> None:
        self._card = card
        self._disk = disk
        self._folder = folder
        self._disks = tuple(disks)
        self._processors = processors
        self._watchdog = watchdog
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: Path | None = None
        self._shell: Shell | None = None
        self._qmp: Qmp | None = None
        self.air_port = 0
        self.chip_port = 0
        self.boots = 0
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def with_disks(self, disks: Sequence[Disk]) -> Machine:
        """Return the same machine with other further disks; this one must be off."""
        return Machine(
            self._card,
            self._disk,
            self._folder,
            disks=disks,
            processors=self._processors,
            watchdog=self._watchdog,
        )

    @property
    def disk(self) -> Path:
        """The card."""
        return self._disk

    @property
    def console(self) -> Path:
        """The log of the first serial port, of all boots."""
        return self._folder / "console.log"

    @property
    def shell(self) -> Shell:
        """Root's shell.

        Raises:
            MachineError: it is off.
        """
        if self._shell is None:
            raise MachineError("the machine is off")
        return self._shell

    @property
    def qmp(self) -> Qmp:
        """QEMU's control channel.

        Raises:
            MachineError: it is off.
        """
        if self._qmp is None:
            raise MachineError("the machine is off")
        return self._qmp

    @property
    def on(self) -> bool:
        """Whether it has power."""
        return self._process is not None and self._process.poll() is None

    def boot(self, limit_s: float = BOOT_LIMIT_S) -> float:
        """Give it power and wait for its shell; return how long that took, in seconds.

        Raises:
            MachineError: it has power already, QEMU does not start, or no shell comes.
        """
        began = time.monotonic()
        self.power_on()
        self.wait_for_shell(limit_s)
        return time.monotonic() - began

    def wait_for_shell(self, limit_s: float = BOOT_LIMIT_S) -> None:
        """Wait for the shell, also after a reset that the machine went through by itself.

        Raises:
            MachineError: it does not come.
        """
        try:
            self.shell.wait(limit_s)
        except ShellError as error:
            raise MachineError(f"{error}\n{self.last_words()}") from error

    def wait_for_reset(self, limit_s: float = 300.0) -> None:
        """Wait until the machine resets itself, as QEMU tells it.

        Raises:
            MachineError: it does not.
        """
        if not self.qmp.wait_for_event("RESET", limit_s):
            raise MachineError(f"no reset within {limit_s:g} s\n{self.last_words()}")
        self.boots += 1

    def power_off(self) -> float:
        """Shut down as a person would, and return how long that took, in seconds.

        Raises:
            MachineError: it stays on; then its power is cut.
        """
        began = time.monotonic()
        if self._process is None:
            return 0.0
        self.shell.send("systemctl poweroff --no-block || kill -s RTMIN+4 1")
        try:
            self._process.wait(OFF_LIMIT_S)
        except subprocess.TimeoutExpired as error:
            said = self.last_words()
            self.cut()
            raise MachineError(f"it did not shut down within {OFF_LIMIT_S:g} s\n{said}") from error
        self._forget()
        return time.monotonic() - began

    def cut(self) -> None:
        """Pull the plug: what the guest has not handed to its disks is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._forget()

    def last_words(self, lines: int = 25) -> str:
        """Return the end of the console."""
        if not self.console.exists():
            return ""
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-lines:])

    def power_on(self) -> None:
        """Give it power; it boots by itself.

        Raises:
            MachineError: it has power already, or QEMU does not start.
        """
        if self.on:
            raise MachineError("it has power already")
        if shutil.which("qemu-system-x86_64") is None:
            raise MachineError("qemu-system-x86_64 is missing: apt install qemu-system-x86")
        # Unix sockets have short names; the folder of a test may be deep.
        self._sockets = Path(tempfile.mkdtemp(prefix="civigate-vm-"))
        self.air_port, self.chip_port = _free_port(), _free_port()
        self._process = subprocess.Popen(
            self._command(self._sockets),
            stdin=subprocess.DEVNULL,
            stdout=(self._folder / "qemu.log").open("ab"),
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads are started yet that hold a lock
        )
        self.boots += 1
        deadline = time.monotonic() + 60
        while True:
            try:
                self._shell = Shell(self._sockets / "shell")
                self._qmp = Qmp(self._sockets / "qmp")
            except (OSError, QmpError) as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = (self._folder / "qemu.log").read_text(errors="replace")[-2000:]
                    self.cut()
                    raise MachineError(f"QEMU does not start: {said}") from error
                time.sleep(0.05)
            else:
                return

    def _command(self, sockets: Path) -> list[str]:
        ports = {self.air_port: AIR_PORT, self.chip_port: CHIP_PORT}
        forwarded = [f"hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in ports.items()]
        card = self._card
        # of two watchdogs the one that resets for certain; the chipset's own is fused off unless asked for
        kernel_says = (
            "root=LABEL=root rw console=ttyS0 panic=-1 quiet mitigations=off systemd.show_status=0 "
            "modprobe.blacklist=iTCO_wdt"
        )
        command = [
            *("qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"),
            *("-smp", str(self._processors), "-m", str(MEMORY_MB), "-display", "none", "-nodefaults"),
            *("-kernel", str(card.kernel), "-initrd", str(card.initrd), "-append", kernel_says),
            *("-drive", f"file={self._disk},format=raw,if=virtio,cache=writeback"),
            *("-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console"),
            *("-chardev", f"socket,id=shell,path={sockets / 'shell'},server=on,wait=off", "-serial", "chardev:shell"),
            *("-qmp", f"unix:{sockets / 'qmp'},server=on,wait=off"),
            *("-netdev", ",".join(("user,id=net,restrict=off", *forwarded))),
            *("-device", "virtio-net-pci,netdev=net,romfile="),
            *("-device", "qemu-xhci,id=usb"),
        ]
        if self._watchdog:
            command += ["-device", "i6300esb", "-action", "watchdog=reset"]
        for number, disk in enumerate(self._disks):
            command += _disk_options(disk, number)
        return command

    def _forget(self) -> None:
        for end in (self._shell, self._qmp):
            if end is not None:
                with suppress(OSError):
                    end.close()
        self._process, self._shell, self._qmp = None, None, None
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None


def _disk_options(disk: Disk, number: int) -> list[str]:
    node = f"disk{number}"
    options = ["-blockdev", f"driver=file,node-name={node}-file,filename={disk.path},discard=unmap"]
    read_only = ",read-only=on" if disk.read_only else ""
    options += ["-blockdev", f"driver=raw,node-name={node}-raw,file={node}-file{read_only}"]
    last = f"{node}-raw"
    if disk.log is not None:
        options += ["-blockdev", f"driver=file,node-name={node}-log,filename={disk.log}"]
        logged = f"driver=blklogwrites,node-name={node}-logged,file={last},log={node}-log,log-sector-size=512"
        options += ["-blockdev", logged]
        last = f"{node}-logged"
    return [*options, "-device", f"virtio-blk-pci,drive={last},write-cache=on"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
