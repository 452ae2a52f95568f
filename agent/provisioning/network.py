# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Tell the system's network service what civigate.toml says: NetworkManager, or systemd-networkd for a cable.

Raspberry Pi OS has NetworkManager since bookworm [NetworkManager: nm-settings-keyfile(5)]. A minimal Debian has
networkd [systemd.network(5)]. Both read one file; it is replaced as a whole, and the service told to read it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent import durable
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.provisioning.request import NetworkSection

CONNECTION: Final = "etc/NetworkManager/system-connections/civigate.nmconnection"
NETWORK: Final = "etc/systemd/network/10-civigate.network"
TIME_SERVERS: Final = "etc/systemd/timesyncd.conf.d/civigate.conf"
_ID: Final = uuid.UUID("8f2c5b0e-6f5d-4c1a-9a57-3d1f0c7a2b64")
_LIMIT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """A file to write, and what to say to the system then.

    Attributes:
        path: below the root of the system.
        text: of the file.
        mode: of the file: a password is for nobody else.
        commands: programs with their arguments, in order; each may fail without harm for the others.
    """

    path: str
    text: str
    mode: int
    commands: tuple[tuple[str, ...], ...]


def plan(network: NetworkSection, root: Path = Path("/")) -> list[NetworkFile]:
    """Say what is to be written.

    Raises:
        ConfigError: CG-PRV-003, this system has nothing that would read it.
    """
    files = []
    if network.ssid is not None or network.address is not None:
        if (root / CONNECTION).parent.is_dir():
            files.append(_network_manager(network))
        elif network.ssid is None and (root / NETWORK).parent.is_dir():
            files.append(_networkd(network))
        else:
            raise ConfigError(
                "this system has no NetworkManager to set up the network with",
                where="civigate.toml: network",
                hint="take [network] out and set up the network by hand, or use Raspberry Pi OS",
                code="CG-PRV-003",
            )
    if network.ntp:
        text = f"[Time]\nNTP={' '.join(network.ntp)}\n"
        restart = ("systemctl", "try-restart", "systemd-timesyncd.service")
        files.append(NetworkFile(TIME_SERVERS, text, 0o644, (restart,)))
    return files


def apply(files: Sequence[NetworkFile], root: Path = Path("/")) -> list[str]:
    """Write the files, and tell the services where the system runs.

    Returns:
        What did not work, one line each; the next start of the system reads the files in any case.

    Raises:
        OSError: a file cannot be written.
    """
    problems = []
    for file in files:
        path = root / file.path
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
            path.parent.chmod(0o755)  # the service that reads it is not root, and our umask is strict
        durable.replace(path, file.text.encode(), file.mode)
        if root == Path("/"):
            problems += [said for command in file.commands if (said := _run(command))]
    if root == Path("/"):
        os.sync()  # raspi-config changes cmdline.txt, without which no Pi starts
    return problems


def _run(command: tuple[str, ...]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}"
    said = (done.stderr or done.stdout).strip().splitlines()
    return "" if done.returncode == 0 else f"{command[0]}: {said[-1] if said else done.returncode}"


def _network_manager(network: NetworkSection) -> NetworkFile:
    lines = [
        "[connection]",
        "id=civigate",
        f"uuid={uuid.uuid5(_ID, network.device)}",
        f"type={'ethernet' if network.ssid is None else 'wifi'}",
        f"interface-name={network.device}",
        "autoconnect=true",
        "autoconnect-priority=10",
    ]
    if network.ssid is not None:
        # as bytes: a name may have any character, also such as end a list in this format
        ssid = "".join(f"{byte};" for byte in network.ssid.encode())
        lines += ["", "[wifi]", "mode=infrastructure", f"ssid={ssid}"]
    if network.psk is not None:
        psk = network.psk.replace("\\", "\\\\").replace(" ", "\\s")
        lines += ["", "[wifi-security]", "key-mgmt=wpa-psk", f"psk={psk}"]
    lines += _addresses(network)
    commands = [("nmcli", "connection", "reload"), ("nmcli", "--wait", "30", "connection", "up", "civigate")]
    if network.country is not None:
        # hardware only: the Wi-Fi of a Pi is switched off until somebody says which country it is in
        commands.insert(0, ("raspi-config", "nonint", "do_wifi_country", network.country))
    return NetworkFile(CONNECTION, "\n".join(lines) + "\n", 0o600, tuple(commands))


def _addresses(network: NetworkSection) -> list[str]:
    if network.address is None:
        return ["", "[ipv4]", "method=auto", "", "[ipv6]", "method=auto"]
    fixed, other = ("ipv4", "ipv6") if network.address.version == 4 else ("ipv6", "ipv4")
    route = "" if network.gateway is None else f",{network.gateway}"
    lines = ["", f"[{fixed}]", "method=manual", f"address1={network.address}{route}"]
    if network.dns:
        lines.append("dns=" + "".join(f"{server};" for server in network.dns))
    return [*lines, "", f"[{other}]", "method=auto" if other == "ipv6" else "method=disabled"]


def _networkd(network: NetworkSection) -> NetworkFile:
    lines = ["[Match]", f"Name={network.device}", "", "[Network]", f"Address={network.address}"]
    if network.gateway is not None:
        lines.append(f"Gateway={network.gateway}")
    lines += [f"DNS={server}" for server in network.dns]
    return NetworkFile(NETWORK, "\n".join(lines) + "\n", 0o644, (("networkctl", "reload"),))
