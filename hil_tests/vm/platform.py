# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The platform on this host: receiver and broker, as a town would run them, where the guest finds them.

The guest's network is QEMU's own: this host is 10.0.2.2 there, and services on its loopback can be reached.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from agent.demo.authority import Authority
from agent.demo.relay import Relay
from hil_tests.vm.machine import HOST

EUI = "0016c001ff123456"
"""Of the emulated concentrator."""
START_LIMIT_S = 120.0
_LYING = (sys.executable, "-m", "hil_tests.bench.lying_receiver")
_RECEIVER = (sys.executable, "-m", "receiver.cli.main")


class Platform:
    """Receiver, with enrolment, and where batches travel by MQTT a broker in front of it.

    Args:
        folder: for keys, ledger and logs.
        mqtt: whether gateways bring batches to the broker.
        authority: that certifies it; None for one of its own.
        through_relay: whether gateways come through a relay that can be cut; such a platform can also be told to lie.
    """

    def __init__(
        self, folder: Path, *, mqtt: bool, authority: Authority | None = None, through_relay: bool = False
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._mqtt = mqtt
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.port, self.enrolment_port = _free_port(), _free_port()
        self._relay: Relay | None = Relay(self.port) if through_relay else None
        self.lies = folder / "lies"
        self.config = folder / "receiver.toml"
        self.ledger = folder / "data" / "ledger.db"
        self.receipt_key = ""
        self._host = HOST if authority is None else "localhost"
        self._authority = Authority(folder) if authority is None else authority

    def __enter__(self) -> Platform:
        self.set_up()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._relay is not None:
            self._relay.cut()

    @property
    def url(self) -> str:
        """Where the guest brings its batches."""
        port = self.port if self._relay is None else self._relay.port
        return f"{'mqtts' if self._mqtt else 'https'}://{self._host}:{port}"

    @property
    def enrolment_url(self) -> str:
        """Where the guest enrols."""
        return f"https://{HOST}:{self.enrolment_port}"

    @property
    def authority_pem(self) -> str:
        """What certifies the platform."""
        return self._authority.certificate.read_text()

    @property
    def relay(self) -> Relay:
        """What gateways come through."""
        assert self._relay is not None, "it was not asked for"
        return self._relay

    def set_up(self) -> None:
        """Make keys and authorities, and start."""
        if not self.config.exists():
            self._configure()
            self.receipt_key = str(self.ask("identity", "create", "--json")["public_key"])
            self.call("ca", "create", "--name", "bench")
        if self._mqtt:
            self._configure_broker()
        self.start()

    def copy_ledger(self, target: Path) -> Path:
        """Copy the ledger as it is at this moment, whatever is being written."""
        with (
            closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=60)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
        return target

    def twin(self, folder: Path, ledger: Path) -> Platform:
        """Return a platform with the same keys that has a ledger of its own, to begin with this one; not started."""
        data = folder / "data"
        shutil.copytree(self._data, data, ignore=shutil.ignore_patterns("ledger.db*", "*.sock", "*.lock"))
        shutil.copyfile(ledger, data / "ledger.db")
        twin = Platform(folder, mqtt=self._mqtt, authority=self._authority)
        twin.receipt_key = self.receipt_key
        twin._configure()
        return twin

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _configure(self) -> None:
        data, server = self._data, self._authority.server("platform", HOST)
        text = f'[receiver]\ndata_dir = "{data}"\n[identity]\nkey_file = "{data}/receipt.key"\n'
        if self._mqtt:
            client = self._authority.client("receiver")
            text += f'[mqtt]\nurl = "mqtts://localhost:{self.port}"\nca_file = "{self._authority.certificate}"\n'
            text += f'cert_file = "{client.certificate}"\nkey_file = "{client.key}"\n'
        else:
            text += f'[https]\nlisten = "127.0.0.1"\nport = {self.port}\ncertificate = "{server.certificate}"\n'
            text += f'key = "{server.key}"\nclient_ca = "{data}/ca/ca.pem"\n'
        text += (
            f'[enrolment]\nlisten = "127.0.0.1"\nport = {self.enrolment_port}\ncertificate = "{server.certificate}"\n'
        )
        text += f'key = "{server.key}"\nplatform_ca = "{self._authority.certificate}"\nurl = "{self.url}"\n'
        text += 'name = "city"\n[enrolment.filter]\ndev_addr = ["26000000/7", "48000000/7"]\n'
        self.config.write_text(text)

    def _configure_broker(self) -> None:
        server = self._authority.server("platform", HOST)
        both = self._folder / "both.pem"
        both.write_text(self.authority_pem + (self._data / "ca" / "ca.pem").read_text())
        user = "user root\n" if os.getuid() == 0 else ""
        (self._folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\ncafile {both}\ncertfile {server.certificate}\nkeyfile {server.key}\n"
            f"require_certificate true\nuse_identity_as_username true\nallow_anonymous false\n"
            f"max_queued_messages 0\n{user}"
        )

    def start(self) -> None:
        """Start what is not running.

        Raises:
            AssertionError: it does not come up.
        """
        if self._mqtt and "broker" not in self._running:
            self._start("broker", "mosquitto", "-c", str(self._folder / "mosquitto.conf"), port=self.port)
        if "receiver" not in self._running:
            command = _RECEIVER if self._relay is None else (*_LYING, str(self.lies))
            self._start("receiver", *command, "serve", "-c", str(self.config), port=self.enrolment_port)

    def stop(self) -> None:
        """Stop all; a gateway then finds nobody."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def invite(self) -> tuple[str, str]:
        """Return a claim code for any gateway, and the fingerprint of who it is to be told to."""
        said = self.ask("gateways", "invite", "--json")
        return str(said["claims"][0]), str(said["fingerprint"])

    def add(self, key: str) -> None:
        """Register the gateway with its signing key."""
        self.call("gateways", "add", EUI, "--key", key, "--name", "bench")

    def call(self, *words: str) -> str:
        """Run a command of the receiver.

        Raises:
            AssertionError: it fails.
        """
        command = [*_RECEIVER, *words, "-c", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_LIMIT_S, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def ask(self, *words: str) -> Any:
        """Run a command that answers in JSON."""
        return json.loads(self.call(*words))

    def delivered(self) -> Counter[bytes]:
        """Return how often each PHYPayload stands in the ledger."""
        if not self.ledger.exists():
            return Counter()
        with sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=60) as ledger:
            return Counter(bytes(payload) for (payload,) in ledger.execute("SELECT phy_payload FROM frame"))

    def wait_for(self, condition: Callable[[Counter[bytes]], bool], what: str, limit_s: float) -> Counter[bytes]:
        """Wait until what was delivered fits.

        Raises:
            AssertionError: it does not in time.
        """
        deadline = time.monotonic() + limit_s
        while not condition(there := self.delivered()):
            assert time.monotonic() < deadline, f"waited {limit_s:g} s for {what}; delivered: {len(there)}"
            time.sleep(0.3)
        return there

    def log(self, name: str = "receiver") -> str:
        """Return what a program has said."""
        path = self._folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _start(self, name: str, *command: str, port: int) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._running[name] = process
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            assert process.poll() is None, f"{name} has ended: {self.log(name)[-2000:]}"
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
            except OSError:
                assert time.monotonic() < deadline, f"{name} does not listen: {self.log(name)[-2000:]}"
                time.sleep(0.1)
            else:
                return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
