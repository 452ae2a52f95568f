# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A gateway to look at: an emulated concentrator here, the real agent as a process, a platform that is not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent.batch.keys import Ed25519Signer
from agent.cli.running import newest
from agent.demo.stage import free_port
from agent.report import Report
from drivers.emulator import AirPacket, Emulator
from drivers.emulator.remote import Server
from drivers.sx1302.packet import CrcStatus

LIMIT_S = 90.0
EUI = "0016c00100c1f16a"
OWN, FOREIGN = 0x26011BDA, 0x01020304
CHANNELS_HZ = (868_100_000, 868_300_000, 868_500_000, 867_100_000, 867_300_000, 867_500_000)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {LIMIT_S} s for {what}"
        time.sleep(0.02)


def uplink(dev_addr: int, f_cnt: int = 1, text: bytes = b"data") -> bytes:
    """Return an unconfirmed uplink."""
    return b"\x40" + dev_addr.to_bytes(4, "little") + b"\x00" + f_cnt.to_bytes(2, "little") + b"\x01" + text + b"mic!"


class Gateway:
    """The agent and its concentrator.

    Args:
        folder: empty.
        more: of gateway.toml, in front of the destination.
    """

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder = folder
        self.run = folder / "run"
        self.emulator = Emulator(eui=bytes.fromhex(EUI))
        self._server = Server(self.emulator, folder / "spi.sock", folder / "control.sock")
        self.config = folder / "gateway.toml"
        self.log = folder / "agent.log"
        self.config.write_text(
            f"""\
[gateway]
name = "town hall"
state_dir = "{folder}/state"
runtime_dir = "{self.run}"

[concentrator]
bus = "emulator:{folder}/spi.sock"
board = "semtech_corecell_eu868"

[spool]
commit_window_s = 0.2

{more}

[[destination]]
name = "city"
url = "https://127.0.0.1:{free_port()}"
receipt_key = "{Ed25519Signer.generate().public.text}"

[destination.filter]
dev_addr = ["26000000/8"]
"""
        )
        self._agent: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._server.close()

    @property
    def pid(self) -> int:
        """Of the agent."""
        assert self._agent is not None
        return self._agent.pid

    def start(self) -> None:
        """Start the agent, and wait until it receives and says so."""
        with self.log.open("ab") as log:
            self._agent = subprocess.Popen(
                [sys.executable, "-m", "agent.cli.main", "run", "-c", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"},
            )
        until(self._receives, "the agent to receive")

    def _receives(self) -> bool:
        assert self._agent is not None
        assert self._agent.poll() is None, self.log.read_text()
        report = self.report()
        return report is not None and (report.said["radio"] or {}).get("state") == "receiving"

    def report(self) -> Report | None:
        """Return the newest report in runtime_dir."""
        return newest(self.run)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the agent."""
        if self._agent is not None and self._agent.poll() is None:
            self._agent.send_signal(number)
            self._agent.wait(LIMIT_S)

    def hear(
        self,
        dev_addr: int,
        f_cnt: int = 1,
        *,
        sf: int = 7,
        channel: int = 0,
        rssi_dbm: float = -97.0,
        snr_db: float = 6.5,
        crc: CrcStatus = CrcStatus.OK,
    ) -> None:
        """Let the antenna hear a frame."""
        self.emulator.inject(
            AirPacket(
                freq_hz=CHANNELS_HZ[channel],
                payload=uplink(dev_addr, f_cnt),
                sf=sf,
                rssi_dbm=rssi_dbm,
                snr_db=snr_db,
                crc=crc,
            )
        )

    def civigate(self, *arguments: str | Path, timeout_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "agent.cli.main", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def logged(self) -> list[dict[str, Any]]:
        """Return the log, if it is JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]
