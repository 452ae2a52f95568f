# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What civigate.toml on the boot partition may ask for."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, TypeAlias

from agent import settings
from agent.config import Bus, parse_bus
from agent.enrolment import claim, client
from agent.errors import AgentError, ConfigError
from agent.settings import Unfit, setting, table
from agent.values import parse_url
from drivers.boards import load_board
from drivers.errors import ProfileError
from drivers.plans import plan_names

if TYPE_CHECKING:
    from pathlib import Path

FIND: Final = "find"
"""As a board: look which one it is."""
MAX_NAME_CHARACTERS = 100
_PSK = re.compile(r"[ -~]{8,63}|[0-9A-Fa-f]{64}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
_MAX_SSID_BYTES = 32
IPAddress: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"


def _secret(key: str, what: str, hint: str) -> ConfigError:
    """Say that a secret is unfit without repeating it: the words land beside the file, and in a log."""
    return ConfigError(what, where=f"civigate.toml: {key}", hint=hint, code="CG-PRV-002")


def _parse_claim(text: str) -> str:
    try:
        return claim.parse(text)
    except AgentError as error:
        raise _secret("provision.claim", error.what, error.hint) from error


def _parse_psk(text: str) -> str:
    if not _PSK.fullmatch(text):
        hint = "type it as the access point has it, without spaces around it"
        raise _secret("network.psk", f"{len(text)} characters; a Wi-Fi password has 8 to 63, or is 64 hex digits", hint)
    return text


def _parse_name(text: str) -> str:
    if len(text) > MAX_NAME_CHARACTERS or not text.isprintable() or not text.strip():
        raise ValueError("too long, or not printable")
    return text.strip()


def _parse_platform(text: str) -> str:
    return parse_url(text, ("https",))


def _parse_region(text: str) -> str:
    name = text.strip().lower().replace("-", "_")
    if name not in plan_names():
        raise ValueError("no such plan")
    return name


def _parse_board(text: str) -> str:
    if text != FIND:
        try:
            load_board(text)
        except ProfileError as error:
            raise ValueError(error.what) from error
    return text


def _parse_device(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("does not begin with /")
    return text


def _parse_beside(text: str) -> str:
    if PurePosixPath(text).name != text or text in {".", ".."}:
        raise ValueError("not a plain name")
    return text


def _parse_ssid(text: str) -> str:
    if not 1 <= len(text.encode()) <= _MAX_SSID_BYTES:
        raise ValueError(f"{len(text.encode())} bytes")
    return text


def _parse_country(text: str) -> str:
    if not _COUNTRY.fullmatch(text):
        raise ValueError("not two capitals")
    return text


def _parse_interface(text: str) -> str:
    if not _INTERFACE.fullmatch(text):
        raise ValueError("no name of an interface")
    return text


def _parse_address(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    if "/" not in text:
        raise ValueError("its length is missing")
    return ipaddress.ip_interface(text)


def _leads(router: IPAddress, own: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> bool:
    """Say whether a router can be reached: it is in the same network, or on the same cable [RFC 4291, 2.5.6]."""
    return router in own.network or (router.version == own.version == 6 and router.is_link_local)


def _parse_host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:-]{1,253}", text):
        raise ValueError("no name or address of a host")
    return text


@table
class ProvisionSection:
    """The gateway, and the platform that it shall belong to."""

    format: int = setting("Version of this file.", minimum=1, maximum=1, example=1)
    name: str = setting(
        "What people call this gateway.",
        parse=_parse_name,
        expected=f"a text of at most {MAX_NAME_CHARACTERS} characters",
        example="north-mast-07",
    )
    platform: str = setting(
        "Where the platform enrols gateways, as 'civigate-receiver gateways invite' prints it.",
        parse=_parse_platform,
        expected="https://HOST[:PORT]",
        example="https://platform.example.org:8444",
    )
    claim: str | None = setting(
        "The claim code of this gateway, good once. Left out: somebody at the platform must approve the gateway.",
        default=None,
        parse=_parse_claim,
        expected="four groups of four",
        example="7K9Q-2MXT-04BV-H3R2",
        secret=True,
    )
    fingerprint: str | None = setting(
        "SHA-256 of the platform's certificate, as 'gateways invite' prints it. Without it and ca_file, an authority "
        "of the system must vouch for the platform.",
        default=None,
        parse=client.parse_fingerprint,
        expected="64 hex digits",
        example="5f2c6d9b1a3e4f508172a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8",
    )
    ca_file: str | None = setting(
        "Name of a PEM file beside this one, with the only authorities that certify the platform.",
        default=None,
        parse=_parse_beside,
        expected="a plain file name",
        example="platform-ca.pem",
    )
    region: str = setting(
        "Frequencies and data rates to listen to; 'civigate boards plans' lists them.",
        default="eu868",
        parse=_parse_region,
        expected='the name of a plan, such as "EU868"',
    )
    board: str = setting(
        f'The board that carries the concentrator; "{FIND}" tries which one it is.',
        default=FIND,
        parse=_parse_board,
        expected=f"\"{FIND}\", or a name that 'civigate boards' lists",
    )
    bus: Bus | None = setting(
        "Where the concentrator is attached. Left out: all SPI devices and USB bridges are looked at.",
        default=None,
        parse=parse_bus,
        expected='"spi:/dev/spidevX.Y" or "usb:/dev/ttyACMN"',
        example="spi:/dev/spidev0.0",
    )
    antenna_gain_dbi: float | None = setting(
        "Gain of the antenna less what cable and connectors lose.",
        default=None,
        unit="dBi",
        minimum=-20.0,
        maximum=30.0,
        example=2.0,
    )
    gnss: str | None = setting(
        "Serial port of a GNSS receiver whose pulse leads to the concentrator. Left out: none is used.",
        default=None,
        parse=_parse_device,
        expected="a path from /",
        example="/dev/serial0",
    )
    firmware: str | None = setting(
        "Name of a file or folder beside this one with the concentrator's firmware: sx1302_hal V2.1.0, also as it was "
        "downloaded (.zip, .tar.gz). Left out: it is on the card already.",
        default=None,
        parse=_parse_beside,
        expected="a plain name",
        example="sx1302_hal-2.1.0.zip",
    )

    def __post_init__(self) -> None:
        if self.fingerprint is not None and self.ca_file is not None:
            what = "found an authority besides a fingerprint"
            raise Unfit("ca_file", what, "leave one of them out: the fingerprint says more")


@table
class NetworkSection:
    """The network, where DHCP on Ethernet is not what there is. It is written once and stays."""

    ssid: str | None = setting(
        "Name of the Wi-Fi network.", default=None, parse=_parse_ssid, expected="1 to 32 bytes", example="site"
    )
    psk: str | None = setting(
        "Its password. Left out: it is an open network.",
        default=None,
        parse=_parse_psk,
        expected="8 to 63 characters",
        example="correct horse battery",
        secret=True,
    )
    country: str | None = setting(
        "Country whose rules the Wi-Fi radio obeys; a Pi whose Wi-Fi was never used needs it.",
        default=None,
        parse=_parse_country,
        expected="two capitals [ISO 3166-1]",
        example="DE",
    )
    interface: str | None = setting(
        "The interface. Left out: wlan0 with an ssid, eth0 without.",
        default=None,
        parse=_parse_interface,
        expected="a name such as eth0",
        example="wlan0",
    )
    address: ipaddress.IPv4Interface | ipaddress.IPv6Interface | None = setting(
        "Fixed address with its length. Left out: DHCP gives one.",
        default=None,
        parse=_parse_address,
        expected='an address such as "192.0.2.17/24"',
        example="192.0.2.17/24",
    )
    gateway: str | None = setting(
        "Router of the fixed address.",
        default=None,
        parse=lambda text: str(ipaddress.ip_address(text)),
        expected="an address",
        example="192.0.2.1",
    )
    dns: tuple[str, ...] = setting(
        "Name servers besides a fixed address.",
        default=(),
        items=(0, 4),
        parse=lambda text: str(ipaddress.ip_address(text)),
        expected="an address",
    )
    ntp: tuple[str, ...] = setting(
        "Time servers, in a network where those of the world cannot be reached.",
        default=(),
        items=(0, 4),
        parse=_parse_host,
        expected="a name or an address",
    )

    def __post_init__(self) -> None:
        if self.psk is not None and self.ssid is None:
            raise Unfit("psk", "found a password without a network", "set ssid too")
        if self.country is not None and self.ssid is None:
            raise Unfit("country", "found the country of a Wi-Fi without its network", "set ssid too, or leave it out")
        if self.ssid is not None and self.interface is not None and not self.interface.startswith("wl"):
            what = f"found {self.interface} for a Wi-Fi network"
            raise Unfit("interface", what, "leave it out, or name one such as wlan0; one file sets up one interface")
        if self.address is None:
            for key in ("gateway", "dns"):
                if getattr(self, key):
                    raise Unfit(key, "found it without a fixed address", "set address too, or leave it to DHCP")
        elif self.gateway is not None and not _leads(ipaddress.ip_address(self.gateway), self.address):
            raise Unfit(
                "gateway", f"found {self.gateway}, which is not in {self.address.network}", "correct one of them"
            )

    @property
    def device(self) -> str:
        """The interface that it is for."""
        return self.interface or ("eth0" if self.ssid is None else "wlan0")


@table
class Request:
    """Provisioning of one civigate gateway: put this file on the boot partition as civigate.toml.

    Lines that begin with # and a key show defaults or examples. It is read once, when the gateway starts; then the
    outcome is in it, and the secrets are gone.
    """

    provision: ProvisionSection
    network: NetworkSection | None = setting("", default=None)


def load(path: Path) -> Request:
    """Read and check civigate.toml; nothing is done.

    Raises:
        ConfigError: it cannot be used; one line says where, what was found and what is expected.
    """
    return settings.load(Request, path)


def is_outcome(data: bytes) -> bool:
    """Whether a civigate.toml was read already, and says what came of it."""
    try:
        return "result" in tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False


def example() -> str:
    """Return the documented file."""
    return settings.example(Request)
