# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A real broker, and a gateway's side of it."""

from __future__ import annotations

import queue
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from paho.mqtt import client as mqtt

from agent.mqttclient import Client
from tests.receiver.platform import LIMIT_S, Certificates, free_port, until

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin") or "mosquitto"


@dataclass
class Broker:
    """mosquitto with TLS and client certificates, started and stopped at will."""

    folder: Path
    certificates: Certificates
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it accepts."""
        conf = self.folder / "mosquitto.conf"
        conf.write_text(
            f"""
listener {self.port} 127.0.0.1
cafile {self.certificates.authority}
certfile {self.certificates.server.certificate}
keyfile {self.certificates.server.key}
require_certificate true
use_identity_as_username true
allow_anonymous false
persistence false
user root
"""
        )
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen([MOSQUITTO, "-c", str(conf), "-v"], stdout=log, stderr=log)
        until(self._accepts)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(LIMIT_S)
            self.process = None

    def log(self) -> str:
        """What it said."""
        return (self.folder / "mosquitto.log").read_text()

    def section(self, version: str = "5", group: str | None = None) -> str:
        """Return the [mqtt] section of a receiver that takes batches from it."""
        return f"""
[mqtt]
url = "mqtts://localhost:{self.port}"
version = "{version}"
ca_file = "{self.certificates.authority}"
cert_file = "{self.certificates.client.certificate}"
key_file = "{self.certificates.client.key}"
{f'shared_group = "{group}"' if group else ""}
"""

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


@contextmanager
def broker(folder: Path, certificates: Certificates) -> Iterator[Broker]:
    """Run a broker."""
    made = Broker(folder, certificates, free_port())
    made.start()
    try:
        yield made
    finally:
        made.stop()


@dataclass(frozen=True)
class Heard:
    """What came back."""

    payload: bytes
    retain: bool


class Mast:
    """The gateway's side: publishes batches, hears what comes back."""

    def __init__(self, at: Broker, eui: bytes) -> None:
        self.eui = eui
        self.heard: queue.Queue[Heard] = queue.Queue()
        self.client = Client("", clean_session=None, protocol=mqtt.MQTTv5)
        context = ssl.create_default_context(cafile=str(at.certificates.authority))
        context.load_cert_chain(at.certificates.client.certificate, at.certificates.client.key)
        self.client.tls_set_context(context)
        self.client.on_message = lambda _client, _userdata, message: self.heard.put(
            Heard(bytes(message.payload), message.retain)
        )
        self.client.on_connect = lambda *_: self._subscribe()
        self._subscribed: queue.Queue[int] = queue.Queue()
        self.client.on_subscribe = lambda *_: self._subscribed.put(1)
        self.client.connect("localhost", at.port)
        self.client.loop_start()
        self._subscribed.get(timeout=LIMIT_S)

    def _subscribe(self) -> None:
        self.client.subscribe(f"civigate/v1/{self.eui.hex()}/receipt", qos=1)

    def publish(self, wire: bytes, topic_eui: bytes | None = None) -> None:
        """Send a batch."""
        topic = f"civigate/v1/{(topic_eui or self.eui).hex()}/batch"
        self.client.publish(topic, wire, qos=1).wait_for_publish(LIMIT_S)

    def answer(self) -> Heard:
        """Wait for the next answer."""
        return self.heard.get(timeout=LIMIT_S)

    def close(self) -> None:
        """Leave."""
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def mast(at: Broker, eui: bytes) -> Iterator[Mast]:
    """Connect as a gateway."""
    made = Mast(at, eui)
    try:
        yield made
    finally:
        made.close()
