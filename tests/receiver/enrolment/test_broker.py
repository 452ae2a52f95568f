# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""mosquitto with our authority: who is enrolled comes in under its own name, who is revoked does not."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess
import threading
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paho.mqtt import client as mqtt

from agent.enrolment import certificate
from agent.mqttclient import Client
from tests.receiver.enrolment.town import Asking, Town, town
from tests.receiver.gateway import EUI
from tests.receiver.platform import LIMIT_S, Certificates, free_port, until

OTHER_TOPIC = "civigate/v1/0016c001ff10ffff/batch"


def broker(folder: Path, here: Town, port: int) -> subprocess.Popen[bytes]:
    """Start mosquitto as docs/enrolment.md says."""
    ca, server = here.platform.data_dir / "ca", here.platform.certificates.server
    (folder / "acl").write_text("pattern readwrite civigate/v1/%u/#\n")
    (folder / "mosquitto.conf").write_text(
        f"""listener {port} 127.0.0.1
cafile {ca}/ca.pem
crlfile {ca}/crl.pem
certfile {server.certificate}
keyfile {server.key}
require_certificate true
use_identity_as_username true
acl_file {folder}/acl
user root
"""
    )
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    assert program is not None, "mosquitto is not installed (make setup does it)"
    log = (folder / "mosquitto.log").open("ab")
    with log:
        started = subprocess.Popen([program, "-c", str(folder / "mosquitto.conf")], stdout=log, stderr=log)
    until(lambda: _accepts(port))
    return started


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def comes_in(folder: Path, here: Town, port: int) -> bool:
    """Tell whether the broker lets the gateway in, and to its own topic only."""
    granted = threading.Event()
    ended = threading.Event()
    seen: list[str] = []
    client = Client("", clean_session=None, protocol=mqtt.MQTTv5, reconnect_on_failure=False)
    context = ssl.create_default_context(cafile=str(here.platform.certificates.authority))
    context.load_cert_chain(folder / "tls.pem")
    client.tls_set_context(context)
    client.on_connect = lambda client, *_: client.subscribe("civigate/v1/+/batch")
    client.on_subscribe = lambda *_: granted.set()
    client.on_disconnect = lambda *_: ended.set()
    client.on_message = lambda _c, _u, message: seen.append(message.topic)
    try:
        client.connect("localhost", port)
    except OSError:
        return False
    client.loop_start()
    try:
        until(lambda: granted.is_set() or ended.is_set(), LIMIT_S)
        if not granted.is_set():
            return False
        for topic in (OTHER_TOPIC, f"civigate/v1/{EUI.hex()}/batch"):
            client.publish(topic, b"x", qos=1).wait_for_publish(LIMIT_S)
        until(lambda: bool(seen))
        assert seen == [f"civigate/v1/{EUI.hex()}/batch"]
        return True
    finally:
        client.disconnect()
        client.loop_stop()


def test_a_broker_lets_in_who_is_enrolled_and_not_who_is_revoked(tmp_path: Path, certificates: Certificates) -> None:
    here = town(tmp_path, certificates)
    asking = Asking(here)
    with here.platform.serving():
        der = asking.enrolled(here.code()).chain[0]
    private = asking.tls_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "tls.pem").write_bytes(certificate.chain_to_pem((der,), "-") + private)
    port = free_port()
    running = broker(tmp_path, here, port)
    try:
        assert comes_in(tmp_path, here, port)
        here.platform.json("gateways", "revoke", EUI.hex())
        running.send_signal(signal.SIGHUP)
        until(lambda: not comes_in(tmp_path, here, port))
    finally:
        running.kill()
        running.wait()
