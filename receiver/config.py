# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The configuration of a receiver: what receiver.toml may say, and what its values mean together."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

from agent import settings
from agent.batch.model import MAX_WIRE_BYTES
from agent.filter import FilterRules
from agent.settings import Unfit, setting, table
from agent.values import parse_name, parse_url
from receiver.ledger.port import QuarantineLimits

DEFAULT_PORTS = {"mqtts": 8883, "mqtt": 1883}
DATABASE_SCHEMES = ("postgresql", "postgres")
DESTINATION_SCHEMES = ("https", "mqtts")
_GROUP = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _parse_broker(text: str) -> str:
    return parse_url(text, DEFAULT_PORTS)


def _parse_destination(text: str) -> str:
    return parse_url(text, DESTINATION_SCHEMES)


def _parse_address(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _parse_group(text: str) -> str:
    if not _GROUP.fullmatch(text):
        raise ValueError("other characters or too long")
    return text


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


@table
class ReceiverSection:
    """The receiver itself."""

    data_dir: Path = setting(
        "Folder of the ledger, unless that is a database, and of what enrolment remembers. Needs a file system that "
        "keeps its promises (ext4, xfs), not a network share.",
        default=Path("/var/lib/civigate-receiver"),
    )


@table
class LedgerSection:
    """Where everything is kept that gateways deliver: one file, or a database for several receivers."""

    url: str | None = setting(
        "A PostgreSQL database, for any number of receivers at once. A password belongs into a passfile (~/.pgpass, "
        "PGPASSFILE), not here. Left out: the file ledger.db in data_dir, for one receiver.",
        default=None,
        example="postgresql://civigate@db.example.org/civigate?sslmode=verify-full",
    )
    keep_days: int = setting(
        "How long frames are kept, by the week in which they came: a week is dropped as a whole once all of it is "
        "longer ago. What proves their delivery stays. 0 for ever.",
        default=0,
        unit="days",
        minimum=0,
        maximum=36500,
    )

    def __post_init__(self) -> None:
        if self.url is None:
            return
        # never shown, whatever is wrong with it: it may hold a password
        url = urlsplit(self.url)
        if url.scheme not in DATABASE_SCHEMES:
            raise Unfit("url", "not the address of a PostgreSQL database", "postgresql://USER@HOST/DATABASE")
        if url.password is not None or "password=" in url.query:
            raise Unfit("url", "a password does not belong into it", "put it into a passfile, or into PGPASSWORD")


@table
class HttpsSection:
    """Where gateways bring their batches over HTTPS. Leave the section away to take batches by MQTT only."""

    listen: str = setting(
        "Address to listen on; 0.0.0.0 and :: mean every one of this machine.",
        default="0.0.0.0",  # noqa: S104 - gateways come from outside; that is what the listener is for
        parse=_parse_address,
        expected="an IP address",
    )
    port: int = setting("TCP port.", default=8443, minimum=1, maximum=65535)
    certificate: Path = setting(
        "PEM file with the certificate, and those between it and the root.", example="server.pem"
    )
    key: Path = setting("PEM file with its private key, not encrypted.", example="server.key")
    client_ca: Path | None = setting(
        "PEM file with the authorities of the gateways' certificates. If set, nobody connects without one of these: "
        "the best protection against strangers, because they are turned away before anything is read.",
        default=None,
        example="gateways-ca.pem",
    )
    max_body_bytes: int = setting(
        "Largest batch that is read.", default=MAX_WIRE_BYTES, unit="bytes", minimum=4096, maximum=MAX_WIRE_BYTES
    )
    max_connections: int = setting(
        "Connections at a time. For one more another one has to go: first of those on which nothing has come that "
        "verifies, from the address that has most of them.",
        default=1000,
        minimum=1,
        maximum=100_000,
    )
    idle_s: int = setting(
        "A connection without a request is closed after this. Long enough, and a gateway needs no new handshake for "
        "its next batch.",
        default=120,
        unit="s",
        minimum=1,
        maximum=3600,
    )
    strangers_per_minute: int = setting(
        "Batches that do not verify, per address of origin; then only batches of registered gateways are looked at for "
        "a while that come from there, others are answered with status 429. 0 for no limit.",
        default=120,
        minimum=0,
        maximum=1_000_000,
    )


@table
class MqttSection:
    """A broker from which batches are taken. Leave the section away to take batches by HTTPS only."""

    url: str = setting(
        "The broker.",
        example="mqtts://broker.example.org:8883",
        parse=_parse_broker,
        expected="mqtts://HOST[:PORT] or mqtt://HOST[:PORT]",
    )
    version: str = setting("Protocol version.", default="5", choices=("5", "3.1.1"))
    ca_file: Path | None = setting(
        "PEM file with the authorities of the broker's certificate. Left out: those of the system.",
        default=None,
        example="broker-ca.pem",
    )
    cert_file: Path | None = setting("PEM file with our certificate.", default=None, example="receiver.pem")
    key_file: Path | None = setting("PEM file with its private key.", default=None, example="receiver.key")
    user: str | None = setting("User name.", default=None, example="receiver")
    password_file: Path | None = setting(
        "File whose first line is the password.", default=None, example="broker-password"
    )
    shared_group: str | None = setting(
        "Name of a shared subscription, for several receivers that divide the work of one broker.",
        default=None,
        parse=_parse_group,
        expected="at most 64 letters, digits, - and _",
        example="civigate",
    )
    keepalive_s: int = setting(
        "Silence after which the connection is probed.", default=30, unit="s", minimum=5, maximum=1200
    )

    @property
    def host(self) -> str:
        """The host of the URL."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port of the URL, or that of its scheme."""
        url = urlsplit(self.url)
        return DEFAULT_PORTS[url.scheme] if url.port is None else url.port

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.url).scheme == "mqtts"

    def __post_init__(self) -> None:
        for key in ("ca_file", "cert_file", "key_file"):
            if getattr(self, key) is not None and not self.tls:
                raise Unfit(key, "set, but the url is mqtt://, without TLS", "use mqtts://, or leave it out")
        if self.key_file is not None and self.cert_file is None:
            raise Unfit("cert_file", "missing although key_file is set", "set both or none")
        if self.password_file is not None and self.user is None:
            raise Unfit("user", "missing although password_file is set", "set both or none")


