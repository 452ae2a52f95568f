# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The platform of a rig: the real receiver on this machine, behind a relay that can be cut.

It is set up once, as any receiver is (docs/hil.md), and the gateway under test is registered there; its gateway.toml
names the relay's port.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.demo.relay import Relay
from hil_tests.bench.roles import LIES, BenchError, PlatformFrame

READY_S: Final = 60.0
STOP_S: Final = 30.0
MAX_SAID: Final = 200_000


@dataclass(frozen=True, slots=True)
class Address:
    """Where the receiver is, and where the gateway looks for it.

    Attributes:
        receiver_toml: its configuration; its HTTPS listener must be on 127.0.0.1.
        port: of that listener.
        listen: address of this machine that the gateway knows.
        listen_port: the port that it knows.
    """

    receiver_toml: Path
    port: int
    listen: str
    listen_port: int


class BenchReceiver:
    """The running receiver; opened by `receiver`."""

    def __init__(self, address: Address, ledger: Path, relay: Relay, folder: Path) -> None:
        self._address = address
        self._ledger = ledger
        self._relay = relay
        self._lies = folder / "lies"
        self._log = folder / "receiver.log"

    def frames(self) -> Sequence[PlatformFrame]:
        """Read its ledger."""
        with closing(sqlite3.connect(f"file:{self._ledger}?mode=ro", uri=True, timeout=30)) as ledger:
            rows = ledger.execute(
                "SELECT seq, phy_payload, counter_us, utc_us, utc_error_us FROM reception ORDER BY seq"
            ).fetchall()
        return [PlatformFrame(seq, bytes.fromhex(phy), counter, utc, error) for seq, phy, counter, utc, error in rows]

    def verifies(self) -> bool:
        """Ask the receiver."""
        words = [sys.executable, "-m", "receiver.cli.main", "status", "-c", str(self._address.receiver_toml), "--json"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=READY_S, check=False)
        try:
            return bool(json.loads(done.stdout)["ok"])
        except (ValueError, LookupError) as error:
            raise BenchError(f"{done.stderr.strip()}", role="platform", hint="look at the receiver") from error

    def cut(self) -> None:
        """Cut the relay."""
        self._relay.cut()

    def restore(self) -> None:
        """Restore the relay."""
        if not self._relay.open:
            self._relay.restore()

    def lie(self, how: str) -> None:
        """Tell the receiver how to answer."""
        assert how in {*LIES, ""}
        draft = self._lies.with_suffix(".new")
        draft.write_text(how)
        draft.replace(self._lies)

    def lies_told(self) -> int:
        """Return how often it lied."""
        told = self._lies.with_suffix(".told")
        try:
            return int(told.read_text())
        except (OSError, ValueError):
            return 0

    def evidence(self, folder: Path) -> None:
        """Write what it said."""
        (folder / "receiver.txt").write_text(self._log.read_text(errors="replace")[-MAX_SAID:])


@contextmanager
def receiver(address: Address, folder: Path) -> Iterator[BenchReceiver]:
    """Run it, and the relay in front of it.

    Raises:
        BenchError: it does not come up.
    """
    from receiver.config import load  # noqa: PLC0415 - needs the receiver's own packages

    ledger = load(address.receiver_toml).receiver.data_dir / "ledger.db"
    log = folder / "receiver.log"
    words = [sys.executable, "-m", "hil_tests.bench.lying_receiver", str(folder / "lies"), "serve"]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*words, "-c", str(address.receiver_toml)], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        )
    relay: Relay | None = None
    try:
        deadline = time.monotonic() + READY_S
        while b"ready" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace").strip().splitlines()
                raise BenchError(
                    said[-1] if said else "not ready", role="platform", hint=f"see {address.receiver_toml}"
                )
            time.sleep(0.05)
        relay = Relay(address.port, address.listen)
        # the gateway knows a fixed port, not the one that was free
        relay.cut()
        relay.port = address.listen_port
        relay.restore()
        yield BenchReceiver(address, ledger, relay, folder)
    finally:
        if relay is not None:
            relay.cut()
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
