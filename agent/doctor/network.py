# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Is there a network that could carry what is to be sent: a route to where the platforms are, and DNS for names?"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from agent.doctor import host
from agent.doctor.causes import found
from agent.doctor.finding import Finding, ok

if TYPE_CHECKING:
    from pathlib import Path

    from agent.doctor.context import Context

_REJECT: Final = 0x200
"""[linux/route.h, linux/ipv6_route.h] RTF_REJECT: a route that says that there is none."""
_HTTPS: Final = 443
_SHOWN: Final = 3
_STUB: Final = "127.0.0.53"
"""[systemd-resolved.service(8)] The stub; whom it asks stands in a file of its own."""


def network(context: Context) -> Iterator[Finding]:
    """Say whether there is a network at all; what is beyond it is for the check of the platforms to say."""
    default = _defaults(context.root)
    servers = _servers(context.root)
    hosts = [] if context.config is None else [_host(url) for d in context.config.destination for url in d.urls]
    known = {name: _known(context.root, name) for name in hosts}
    if hosts and all(_here(known[name]) for name in hosts):
        yield ok("network", "none is needed: the platforms are on this machine")
        return
    hosts = [name for name in hosts if not _here(known[name])]
    addresses = [address for name in hosts for address in known[name]]
    by_name = not hosts or any(not known[name] for name in hosts)
    led = [address for address in addresses if leads(address)]
    # a network of a town's own may have no default route, but one to its name server
    carries = bool(default or led or (by_name and any(leads(server) and not _here([server]) for server in servers)))
    by = f"default route by {', '.join(dict.fromkeys(default))}" if default else "no default route"
    if led:
        by += f", a route to {_some(led)}"
    if not carries or (not by_name and not led):
        lost = "" if by_name else f", no route to {_some(addresses)}"
        yield found("unreachable" if default else "no-route", "network", by + lost)
    elif not servers and not addresses:
        yield found("no-dns-server", "network", f"{by}, but no name server")
    else:
        yield ok("network", f"{by}; name server {', '.join(servers) or 'none'}")


def _some(addresses: list[str]) -> str:
    different = list(dict.fromkeys(addresses))
    return ", ".join(different[:_SHOWN]) + (", …" if len(different) > _SHOWN else "")


def leads(address: str) -> bool:
    """Ask the kernel whether a route leads to an address. Nothing is sent."""
    try:
        family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((address, _HTTPS))
    except (OSError, ValueError):
        return False
    return True


def _here(addresses: list[str]) -> bool:
    with suppress(ValueError):
        return bool(addresses) and all(ip_address(address).is_loopback for address in addresses)
    return False


def _defaults(root: Path) -> list[str]:
    """Return the devices of the default routes, as the kernel lists them ([proc_net(5)])."""
    lines = [line.split() for line in (host.text(root / "proc/net/route") or "").splitlines()[1:]]
    # Iface Destination Gateway Flags ...
    found4 = [w[0] for w in lines if w[1:2] == ["00000000"] and not _rejects(w[3:4])]
    lines = [line.split() for line in (host.text(root / "proc/net/ipv6_route") or "").splitlines()]
    # destination, prefix length, source, prefix length, next hop, metric, references, use, flags, device
    found6 = [w[9] for w in lines if w[:2] == ["0" * 32, "00"] and not _rejects(w[8:9]) and w[9:] != ["lo"]]
    return found4 + found6


def _rejects(flags: list[str]) -> bool:
    return bool(flags) and bool(int(flags[0], 16) & _REJECT)


def _servers(root: Path) -> list[str]:
    """Return the name servers; those that the system's resolver asks where it stands in between."""
    servers = _named(root / "etc/resolv.conf")
    return servers if servers != [_STUB] else _named(root / "run/systemd/resolve/resolv.conf") or servers


def _named(path: Path) -> list[str]:
    lines = (line.split() for line in (host.text(path) or "").splitlines())
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


def _host(url: str) -> str:
    with suppress(ValueError):
        return urlsplit(url).hostname or ""
    return ""


def _known(root: Path, name: str) -> list[str]:
    """Return the addresses of a host that can be told without DNS."""
    with suppress(ValueError):
        return [str(ip_address(name))]
    if name == "localhost":
        return ["127.0.0.1"]
    lines = (line.partition("#")[0].split() for line in (host.text(root / "etc/hosts") or "").splitlines())
    return [words[0] for words in lines if name.lower() in (word.lower() for word in words[1:])]