@table
class ApiSection:
    """The reading interface for those who use the data: HTTP on an address and port of its own. Leave it away for none.

    It is apart from the gateways' port because its readers are others: the one is open to the field, this one shows
    what all sensors sent.
    """

    listen: str = setting(
        "Address to listen on. Anything but loopback needs a token_file; put TLS in front of it.",
        default="127.0.0.1",
        parse=_parse_address,
        expected="an IP address",
    )
    port: int = setting("TCP port.", default=8480, minimum=1, maximum=65535)
    token_file: Path | None = setting(
        "File whose first line readers must present as bearer token; at least 16 characters.",
        default=None,
        example="api-token",
    )
    metrics: bool = setting(
        "Also give figures to a monitoring system, at /metrics, in the text format of Prometheus.", default=False
    )
    metrics_gateways: int = setting(
        "Gateways that have figures of their own there; those first that were silent longest.",
        default=200,
        minimum=0,
        maximum=10_000,
    )

    def __post_init__(self) -> None:
        if self.token_file is None and not _is_loopback(self.listen):
            what = f"missing although listen is {self.listen}, open to others"
            raise Unfit("token_file", what, "set it, or listen on 127.0.0.1")


@table
class EnrolmentSection:
    """Where new gateways enrol, and all renew their certificates, over HTTPS. Leave it away to enrol nobody.

    It has a port of its own because gateways come to it that have no certificate yet, or an expired one; the port of
    the batches can stay closed to those. 'civigate-receiver ca create' makes the authority that certifies gateways: set
    [https] client_ca (or the broker's cafile) to its ca.pem. 'civigate-receiver gateways invite' makes claim codes.
    """

    listen: str = setting(
        "Address to listen on; 0.0.0.0 and :: mean every one of this machine.",
        default="0.0.0.0",  # noqa: S104 - gateways come from outside; that is what the listener is for
        parse=_parse_address,
        expected="an IP address",
    )
    port: int = setting("TCP port.", default=8444, minimum=1, maximum=65535)
    certificate: Path | None = setting(
        "PEM file with the server's certificate. Left out: that of [https].", default=None, example="server.pem"
    )
    key: Path | None = setting(
        "PEM file with its private key. Left out: that of [https].", default=None, example="server.key"
    )
    platform_ca: Path | None = setting(
        "PEM file with the authorities that gateways shall trust to certify this platform, and no others; they get it "
        "when they enrol. Left out: those of their system, or what the technician gave them.",
        default=None,
        example="platform-ca.pem",
    )
    ca_dir: Path | None = setting(
        "Folder of the authority that certifies gateways: ca.pem, ca.key, crl.pem. Left out: ca in data_dir.",
        default=None,
        example="/var/lib/civigate-receiver/ca",
    )
    name: str = setting(
        "Name of the destination that gateways configure.",
        default="city",
        parse=parse_name,
        expected="1 to 32 of a-z, 0-9 and -",
    )
    url: str = setting(
        "Where gateways shall bring their batches: [https] here, or the broker.",
        parse=_parse_destination,
        expected="https://HOST[:PORT][/PATH] or mqtts://HOST[:PORT]",
        example="https://platform.example.org:8443",
    )
    certificate_days: float = setting(
        "Validity of a gateway's certificate. Gateways renew when two thirds of it are over; what is revoked is turned "
        "away at once anyhow.",
        default=90.0,
        unit="days",
        minimum=0.01,
        maximum=3650,
    )
    grace_days: float = setting(
        "How long after its end a certificate may still be renewed with the gateway's key; later a new code is needed.",
        default=180.0,
        unit="days",
        minimum=0,
        maximum=3650,
    )
    without_claim: str = setting(
        'Gateways that come without a code: "wait" until somebody approves them, or are turned away ("refuse").',
        default="refuse",
        choices=("wait", "refuse"),
    )
    strangers_per_minute: int = setting(
        "Requests that are not granted, per address of origin; then only those are listened to for a while that come "
        "from there with a good code, or with a key that is known. 0 for no limit.",
        default=20,
        minimum=0,
        maximum=1_000_000,
    )
    max_connections: int = setting("Connections at a time.", default=100, minimum=1, maximum=100_000)
    filter: FilterRules

    def folder(self, data_dir: Path) -> Path:
        """The folder of the authority."""
        return data_dir / "ca" if self.ca_dir is None else self.ca_dir

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise Unfit("key" if self.key is None else "certificate", "only one of the pair is set", "set both or none")


