# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The configuration of a gateway: what gateway.toml may say, and what its values mean together."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from agent import settings
from agent.batch.keyplace import FilePlace, KeyPlace, TokenPlace, TpmPlace, parse_device
from agent.batch.keys import PublicKey
from agent.batch.model import MAX_FRAMES
from agent.errors import ConfigError
from agent.filter import FilterRules
from agent.local.options import MetricsSection, WebSection
from agent.lorawan import parse_eui
from agent.settings import Unfit, setting, table
from agent.spool.intake import MAX_DESTINATIONS
from agent.uplink import pace
from agent.uplink.pace import QuietHours
from agent.values import parse_name, parse_url
from drivers.boards import load_board
from drivers.errors import ProfileError
from drivers.plans import load_plan
from drivers.sx1302.firmware import SYSTEM_FOLDER

BUSES = ("spi", "usb", "emulator")
SCHEMES = ("https", "mqtts", "mqtt")
_PLACEHOLDER_KEY = "civigate-key:ed25519:REPLACE-THIS-WITH-THE-KEY-OF-YOUR-PLATFORM8"


@dataclass(frozen=True, slots=True)
class Bus:
    """Where a concentrator is attached: kind "spi", "usb" or "emulator", and the path of its device or socket."""

    kind: str
    path: Path

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}"


def parse_bus(text: str) -> Bus:
    """Read "kind:/path".

    Raises:
        ValueError: it is none.
    """
    kind, _, path = text.partition(":")
    if kind not in BUSES:
        raise ValueError(f'unknown kind "{kind}"')
    if not path.startswith("/"):
        raise ValueError("the path does not begin with /")
    return Bus(kind, Path(path))


def _parse_profile(text: str) -> str:
    if "/" in text and not PurePosixPath(text).is_absolute():
        raise ValueError("the path does not begin with /")
    return text


def _parse_receipt_key(text: str) -> PublicKey:
    if text == _PLACEHOLDER_KEY:
        raise ValueError("still the example's placeholder")
    return PublicKey.from_text(text)


def _parse_device_key(text: str) -> TpmPlace | TokenPlace:
    if "pin-value" in text:
        # an error that quotes the value would quote the PIN
        hint = "put it into a file of mode 0600 and name that with pin-source=file:/PATH"
        raise ConfigError("holds a PIN", where="identity: a key's text", hint=hint, code="CG-CFG-005")
    return parse_device(text)


def _parse_any_key(text: str) -> KeyPlace:
    return FilePlace(Path(text)) if text.startswith("/") else _parse_device_key(text)


def _parse_url(text: str) -> str:
    return parse_url(text, SCHEMES)


def _parse_enrolment(text: str) -> str:
    if urlsplit(text).scheme != "https":
        raise ValueError("not https")
    return _parse_url(text)


@table
class GatewaySection:
    """The gateway itself."""

    name: str = setting("What people call it; appears in logs and status.", default="civigate")
    eui: bytes | None = setting(
        "Its EUI-64. Left out, the one that the concentrator chip carries is used.",
        default=None,
        parse=parse_eui,
        expected="an EUI of 16 hex digits",
        example="0016c001ff10a235",
    )
    state_dir: Path = setting(
        "Folder for what must survive: spool, key, firmware. Needs a file system that keeps its promises (ext4).",
        default=Path("/var/lib/civigate"),
    )
    runtime_dir: Path = setting(
        "Folder for what need not survive a power cut: the journal of frames not yet committed. Best in RAM (tmpfs).",
        default=Path("/run/civigate"),
    )


