# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A gateway to be looked at: an emulated concentrator, a configuration, a key; and the command as its users give it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from agent import report
from agent.batch import keyfile
from agent.batch.model import Anchor, TimeSource
from agent.cli.main import main
from agent.clock import HostClock
from drivers.emulator import Emulator
from drivers.emulator.remote import Server

RECEIPT_KEY = "civigate-key:ed25519:O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik"
FILTER = '[destination.filter]\ndev_addr = ["26011bda"]\njoin_eui = ["70b3d57ed0000001"]'


@dataclass(frozen=True)
class Look:
    """What one run of the doctor said."""

    code: int
    said: Mapping[str, Any]

    def all(self, check: str) -> list[Mapping[str, Any]]:
        return [finding for finding in self.said["findings"] if finding["check"] == check]

    def one(self, check: str) -> Mapping[str, Any]:
        (finding,) = self.all(check)
        return finding

    def bad(self) -> dict[str, str]:
        """Return the codes of warnings and failures by check."""
        return {f["check"]: f["code"] for f in self.said["findings"] if f["verdict"] in {"warn", "fail"}}


@dataclass
class Scene(AbstractContextManager["Scene"]):
    """An emulated concentrator on a socket, and a gateway.toml for it."""

    folder: Path
    emulator: Emulator | None = None
    tables: dict[str, str] = field(default_factory=dict)
    destination: str = ""
    _server: Server | None = None

    def __enter__(self) -> Self:
        for name in ("state", "run"):
            (self.folder / name).mkdir(exist_ok=True)
        keyfile.load_or_create(self.folder / "state/gateway.key")
        if self.emulator is not None:
            self._server = Server(self.emulator, self.spi, self.folder / "control.sock")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()

    @property
    def spi(self) -> Path:
        return self.folder / "spi.sock"

    @property
    def toml(self) -> Path:
        return self.folder / "gateway.toml"

    def write(self) -> Path:
        """Write gateway.toml anew."""
        concentrator = f'bus = "emulator:{self.spi}"\nboard = "semtech_corecell_eu868"'
        tables = {
            "gateway": f'name = "mast 7"\nstate_dir = "{self.folder}/state"\nruntime_dir = "{self.folder}/run"',
            "concentrator": concentrator,
            **self.tables,
        }
        text = "\n".join(f"[{name}]\n{lines}\n" for name, lines in tables.items())
        self.toml.write_text(f"{text}\n{self.destination}\n")
        return self.toml

    def look(self, capsys: pytest.CaptureFixture[str], *options: str) -> Look:
        """Run the command."""
        capsys.readouterr()
        code = main(["doctor", "-c", str(self.write()), "--json", *options])
        return Look(code, json.loads(capsys.readouterr().out))

    def says(self, **parts: object) -> None:
        """Let the running agent, which is this process, say something of itself."""
        clock = HostClock()
        base: dict[str, object] = {
            "version": report.VERSION,
            "pid": 1,
            "boot_id": clock.boot_id,
            "boottime_us": clock.boottime_us(),
            "uptime_s": 86_400,
            "gateway": {"name": "mast 7", "eui": "0016c001ff123456"},
            "spool": {"state": "ok", "detail": "", "sealing": "", "slow_commits": 0, "room_bytes": 10**9},
            "radio": None,
            "gnss": None,
            "destinations": [],
            "outlook": {},
        }
        report.write(self.folder / "run", base | parts)


def destination(url: str, *more: str, name: str = "city", key: str = RECEIPT_KEY, rules: str = FILTER) -> str:
    """Return a [[destination]]."""
    lines = [f'name = "{name}"', f'url = "{url}"', f'receipt_key = "{key}"', *more]
    return "[[destination]]\n" + "\n".join(lines) + f"\n{rules}\n"


def synchronised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the host's clock be one that a time server has set: that of a test machine may not be."""

    def anchor(clock: HostClock) -> Anchor:
        return Anchor(clock.boot_id, clock.boottime_us(), 0, 2000, TimeSource.KERNEL)

    monkeypatch.setattr(HostClock, "anchor", anchor)
