# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The two configuration files of the demonstration, written as a person would write them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.demo.traffic import OWN_DEV_ADDR

if TYPE_CHECKING:
    from agent.demo.authority import Authority, Credentials


@dataclass(frozen=True, slots=True)
class Folders:
    """Where each program keeps its things, below one folder.

    Attributes:
        root: of the demonstration.
    """

    root: Path

    @property
    def gateway(self) -> Path:
        """State of the agent."""
        return self.root / "gateway"

    @property
    def run(self) -> Path:
        """What the agent need not keep over a power cut; a RAM disk on a gateway."""
        return self.root / "run"

    @property
    def receiver(self) -> Path:
        """State of the receiver."""
        return self.root / "receiver"


def gateway_toml(
    folders: Folders, *, spi_socket: Path, url: str, authority: Authority, client: Credentials, key: str
) -> str:
    """Return gateway.toml: one destination, whose filter takes the recorded sensors of our own."""
    prefixes = ", ".join(_text(f"{prefix}/{bits}") for prefix, bits in OWN_DEV_ADDR.items())
    return f"""\
[gateway]
name = "demonstration"
state_dir = {_text(folders.gateway)}
runtime_dir = {_text(folders.run)}

[concentrator]
bus = {_text(f"emulator:{spi_socket}")}
board = "semtech_corecell_eu868"
plan = "eu868"

[spool]
commit_window_s = 0.5
batch_age_s = 2.0

[[destination]]
name = "city"
url = {_text(url)}
ca_file = {_text(authority.certificate)}
cert_file = {_text(client.certificate)}
key_file = {_text(client.key)}
receipt_key = {_text(key)}

[destination.filter]
dev_addr = [{prefixes}]
"""


def https_receiver_toml(folders: Folders, *, port: int, authority: Authority, server: Credentials) -> str:
    """Return receiver.toml for batches over HTTPS, client certificates required."""
    return f"""\
{_receiver(folders)}
[https]
listen = "127.0.0.1"
port = {port}
certificate = {_text(server.certificate)}
key = {_text(server.key)}
client_ca = {_text(authority.certificate)}
"""


def mqtt_receiver_toml(folders: Folders, *, broker_port: int, authority: Authority, client: Credentials) -> str:
    """Return receiver.toml for batches out of a broker, with a client certificate."""
    return f"""\
{_receiver(folders)}
[mqtt]
url = "mqtts://localhost:{broker_port}"
ca_file = {_text(authority.certificate)}
cert_file = {_text(client.certificate)}
key_file = {_text(client.key)}
"""


def broker_conf(*, port: int, authority: Authority, server: Credentials) -> str:
    """Return a mosquitto configuration: TLS, client certificates required."""
    return f"""\
listener {port} 127.0.0.1
cafile {authority.certificate}
certfile {server.certificate}
keyfile {server.key}
require_certificate true
use_identity_as_username true
allow_anonymous false
set_tcp_nodelay true
max_queued_messages 0
"""


def _receiver(folders: Folders) -> str:
    return f"""\
[receiver]
data_dir = {_text(folders.receiver)}

[identity]
key_file = {_text(folders.receiver / "receipt.key")}
"""


def _text(value: str | Path) -> str:
    """Write a string of TOML; the JSON form is one."""
    return json.dumps(str(value), ensure_ascii=False)