@table
class ConcentratorSection:
    """The radio: how it is attached, and what it listens to."""

    bus: Bus | None = setting(
        "Where the concentrator is attached. Left out: the device that the board profile names, SPI before USB.",
        default=None,
        parse=parse_bus,
        expected='"spi:/dev/spidevX.Y", "usb:/dev/ttyACMN", or "emulator:/path/of/socket" for one that '
        '"civigate emulate" serves',
        example="spi:/dev/spidev0.0",
    )
    board: str = setting(
        "The board that carries the chip: a profile that comes with civigate, or the path of one's own.",
        example="rak_2287",
        parse=_parse_profile,
        expected="a name or a path from /",
    )
    plan: str = setting(
        "Frequencies and data rates it listens to: a plan that comes with civigate, or the path of one's own.",
        default="eu868",
        parse=_parse_profile,
        expected="a name or a path from /",
    )
    firmware_dir: Path | None = setting(
        "Folder with agc.bin and arb.bin, the firmware of the chip's two microcontrollers. "
        "Left out: the folder firmware in state_dir, then /lib/firmware/civigate.",
        default=None,
        example="/var/lib/civigate/firmware",
    )
    antenna_gain_dbi: float = setting(
        "Gain of the antenna less what cable and connectors lose; counts against the power that may be radiated.",
        default=0.0,
        unit="dBi",
        minimum=-20.0,
        maximum=30.0,
    )
    sx1261: Bus | None = setting(
        "Where the board's SX1261 is attached: it listens before a transmission where the plan asks for that, and "
        "measures the noise on the channels. Many boards have none. On USB and emulated, the same as bus.",
        default=None,
        parse=parse_bus,
        expected='"spi:/dev/spidevX.Y", "usb:/dev/ttyACMN", or "emulator:/path/of/socket"',
        example="spi:/dev/spidev0.1",
    )
    fine_timestamps: str = setting(
        "When each packet arrived within its second, to some tens of nanoseconds: for an SX1303 with a GNSS receiver. "
        "Each such packet takes two of the 16 modems; high_capacity leaves SF11 and SF12 with one.",
        default="off",
        choices=("off", "high_capacity", "all_sf"),
    )
    poll_interval_ms: int = setting(
        "Pause between two looks into an empty receive buffer.", default=10, unit="ms", minimum=1, maximum=1000
    )


@table
class SpoolSection:
    """The store on the card: every accepted frame waits here until the platform has signed for it."""

    path: Path | None = setting(
        "The database file. Left out: spool.db in state_dir.", default=None, example="/var/lib/civigate/spool.db"
    )
    commit_window_s: float = setting(
        "The longest a frame waits for its commit, and so the most that a power cut can cost. "
        "Short windows wear the card; 0 commits every frame.",
        default=1.0,
        unit="s",
        minimum=0,
        maximum=60,
    )
    commit_frames: int = setting(
        "Commit at once when so many frames wait.", default=500, unit="frames", minimum=1, maximum=10_000
    )
    quota_mb: int = setting(
        "The most room the spool takes. When it is full, the oldest unsent frames go, with a record of it.",
        default=512,
        unit="MB",
        minimum=8,
        maximum=1_000_000,
    )
    expire_days: int = setting(
        "Give up a frame that no platform has taken for so many days, with a record of it; 0: never. "
        "Only time that the gateway was on counts.",
        default=0,
        unit="days",
        minimum=0,
        maximum=3650,
    )
    batch_frames: int = setting(
        "Seal a batch when so many frames are in it. Large batches cost fewer bytes per frame.",
        default=512,
        unit="frames",
        minimum=1,
        maximum=MAX_FRAMES,
    )
    batch_age_s: float = setting(
        "Seal a batch when its oldest frame is so old.", default=10.0, unit="s", minimum=0.05, maximum=86_400
    )


@table
class CardSection:
    """The card or drive that holds the spool: how much may be written to it.

    Frames share a commit only as long as it takes to stay within this, and never beyond commit_window_s.
    """

    endurance_tb: float = setting(
        "What it is assumed to stand when it is written in small pieces; data sheets name more, for large ones.",
        default=1.0,
        unit="TB",
        minimum=0.001,
        maximum=100_000,
    )
    life_years: float = setting("How long it shall last.", default=10.0, unit="years", minimum=0.1, maximum=100)

    @property
    def daily_bytes(self) -> float:
        """What may be written in a day."""
        return self.endurance_tb * 1e12 / (self.life_years * 365.25)


