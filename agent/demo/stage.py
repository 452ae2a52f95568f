# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The cast of the demonstration: each program as a process of its own, started as its users start it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent.demo.air import Control
from agent.demo.authority import Authority
from agent.demo.configuration import (
    Folders,
    broker_conf,
    gateway_toml,
    https_receiver_toml,
    mqtt_receiver_toml,
)
from agent.demo.relay import Relay
from agent.errors import AgentError

READY_LIMIT_S = 30.0
STOP_LIMIT_S = 30.0
SOCKET_PATH_BYTES = 108
"""Room for the path of a Unix socket, with the zero behind it [unix(7)]."""
GATEWAY_EUI = "0016c00100c1f16a"
CIVIGATE = (sys.executable, "-m", "agent.cli.main")
RECEIVER = (sys.executable, "-m", "receiver.cli.main")


class Stage:
    """Everything the demonstration needs, in one folder, stopped together.

    Args:
        folder: empty; holds configuration, keys, spool, ledger and one log per program.
        mqtt: let batches travel over mosquitto instead of HTTPS.
        address: of this machine, where the gateway finds the platform.
        host: by which name it does, where it shall not be the address.
    """

    def __init__(self, folder: Path, *, mqtt: bool, address: str = "127.0.0.1", host: str | None = None) -> None:
        self._address = address
        self._name = host or "localhost"
        self._host = host or address
        self._folders = Folders(folder)
        self._mqtt = mqtt
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._relay: Relay | None = None
        self._sockets = _folder_for_sockets(folder)
        self.control_socket = self._sockets / "control.sock"
        self.spool = self._folders.gateway / "spool.db"
        self.ledger = self._folders.receiver / "ledger.db"
        self.gateway_toml = folder / "gateway.toml"
        self.receiver_toml = folder / "receiver.toml"
        self.runtime_dir = self._folders.run
        self.broker_conf = folder / "mosquitto.conf"
        self._port = 0
        """Of the receiver, or of the broker in front of it."""
        self._resets = 0
        """Of the chip, before the present agent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def relay(self) -> Relay:
        """The backhaul; there once the stage is set."""
        assert self._relay is not None
        return self._relay

    def set(self) -> None:
        """Write the configuration, introduce gateway and platform to each other, start everything but the agent."""
        authority = Authority(self._folders.root)
        self._port = free_port()
        server, client = authority.server("platform", self._address, self._name), authority.client(GATEWAY_EUI)
        port, spi_socket = self._port, self._sockets / "spi.sock"
        if self._mqtt:
            receiver_toml = mqtt_receiver_toml(
                self._folders, broker_port=port, authority=authority, client=authority.client("receiver")
            )
            # as root, mosquitto would become its own user, which cannot read our keys
            user = "user root\n" if os.getuid() == 0 else ""
            self.broker_conf.write_text(broker_conf(port=port, authority=authority, server=server) + user)
            self._start_broker()
        else:
            receiver_toml = https_receiver_toml(self._folders, port=port, authority=authority, server=server)
        self.receiver_toml.write_text(receiver_toml)
        platform = self._ask(*RECEIVER, "identity", "create", "-c", str(self.receiver_toml), "--json")

        self._start(
            "emulator",
            *(*CIVIGATE, "emulate", "--spi-socket", str(spi_socket), "--control", str(self.control_socket)),
            *("--eui", GATEWAY_EUI),
            until=lambda: b"ready" in self.log_of("emulator").read_bytes(),
        )
        self._relay = Relay(port, self._address)
        url = f"{'mqtts' if self._mqtt else 'https'}://{self._host}:{self._relay.port}"
        self.gateway_toml.write_text(
            gateway_toml(
                self._folders,
                spi_socket=spi_socket,
                url=url,
                authority=authority,
                client=client,
                key=platform["public_key"],
            )
        )
        gateway = self._ask(*CIVIGATE, "identity", "create", "-c", str(self.gateway_toml), "--json")
        self._ask(
            *(*RECEIVER, "gateways", "add", GATEWAY_EUI, "--key", gateway["public_key"], "--name", "town hall"),
            *("-c", str(self.receiver_toml), "--json"),
        )
        self._start_receiver()

    def start_agent(self) -> None:
        """Start the agent; does not wait for it."""
        self._start("agent", *CIVIGATE, "run", "-c", str(self.gateway_toml))

    def kill_agent(self) -> None:
        """SIGKILL the agent, wherever it is, and start it again as a service manager would."""
        self.cut_power()
        self.start_agent()

    def cut_power(self) -> None:
        """SIGKILL the agent and leave it so."""
        self._kill("agent")
        self._resets = self._chip()["resets"]

    def agent_listens(self) -> bool:
        """Say whether the present agent has brought up the chip; one that was killed leaves it receiving."""
        stats = self._chip()
        return bool(stats["running"]) and stats["resets"] > self._resets

    def kill_receiver(self) -> None:
        """SIGKILL the receiver, wherever it is, and start it again."""
        self._kill("receiver")
        self._start_receiver()

    def kill_broker(self) -> None:
        """SIGKILL the broker, which forgets everything, and start it again."""
        self._kill("broker")
        self._start_broker()

    def take_away(self, name: str) -> None:
        """SIGKILL the receiver or the broker and leave it so."""
        self._kill(name)
        del self._running[name]

    def bring_back(self, name: str) -> None:
        """Start the receiver or the broker again."""
        if name == "receiver":
            self._start_receiver()
        else:
            self._start_broker()

    def stop_agent(self) -> None:
        """Ask the agent to end (SIGTERM): it seals and delivers what it has."""
        self._stop("agent")

    def check(self) -> None:
        """Make sure that every program still runs.

        Raises:
            AgentError: one has ended; its last words are in the error.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                raise self._failed(name)

    def pid(self, name: str) -> int:
        """Return the process of "agent", "receiver", "broker" or "emulator" as it is now."""
        return self._running[name].pid

    def agent_peak_mb(self) -> float:
        """Return the most memory that the present agent has held, MB resident [proc(5), VmHWM]."""
        status = Path(f"/proc/{self._running['agent'].pid}/status").read_text()
        (peak_kb,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(peak_kb) / 1000

    def receiver_status(self) -> dict[str, Any]:
        """Return the receiver's own report on its streams (chain, sums)."""
        return self._ask(*RECEIVER, "status", "-c", str(self.receiver_toml), "--json")

    def close(self) -> None:
        """Stop everything, the agent first."""
        for name in ("agent", "receiver", "broker", "emulator"):
            if name in self._running:
                self._stop(name)
        if self._relay is not None:
            self._relay.cut()
        if self._sockets != self._folders.root:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def log_of(self, name: str) -> Path:
        """Return the file that holds what a program said."""
        return self._folders.root / f"{name}.log"

    def _start(self, name: str, *command: str, until: Callable[[], bool] = lambda: True) -> None:
        with self.log_of(name).open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._running[name] = process
        deadline = time.monotonic() + READY_LIMIT_S
        while not until():
            if process.poll() is not None or time.monotonic() > deadline:
                raise self._failed(name)
            time.sleep(0.02)

    def _chip(self) -> dict[str, Any]:
        with closing(Control(self.control_socket)) as control:
            return control.ask({"cmd": "stats"})

    def _kill(self, name: str) -> None:
        self._running[name].kill()
        self._running[name].wait()

    def _start_receiver(self) -> None:
        said = self.log_of("receiver").stat().st_size if self.log_of("receiver").exists() else 0
        self._start(
            "receiver",
            *(*RECEIVER, "serve", "-c", str(self.receiver_toml)),
            until=lambda: b"ready" in self.log_of("receiver").read_bytes()[said:],
        )

    def _start_broker(self) -> None:
        broker = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if broker is None:
            hint = "apt install mosquitto, or leave --mqtt away"
            raise AgentError("not installed", where="mosquitto", hint=hint, code="CG-DEMO-002")
        self._start("broker", broker, "-c", str(self.broker_conf), until=lambda: _accepts(self._port))

    def _stop(self, name: str) -> None:
        process = self._running[name]
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @staticmethod
    def _ask(*command: str) -> dict[str, Any]:
        """Run a command that answers with JSON."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=READY_LIMIT_S, check=False)
        if done.returncode != 0:
            raise AgentError(
                done.stderr.strip() or f"exit code {done.returncode}",
                where=" ".join(command[2:5]),
                hint="this is a fault of the demonstration, please report it",
                code="CG-DEMO-003",
            )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def _failed(self, name: str) -> AgentError:
        lines = self.log_of(name).read_text(errors="replace").strip().splitlines()
        return AgentError(
            lines[-1] if lines else f"not ready within {READY_LIMIT_S:.0f} s",
            where=name,
            hint=f"see {self.log_of(name)} (--keep keeps it)",
            code="CG-DEMO-004",
        )


def _folder_for_sockets(folder: Path) -> Path:
    """Return the folder itself where its path is short enough for a socket address, otherwise a new one that is."""
    if len(os.fsencode(folder / "control.sock")) < SOCKET_PATH_BYTES:
        return folder
    return Path(tempfile.mkdtemp(prefix="civigate-", dir="/tmp"))


def free_port() -> int:
    """Return a TCP port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
