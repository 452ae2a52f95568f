# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Where a destination is and how it is reached, and the transport that its URL asks for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from agent.uplink.port import BootClock, Fault, LinkError, Uplink
from agent.uplink.tls import Context, Time, client_context

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Destination
    from agent.enrolment.sets import CertificateSets

DEFAULT_PORTS = {"https": 443, "mqtts": 8883, "mqtt": 1883}
_CERTIFICATE_FAULTS = frozenset({Fault.CERTIFICATE, Fault.TLS, Fault.LOGIN})
"""What a certificate may be the cause of: ours, that of the platform, or the name that a broker reads in ours."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A platform.

    Attributes:
        name: of the destination, as configured.
        url: https://HOST[:PORT][/PATH], mqtts://HOST[:PORT] or mqtt://HOST[:PORT].
        ca_file: PEM, the only authorities trusted; None for those of the system.
        cert_file: PEM, our certificate; None for none.
        key_file: PEM, its key; None when it is in cert_file.
        user: MQTT user name; None for none.
        password_file: file whose first line is the MQTT password; None for none.
        mqtt_version: "5" or "3.1.1".
        window: most batches unanswered at a time; HTTPS carries one.
        connect_timeout_s: for TCP and for TLS each.
        answer_timeout_s: from the last sign of life to the answer.
        keepalive_s: MQTT: silence after which the link is probed; a dead one is noticed within twice this.
        sets: certificates from an enrolment, for where there is no cert_file; None for none.
        time: what is certain about it, to judge the platform's certificate by; None for this host's clock.
    """

    name: str
    url: str
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    mqtt_version: str = "5"
    window: int = 8
    connect_timeout_s: float = 10.0
    answer_timeout_s: float = 20.0
    keepalive_s: int = 30
    sets: CertificateSets | None = None
    time: Time | None = None

    @classmethod
    def of(
        cls,
        destination: Destination,
        url: str | None = None,
        *,
        sets: CertificateSets | None = None,
        time: Time | None = None,
    ) -> Endpoint:
        """Take over what the configuration says of a destination, with one of its other URLs if one is given."""
        return cls(
            name=destination.name,
            url=url or destination.url,
            ca_file=destination.ca_file,
            cert_file=destination.cert_file,
            key_file=destination.key_file,
            user=destination.user,
            password_file=destination.password_file,
            mqtt_version=destination.mqtt_version,
            window=destination.window,
            connect_timeout_s=destination.connect_timeout_s,
            answer_timeout_s=destination.answer_timeout_s,
            keepalive_s=destination.keepalive_s,
            sets=None if destination.cert_file is not None else sets,
            time=time,
        )

    def context(self, kind: type[Context]) -> tuple[Context, str]:
        """Make the TLS context of the next connection.

        Returns:
            The context, and the name of the certificate set that it shows; "" for none.

        Raises:
            LinkError: a file cannot be read or used.
        """
        chosen = None if self.sets is None else self.sets.choose()
        if self.sets is None or chosen is None:
            return client_context(kind, self.ca_file, self.cert_file, self.key_file, self.time), ""
        authorities = chosen.authorities or self.ca_file
        try:
            return client_context(kind, authorities, chosen.certificate, chosen.key, self.time), chosen.name
        except LinkError:
            self.sets.failed(chosen.name, certain=True)
            raise

    def role_of(self, name: str) -> str:
        """Say which of the certificate sets one is."""
        roles = None if self.sets is None else self.sets.roles
        return next((role for role, held in asdict(roles).items() if held == name), "") if roles else ""

    def outdated(self, name: str) -> bool:
        """Tell whether the next connection would show another certificate set than the one of this name."""
        if self.sets is None:
            return False
        chosen = self.sets.choose()
        return chosen is not None and chosen.name != name

    def blame(self, name: str, error: LinkError, *, answered: bool) -> None:
        """Note that a connection with a certificate set failed.

        Args:
            name: of the set; "" for none.
            error: how.
            answered: whether the platform had answered anything on it.
        """
        if self.sets is None or not name or answered:
            return
        if error.fault in _CERTIFICATE_FAULTS:
            self.sets.failed(name, certain=True)
        elif error.fault is Fault.LOST:
            self.sets.failed(name, certain=False)

    @property
    def scheme(self) -> str:
        """The scheme of the URL."""
        return self._split().scheme

    @property
    def host(self) -> str:
        """The host of the URL, without brackets."""
        host = self._split().hostname
        if not host:
            raise self._wrong("no host in it")
        return host

    @property
    def port(self) -> int:
        """The port of the URL, or that of its scheme."""
        try:
            port = self._split().port
        except ValueError as error:
            raise self._wrong("no such port") from error
        return DEFAULT_PORTS[self.scheme] if port is None else port

    @property
    def path(self) -> str:
        """The path of the URL without a slash at its end."""
        return self._split().path.rstrip("/")

    @property
    def where(self) -> str:
        """Host and port, for messages."""
        return f"{self.host}:{self.port}"

    def _split(self) -> SplitResult:
        split = urlsplit(self.url)
        if split.scheme not in DEFAULT_PORTS:
            raise self._wrong(f'found "{split.scheme}://"')
        if split.username is not None or split.query or split.fragment:
            raise self._wrong("neither user, query nor fragment belong into it")
        return split

    def _wrong(self, what: str) -> LinkError:
        hint = "expected https://HOST[:PORT][/PATH], mqtts://HOST[:PORT] or mqtt://HOST[:PORT]"
        return LinkError(Fault.ADDRESS, what, where=f"url of destination {self.name}", hint=hint)


def open_uplink(endpoint: Endpoint, gateway_eui: bytes, clock: BootClock, role: str = "") -> Uplink:
    """Make the transport that the URL asks for. Nothing is read or connected yet.

    Certificates, keys and the password are read when it connects, and again after they did not do: a file that is
    missing or has expired concerns one destination, and only until it is replaced.

    Args:
        endpoint: the platform.
        gateway_eui: 8 bytes.
        clock: of this boot.
        role: tells this client from the agent at a broker, where two clients of one name push each other out.

    Raises:
        LinkError: the URL cannot be used.
    """
    # Each transport brings a library of some size; a gateway that uses one does not load the other.
    if endpoint.scheme == "https":
        from agent.uplink.https import HttpsUplink  # noqa: PLC0415

        return HttpsUplink(endpoint, clock)
    from agent.uplink.mqtt import MqttUplink  # noqa: PLC0415

    return MqttUplink(endpoint, gateway_eui, clock, role)