@table
class IdentitySection:
    """The key with which the gateway signs its batches."""

    key_file: Path | None = setting(
        "The private key, made on first use, readable for its owner only. Left out: gateway.key in state_dir.",
        default=None,
        example="/var/lib/civigate/gateway.key",
    )
    key: TpmPlace | TokenPlace | None = setting(
        "The private key in a TPM 2.0 or a PKCS#11 token, instead of a file; 'civigate identity create' makes it. "
        "Its PIN, where it has one, is in a file of mode 0600, or a systemd credential: never in here.",
        default=None,
        parse=_parse_device_key,
        expected="tpm:0x81000001?pin-source=file:/PATH, or a URI pkcs11:token=NAME;object=NAME?module-path=/PATH"
        "&pin-source=credential:NAME",
        example="tpm:0x81000001",
    )
    previous_key: FilePlace | TpmPlace | TokenPlace | None = setting(
        "The key before that, as long as 'civigate identity show' says that the new one is not known everywhere. "
        "Left out: the file of the key with .previous behind its name, where it is there.",
        default=None,
        parse=_parse_any_key,
        expected="what key takes, or a path from /",
        example="/var/lib/civigate/gateway.key",
    )

    def __post_init__(self) -> None:
        if self.key is not None and self.key_file is not None:
            raise Unfit("key", "found beside key_file", "keep one of the two: a gateway has one key")


