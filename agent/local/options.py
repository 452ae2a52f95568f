# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the configuration may say about showing oneself: the page in a browser, and metrics."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.settings import Unfit, setting, table

LOWEST_PORT = 1024
"""Below it, one has to be root."""
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """An address of this machine to listen on."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"


def parse_place(text: str) -> Place:
    """Read "127.0.0.1:8080" or "[::1]:8080".

    Raises:
        ValueError: it is none.
    """
    host, colon, digits = text.rpartition(":")
    if not colon or not (digits.isascii() and digits.isdigit()):
        raise ValueError("no port")
    port = int(digits[:6])
    if not LOWEST_PORT <= port <= 0xFFFF:
        raise ValueError(f"the port is not {LOWEST_PORT} to 65535")
    bracketed = host.startswith("[") and host.endswith("]")
    with suppress(ValueError):
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
        if bracketed == (address.version == 6):
            return Place(address, port)
    raise ValueError("not an IP address")


def parse_host_name(text: str) -> str:
    """Read a name of this machine; ValueError if it cannot be one."""
    if not _NAME.fullmatch(text.lower()):
        raise ValueError("not a host name")
    return text.lower()


@table
class WebSection:
    """A page for a phone or a laptop, only to read: status, receptions as they come, metrics for Prometheus.

    Off unless listen is set. It speaks HTTP without TLS: keep it on loopback and come by SSH
    (ssh -L 8080:127.0.0.1:8080 GATEWAY), or use it in a network that you trust.
    """

    listen: Place | None = setting(
        "Address and port of this gateway where it is served. Left out: nowhere.",
        default=None,
        parse=parse_place,
        expected=f'an IP address and a port from {LOWEST_PORT}, like "127.0.0.1:8080" or "[::1]:8080"',
        example="127.0.0.1:8080",
    )
    token_file: Path | None = setting(
        "File whose first line, 16 characters or more, who reads has to know: civigate asks for it in the page, "
        "Prometheus sends it as bearer token. Anywhere but on loopback it is needed.",
        default=None,
        example="web-token",
    )
    public: bool = setting("Everybody who reaches it may read, without a token, also beyond loopback.", default=False)
    names: tuple[str, ...] = setting(
        "Names by which browsers may ask for it, besides this machine's own name and any IP address. Others are "
        "refused: a foreign site could let its name lead here.",
        default=(),
        items=(0, 16),
        parse=parse_host_name,
        expected="a host name",
        example=["gateway-17.lan"],
    )

    def __post_init__(self) -> None:
        if self.listen is None or self.listen.address.is_loopback:
            return
        if self.token_file is None and not self.public:
            what = f"{self.listen} can be reached by others, and nothing keeps them out"
            raise Unfit("listen", what, "set token_file, or public = true, or listen on 127.0.0.1")


@table
class MetricsSection:
    """Metrics for Prometheus without a port of one's own; the page of [web] serves them as /metrics."""

    textfile: Path | None = setting(
        "A file that is renewed every 15 s, for the textfile collector of node_exporter; its name ends in .prom.",
        default=None,
        example="/var/lib/prometheus/node-exporter/civigate.prom",
    )

    def __post_init__(self) -> None:
        if self.textfile is not None and self.textfile.suffix != ".prom":
            raise Unfit("textfile", f'found "{self.textfile.name}"', "let it end in .prom: others are not collected")
