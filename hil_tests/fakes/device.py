# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A serial device on a pseudo-terminal, with a thread that lives in it, and a plug that can be pulled."""

from __future__ import annotations

import os
import select
import threading
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from drivers.emulator.terminal import Terminal
from hil_tests.bench.roles import NodeReception, RadioSettings, TxReport

TICK_S = 0.005


class Air(Protocol):
    """Where a fake node sends and hears; `virtual.VirtualNode` is one."""

    def configure(self, settings: RadioSettings) -> None:
        """Set frequency, data rate and power."""

    def transmit(self, payload: bytes) -> TxReport:
        """Send."""

    def listen(self) -> None:
        """Listen from now on."""

    def heard(self, within_s: float) -> NodeReception | None:
        """Return the next packet."""


class FakeDevice:
    """Something on a serial port.

    Args:
        link: path under which programs find it.
    """

    def __init__(self, link: Path) -> None:
        self.link = link
        self._stopping = threading.Event()
        self._pulling = threading.Lock()
        self._terminal: Terminal | None = Terminal(link)
        self._thread = threading.Thread(target=self._live, name=f"fake-{link.name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unplug()

    def unplug(self) -> None:
        """Pull the plug: the port vanishes; twice is harmless."""
        self._stopping.set()
        self._thread.join()
        with self._pulling:
            if self._terminal is not None:
                self._terminal.close()
                self._terminal = None

    def came(self, data: bytes) -> None:
        """Take bytes that the program wrote."""
        raise NotImplementedError

    def idle(self) -> None:
        """Do what it does by itself, every few milliseconds."""

    def put(self, data: bytes) -> None:
        """Write bytes for the program to read."""
        assert self._terminal is not None
        self._terminal.write_all(data)

    def wait(self, seconds: float) -> None:
        """Let time go by in the device; ends early when its plug is pulled."""
        self._stopping.wait(seconds)

    def _live(self) -> None:
        assert self._terminal is not None
        while not self._stopping.is_set():
            if select.select([self._terminal.master], [], [], TICK_S)[0]:
                try:
                    self.came(os.read(self._terminal.master, 4096))
                except OSError:
                    self._stopping.wait(TICK_S)  # nobody has it open
            self.idle()


class FakeModule(FakeDevice):
    """A device that takes commands, one a line."""

    def __init__(self, link: Path) -> None:
        super().__init__(link)
        self._line = b""
        self.commands: list[str] = []
        """Everything that it was told."""

    def came(self, data: bytes) -> None:
        """Gather lines; a line ends with CR, LF or both."""
        *lines, self._line = (self._line + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            if line.strip():
                command = line.decode("ascii", errors="replace").strip()
                self.commands.append(command)
                self.carry_out(command)

    def carry_out(self, command: str) -> None:
        """Do what a line says."""
        raise NotImplementedError

    def say(self, *lines: str) -> None:
        """Write lines."""
        self.put("".join(f"{line}\r\n" for line in lines).encode())