@table
class Destination:
    """A platform that gets frames: with a filter, a queue and a chain of batches of its own.

    Repeat [[destination]] for each, with its [destination.filter] behind it.
    """

    name: str = setting(
        "Its name in logs and status; another name is another destination, with a new queue.",
        parse=parse_name,
        expected="1 to 32 of a-z, 0-9 and -",
        example="city",
    )
    url: str = setting(
        "Where its receiver is.",
        parse=_parse_url,
        expected="https://HOST[:PORT][/PATH], mqtts://HOST[:PORT] or mqtt://HOST[:PORT]",
        example="https://platform.example.org",
    )
    fallback_urls: tuple[str, ...] = setting(
        "Other ways to the same platform, such as more brokers of a cluster: tried in this order while url fails.",
        default=(),
        items=(0, 8),
        parse=_parse_url,
        expected="like url, with the same scheme",
        example=["https://platform2.example.org"],
    )
    receipt_key: PublicKey = setting(
        "The platform's public key: only receipts signed with it free the spool.",
        parse=_parse_receipt_key,
        expected="the line that 'civigate-receiver identity show' prints, from civigate-key: on",
        example=_PLACEHOLDER_KEY,
    )
    next_receipt_keys: tuple[PublicKey, ...] = setting(
        "Further keys of the platform, taken as well: while it changes its key, the next one, or the one before.",
        default=(),
        items=(0, 4),
        parse=_parse_receipt_key,
        expected="lines like receipt_key",
        example=["civigate-key:ed25519:O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik"],
    )
    ca_file: Path | None = setting(
        "PEM file with the only authorities trusted to certify the platform. Left out: those of the system.",
        default=None,
        example="platform-ca.pem",
    )
    enrolment: str | None = setting(
        "Where its certificate for this platform is renewed; 'civigate enrol' writes this. Without cert_file, the "
        "gateway shows the certificate that 'civigate enrol' or 'civigate identity install' brought, if one did.",
        default=None,
        parse=_parse_enrolment,
        expected="https://HOST[:PORT]",
        example="https://platform.example.org:8444",
    )
    cert_file: Path | None = setting(
        "PEM file with the certificate the gateway shows.", default=None, example="gateway-cert.pem"
    )
    key_file: Path | None = setting(
        "PEM file with the key of that certificate. Left out: it is in cert_file.",
        default=None,
        example="gateway-key.pem",
    )
    user: str | None = setting("MQTT: user name.", default=None, example="gateway-17")
    password_file: Path | None = setting(
        "MQTT: file whose first line is the password.", default=None, example="mqtt-password"
    )
    mqtt_version: str = setting("MQTT: version of the protocol.", default="5", choices=("5", "3.1.1"))
    window: int = setting(
        "MQTT: the most batches on the way at a time. HTTPS carries one.",
        default=8,
        unit="batches",
        minimum=1,
        maximum=64,
    )
    quota_share: int = setting(
        "Its share of the spool's quota, in relation to those of the others.", default=1, minimum=1, maximum=100
    )
    connect_timeout_s: float = setting(
        "How long to wait for a connection, and again for TLS.", default=10.0, unit="s", minimum=1, maximum=120
    )
    answer_timeout_s: float = setting(
        "How long to wait for an answer after the last sign of life.",
        default=20.0,
        unit="s",
        minimum=1,
        maximum=300,
    )
    keepalive_s: int = setting(
        "MQTT: probe the link after so much silence; a dead one is noticed within twice this.",
        default=30,
        unit="s",
        minimum=5,
        maximum=3600,
    )
    backlog_kb_s: float | None = setting(
        "The most that batches from before the link came up take of it; what is heard now goes beside them at once. "
        "Left out: as fast as the link is.",
        default=None,
        unit="kB/s",
        minimum=0.1,
        maximum=1_000_000,
        example=4.0,
    )
    quiet_hours: tuple[QuietHours, ...] = setting(
        "Hours of each day, by the gateway's time zone, in which only what is heard now travels.",
        default=(),
        parse=QuietHours.parse,
        expected='times of day like "06:30-22:00"',
        example=["06:30-22:00"],
    )
    data_plan_mb: int | None = setting(
        "What may travel in a calendar month (UTC), both ways, TLS included, headers of TCP and IP not. "
        "The last tenth is for what is heard now; after it, everything waits for the next month.",
        default=None,
        unit="MB",
        minimum=1,
        maximum=10_000_000,
        example=500,
    )
    filter: FilterRules

    @property
    def scheme(self) -> str:
        """The scheme of the URL."""
        return urlsplit(self.url).scheme

    @property
    def rules(self) -> pace.Rules:
        """What it may cost to bring batches there."""
        rate = None if self.backlog_kb_s is None else self.backlog_kb_s * 1000
        plan = None if self.data_plan_mb is None else self.data_plan_mb * 1_000_000
        return pace.Rules(rate, plan, self.quiet_hours)

    @property
    def receipt_keys(self) -> tuple[PublicKey, ...]:
        """All keys that its receipts may be signed with."""
        return (self.receipt_key, *self.next_receipt_keys)

    @property
    def urls(self) -> tuple[str, ...]:
        """All ways to it, in the order of preference."""
        return (self.url, *self.fallback_urls)

    def __post_init__(self) -> None:
        for url in self.fallback_urls:
            if urlsplit(url).scheme != self.scheme:
                raise Unfit("fallback_urls", f'found "{url}", but url says {self.scheme}:', "use one scheme for all")
        for key in ("ca_file", "cert_file", "key_file"):
            if self.scheme == "mqtt" and getattr(self, key) is not None:
                what = "found a file for TLS, but the url says mqtt:, which is MQTT without TLS"
                raise Unfit(key, what, "write mqtts: in the url, or leave the file out")
        if self.enrolment is not None and self.cert_file is not None:
            what = "found a certificate of one's own besides enrolment, which brings one"
            raise Unfit("cert_file", what, "take cert_file and key_file out, or enrolment")
        if self.key_file is not None and self.cert_file is None:
            raise Unfit("key_file", "found a key without a certificate", "set cert_file too")
        for key in ("user", "password_file"):
            if self.scheme == "https" and getattr(self, key) is not None:
                raise Unfit(key, "found a login for MQTT, but the url says https:", "use cert_file, or MQTT")
        if self.password_file is not None and self.user is None:
            raise Unfit("password_file", "found a password without a user", "set user too")


