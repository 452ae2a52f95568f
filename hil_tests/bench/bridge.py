# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The concentrator of another machine, frame by frame through a command there (SSH), as if it were in this one.

A round trip is that of the network: too slow to receive at full load, and plenty for tests of the chip one packet at a
time. The drivers on this side are those that are tested; on the other side only the bus is opened.
"""

from __future__ import annotations

import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

from agent.clock import HostClock
from drivers.boards import Board
from drivers.bus import OutputLine, SpiBus
from drivers.emulator.firmware import synthetic_agc, synthetic_arb
from drivers.errors import BusError
from drivers.plans import ChannelPlan
from drivers.sx1302.concentrator import Concentrator
from drivers.sx1302.emulated import is_emulated
from drivers.sx1302.firmware import Firmware, load_from, recognise
from drivers.sx1302.ledger import AirtimeLedger
from drivers.sx1302.spi import AddressSpace
from hil_tests.bench import bridge_server
from hil_tests.bench.bridge_server import CELSIUS, HEAD, POWER, RESET, TRANSFER, pack, unpack
from hil_tests.bench.roles import BenchError
from hil_tests.bench.trace import Trace

SOURCE: Final = Path(bridge_server.__file__).read_text(encoding="utf-8")


class Bridge:
    """One connection.

    Args:
        command: runs Python on the gateway with the source and the path of gateway.toml behind it.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )

    def ask(self, operation: int, body: bytes = b"") -> bytes:
        """Send one message and return its answer.

        Raises:
            BusError: the gateway says that it failed.
            BenchError: the connection is gone.
        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with self._lock:
            try:
                process.stdin.write(HEAD.pack(operation, len(body)) + body)
                status, size = HEAD.unpack(_exactly(process.stdout, HEAD.size))
                answer = _exactly(process.stdout, size)
            except (OSError, ValueError, EOFError) as error:
                raise BenchError(f"the bridge is gone: {self._last_words()}", role="spi", hint="see dut") from error
        if status:
            hint = "look at the gateway itself: civigate doctor"
            raise BusError(answer.decode(errors="replace"), op="transfer", where="bridge", hint=hint, code="CG-HIL-002")
        return answer

    def close(self) -> None:
        """End it; twice is harmless."""
        process = self._process
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        process.terminate()
        process.wait()

    def _last_words(self) -> str:
        self._process.kill()
        assert self._process.stderr is not None
        said = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        return said[-1] if said else "it said nothing"


class BridgedBus:
    """The bus at the other end."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def transfer(self, frame: bytes) -> bytes:
        """Exchange one frame."""
        return self.transfer_all([frame])[0]

    def transfer_all(self, frames: Sequence[bytes]) -> list[bytes]:
        """Exchange several frames in one round trip."""
        return unpack(self._bridge.ask(TRANSFER, pack(list(frames))))

    def close(self) -> None:
        """Leave the bridge to others."""


class BridgedLine:
    """A line at the other end."""

    def __init__(self, bridge: Bridge, which: int) -> None:
        self._bridge = bridge
        self._which = which

    def set(self, *, active: bool) -> None:
        """Drive it."""
        self._bridge.ask(self._which, b"\x01" if active else b"\x00")

    def close(self) -> None:
        """Leave the bridge to others."""


class BridgedDoor:
    """The way to the chip of a gateway somewhere else.

    Args:
        connect: makes the bridge; it is made when it is first needed, and again when it is gone.
        board: of the gateway.
        plan: the same.
        firmware_dirs: with the images, on this machine; an emulated chip does without.
    """

    def __init__(
        self, connect: Callable[[], Bridge], board: Board, plan: ChannelPlan, firmware_dirs: Sequence[Path]
    ) -> None:
        self._connect = connect
        self._bridge: Bridge | None = None
        self._trace = Trace()
        self._firmware_dirs = tuple(firmware_dirs)
        self.board = board
        self.plan = plan

    def open_bus(self) -> SpiBus:
        """Open its bus."""
        return self._trace.of(BridgedBus(self._there()))

    def open_reset(self) -> OutputLine | None:
        """Open its reset line."""
        return self._line(RESET)

    def thermometer(self) -> Callable[[], float] | None:
        """Return what reads its sensor."""
        bridge = self._there()
        try:
            has_one = len(bridge.ask(CELSIUS)) == 8
        except BusError:
            return None
        return (lambda: float(struct.unpack(">d", bridge.ask(CELSIUS))[0])) if has_one else None

    def open_concentrator(self, temperature: Callable[[], float] | None = None) -> Concentrator:
        """Open all of it with the drivers of this side."""
        clock, bus = HostClock(), self.open_bus()
        return Concentrator(
            bus,
            self._line(RESET),
            self._line(POWER),
            board=self.board,
            plan=self.plan,
            firmware=self._firmware(bus),
            clock=clock,
            temperature=temperature or self.thermometer(),
            # the bench has a load at its end: what a run sends has not gone on the air for an hour
            airtime=AirtimeLedger.unused(self.plan.transmit, clock.monotonic_ns()),
        )

    def evidence(self, folder: Path) -> None:
        """Write the SPI trace."""
        self._trace.write(folder / "spi-trace.txt")

    def release(self) -> None:
        """Let the chip go: the agent needs it now."""
        if self._bridge is not None:
            self._bridge.close()
            self._bridge = None

    def _firmware(self, bus: SpiBus) -> Firmware:
        if is_emulated(AddressSpace(bus)):
            return _synthetic()
        if not self._firmware_dirs:
            hint = "name a folder with agc.bin and arb.bin: [spi] firmware_dir"
            raise BenchError("has no firmware for a real chip", role="spi", hint=hint)
        return load_from(self._firmware_dirs)

    def _there(self) -> Bridge:
        if self._bridge is None:
            self._bridge = self._connect()
        return self._bridge

    def _line(self, which: int) -> OutputLine | None:
        bridge = self._there()
        return BridgedLine(bridge, which) if bridge.ask(which) == b"\x01" else None


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = stream.read(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _synthetic() -> Firmware:
    agc, arb = synthetic_agc(), synthetic_arb()
    agc_id, arb_id = recognise(agc), recognise(arb)
    assert agc_id is not None
    assert arb_id is not None
    return Firmware(agc, arb, agc_id, arb_id)