@table
class IdentitySection:
    """Who signs the receipts."""

    key_file: Path = setting(
        "Private key of the receipts, PKCS#8 PEM, mode 0600. 'civigate-receiver identity create' makes it.",
        default=Path("/var/lib/civigate-receiver/receipt.key"),
    )


@table
class LimitsSection:
    """What one gateway may ask for, and what refused batches may take."""

    batches_per_s: float = setting(
        "New batches per gateway in the long run.", default=200.0, unit="1/s", minimum=0.1, maximum=100_000
    )
    burst: int = setting("Batches that a gateway may bring at once.", default=2000, minimum=1, maximum=1_000_000)
    quarantine_batches: int = setting("Refused batches that are kept.", default=1000, minimum=0, maximum=1_000_000)
    quarantine_mb: int = setting("Their size in all.", default=256, unit="MiB", minimum=0, maximum=65536)

    @property
    def quarantine(self) -> QuarantineLimits:
        """The limits of the quarantine."""
        return QuarantineLimits(self.quarantine_batches, self.quarantine_mb * 1024 * 1024)


@table
class LoggingSection:
    """What is logged; it goes to standard error."""

    level: str = setting(
        "The least important lines that are written.", default="info", choices=("debug", "info", "warning", "error")
    )
    format: str = setting(
        "How it says it: lines for people and the journal, or one JSON object a line for a log collector.",
        default="text",
        choices=("text", "json"),
    )


@table
class ReceiverConfig:
    """Configuration of a civigate receiver, written by 'civigate-receiver config example'.

    Lines that begin with # and a key show defaults or examples; take the # away to change them. The same for whole
    sections: those whose name is behind a # are not in use. Paths are relative to this file. 'civigate-receiver config
    check FILE' says whether a file is right, 'civigate-receiver config explain FILE' what it means.
    """

    receiver: ReceiverSection
    ledger: LedgerSection
    https: HttpsSection | None = setting("", default=None, example=True)
    mqtt: MqttSection | None = None
    enrolment: EnrolmentSection | None = None
    api: ApiSection | None = setting("", default=None, example=True)
    identity: IdentitySection
    limits: LimitsSection
    logging: LoggingSection

    def __post_init__(self) -> None:
        if self.https is None and self.mqtt is None:
            raise Unfit("https", "neither [https] nor [mqtt] is there", "say how batches come: add one of them")
        if self.enrolment is not None and self.enrolment.certificate is None and self.https is None:
            raise Unfit("enrolment.certificate", "missing, and there is no [https] to take it from", "set it and key")


def load(path: Path) -> ReceiverConfig:
    """Read and check a receiver.toml.

    Raises:
        ConfigError: one line: file, key, what was found, what is expected.
    """
    return settings.load(ReceiverConfig, path)