@table
class GnssSection:
    """A GNSS receiver whose pulse (PPS) leads to the concentrator, as on most boards: exact time without a network.

    Its serial port must be free: no console on it, no gpsd.
    """

    device: Path | None = setting("Its serial port. Left out: none is used.", default=None, example="/dev/serial0")
    baud: int = setting(
        "Rate at which it speaks; if it does not, others are tried.",
        default=9600,
        unit="baud",
        minimum=1200,
        maximum=921_600,
    )
    pulse_delay_ns: int = setting(
        "How much later than the second its pulse reaches the concentrator: antenna cable (5 ns per metre), receiver.",
        default=0,
        unit="ns",
        minimum=-1_000_000,
        maximum=1_000_000,
    )


@table
class LoggingSection:
    """What the service says."""

    level: str = setting(
        "The least important messages that are shown.",
        default="info",
        choices=("debug", "info", "warning", "error"),
    )
    format: str = setting(
        "How it says it: lines for people and the journal, or one JSON object a line for a log collector.",
        default="text",
        choices=("text", "json"),
    )


@table
class GatewayConfig:
    """Configuration of a civigate gateway, written by 'civigate config example'.

    Lines that begin with # and a key show defaults or examples; take the # away to change them. Paths are relative to
    this file. 'civigate config check FILE' says whether a file is right, 'civigate config explain FILE' what it means.
    """

    gateway: GatewaySection
    concentrator: ConcentratorSection
    spool: SpoolSection
    card: CardSection
    identity: IdentitySection
    gnss: GnssSection
    logging: LoggingSection
    web: WebSection
    metrics: MetricsSection
    destination: tuple[Destination, ...] = setting("", items=(0, MAX_DESTINATIONS))

    @property
    def spool_path(self) -> Path:
        """The spool's database file."""
        return self.spool.path or self.gateway.state_dir / "spool.db"

    @property
    def key_path(self) -> Path:
        """The file of the gateway's private key."""
        return self.identity.key_file or self.gateway.state_dir / "gateway.key"

    @property
    def key_place(self) -> KeyPlace:
        """Where the gateway's private key is."""
        return self.identity.key or FilePlace(self.key_path)

    @property
    def firmware_dirs(self) -> tuple[Path, ...]:
        """The folders that may have the firmware images; the first is where an import puts them."""
        if self.concentrator.firmware_dir is not None:
            return (self.concentrator.firmware_dir,)
        return self.gateway.state_dir / "firmware", SYSTEM_FOLDER

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for number, destination in enumerate(self.destination, 1):
            if destination.name in seen:
                key = f"destination[{number}].name"
                raise Unfit(key, f'found "{destination.name}" a second time', "give each destination a name of its own")
            seen.add(destination.name)


def digest(config: GatewayConfig) -> str:
    """Return 16 hexadecimal digits that are others where a setting is another; comments do not count."""
    return hashlib.sha256(repr(config).encode()).hexdigest()[:16]


def load(path: Path) -> GatewayConfig:
    """Read and check gateway.toml, and that there are the board and the plan that it names.

    Raises:
        ConfigError: it cannot be used; one line says where, what was found and what is expected.
    """
    config = settings.load(GatewayConfig, path)
    profiles: tuple[tuple[str, Callable[[], object]], ...] = (
        ("board", lambda: load_board(config.concentrator.board)),
        ("plan", lambda: load_plan(config.concentrator.plan)),
    )
    for key, read in profiles:
        try:
            read()
        except ProfileError as error:
            where = f"{path}: concentrator.{key}"
            what = f"{error.where}: {error.what}"
            raise ConfigError(what, where=where, hint=error.hint, code="CG-CFG-008") from error
    return config
