# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Channel plans: on which frequencies the concentrator listens, and with which of its two radios.

A plan is a TOML file beside this module. Ten demodulation paths ("IF chains") hang on two radios: 0 to 7
receive every spreading factor at 125 kHz, 8 is the LoRa service channel (one spreading factor, any
bandwidth), 9 is FSK. A path listens at most 800 kHz away from the centre of its radio, half its bandwidth
included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drivers.errors import ProfileError
from drivers.profile import Table, open_profile, shipped_names

if TYPE_CHECKING:
    from pathlib import Path

MULTI_SF_CHANNELS: Final = 8
TRANSMIT_BANDS_LIMIT: Final = 16
SMALLEST_DUTY_CYCLE: Final = 0.0001
LONGEST_MS: Final = 60_000
WIDEST_HZ: Final = 2_000_000
MULTI_SF_BANDWIDTH_HZ: Final = 125_000
FSK_BANDWIDTH_HZ: Final = 125_000
SERVICE_BANDWIDTHS_HZ: Final = (125_000, 250_000, 500_000)
SPREADING_FACTORS: Final = tuple(range(5, 13))

RADIO_LOW_HZ: Final = 100_000_000
RADIO_HIGH_HZ: Final = 1_000_000_000
"""Where the vendor's software lets a radio be tuned [HAL 2.1.0]."""

RADIO_REACH_HZ: Final = 800_000
"""Farthest edge of a channel from its radio's centre [HAL 2.1.0]."""

IMAGE_BANDS_HZ: Final = (
    (430_000_000, 440_000_000),
    (470_000_000, 510_000_000),
    (779_000_000, 787_000_000),
    (863_000_000, 870_000_000),
    (902_000_000, 928_000_000),
)
"""Bands the SX1250's image calibration exists for; a centre frequency lies strictly inside one [HAL
2.1.0]."""


@dataclass(frozen=True, slots=True)
class MultiSfChannel:
    """A 125 kHz LoRa channel that receives all spreading factors of the plan.

    Attributes:
        frequency_hz: centre of the channel.
        rf_chain: the radio that serves it, 0 (A) or 1 (B).
    """

    frequency_hz: int
    rf_chain: int


@dataclass(frozen=True, slots=True)
class ServiceChannel:
    """The LoRa channel with one spreading factor and bandwidth.

    Attributes:
        frequency_hz: centre of the channel.
        rf_chain: the radio that serves it, 0 (A) or 1 (B).
        bandwidth_hz: 125000, 250000 or 500000.
        spreading_factor: 5 to 12.
    """

    frequency_hz: int
    rf_chain: int
    bandwidth_hz: int
    spreading_factor: int


@dataclass(frozen=True, slots=True)
class FskChannel:
    """The FSK channel.

    Attributes:
        frequency_hz: centre of the channel.
        rf_chain: the radio that serves it, 0 (A) or 1 (B).
        bitrate_bps: 500 to 250000.
    """

    frequency_hz: int
    rf_chain: int
    bitrate_bps: int


@dataclass(frozen=True, slots=True)
class Listening:
    """Listen before talk: what must be found quiet before a transmission.

    Attributes:
        duration_us: how long to listen, microseconds.
        threshold_dbm: the channel is free below this level.
    """

    duration_us: int
    threshold_dbm: float


@dataclass(frozen=True, slots=True)
class TransmitBand:
    """A band in which transmission is allowed, and on which conditions.

    Bands may overlap: what one of them allows is allowed, for so are rules made (little power without a limit of
    time, or more power for a share of it).

    Attributes:
        low_hz: lower edge; the whole signal must lie above it.
        high_hz: upper edge; the whole signal must lie below it.
        limit_dbm: highest radiated power (EIRP).
        name: as the regulation calls it.
        duty_cycle: share of any hour that may be on the air, above 0 to 1.
        longest_ms: longest single transmission, milliseconds; None without a limit.
        pause_ms: least pause between two transmissions, milliseconds.
        narrowest_hz: least bandwidth of the signal.
        widest_hz: greatest bandwidth of the signal; None without a limit.
        listening: listen before talk; None where it is not asked for.
    """

    low_hz: int
    high_hz: int
    limit_dbm: float
    name: str = ""
    duty_cycle: float = 1.0
    longest_ms: int | None = None
    pause_ms: int = 0
    narrowest_hz: int = 0
    widest_hz: int | None = None
    listening: Listening | None = None

    def __str__(self) -> str:
        """Name and edges, e.g. "band L (865 to 868 MHz)"."""
        edges = f"{self.low_hz / 1e6:.9g} to {self.high_hz / 1e6:.9g} MHz"
        return f"band {self.name} ({edges})" if self.name else f"the band {edges}"


@dataclass(frozen=True, slots=True)
class ChannelPlan:
    """What a concentrator listens to.

    Attributes:
        name: of the profile.
        title: in words.
        source: where the frequencies come from.
        radio_hz: centre frequencies of radio A and B; None leaves a radio off.
        multi_sf: IF chains 0 to 7, at most eight.
        spreading_factors: what the multi-SF channels listen for, 5 to 12.
        service: IF chain 8.
        fsk: IF chain 9.
        public: LoRaWAN's public sync word 0x34; False for the private 0x12.
        transmit: where transmission is allowed; nowhere else.
        transmit_source: where that is written.
    """

    name: str
    title: str
    source: str
    radio_hz: tuple[int | None, int | None]
    multi_sf: tuple[MultiSfChannel, ...]
    spreading_factors: tuple[int, ...]
    service: ServiceChannel | None
    fsk: FskChannel | None
    public: bool
    transmit: tuple[TransmitBand, ...]
    transmit_source: str | None = None

    def __post_init__(self) -> None:
        """Refuse what the chip cannot do.

        Raises:
            ProfileError: a radio or channel is out of reach, or there is nothing to listen to.
        """
        for rf_chain, radio_hz in enumerate(self.radio_hz):
            if radio_hz is not None and not any(low < radio_hz < high for low, high in IMAGE_BANDS_HZ):
                bands = ", ".join(f"{low // 10**6}-{high // 10**6}" for low, high in IMAGE_BANDS_HZ)
                what = f"{radio_hz} Hz has no image calibration"
                raise self._error(f"radio {'AB'[rf_chain]}", what, f"choose a centre inside {bands} MHz")
        if len(self.multi_sf) > MULTI_SF_CHANNELS:
            raise self._error("multi_sf", f"{len(self.multi_sf)} channels", "the chip has eight")
        if not self.spreading_factors:
            raise self._error("lowest_spreading_factor", "no spreading factor at all", "the lowest comes first")
        if not (self.multi_sf or self.service or self.fsk):
            raise self._error("multi_sf", "no channel at all", "name at least one channel")
        for index, channel in enumerate(self.multi_sf):
            self._check_reach(f"multi_sf[{index}]", channel.frequency_hz, channel.rf_chain, MULTI_SF_BANDWIDTH_HZ)
        if self.service:
            s = self.service
            self._check_reach("service", s.frequency_hz, s.rf_chain, s.bandwidth_hz)
        if self.fsk:
            self._check_reach("fsk", self.fsk.frequency_hz, self.fsk.rf_chain, FSK_BANDWIDTH_HZ)

    def if_hz(self, channel: MultiSfChannel | ServiceChannel | FskChannel) -> int:
        """Return how far a channel of this plan lies from the centre of its radio, signed."""
        radio_hz = self.radio_hz[channel.rf_chain]
        assert radio_hz is not None, "checked when the plan was made"
        return channel.frequency_hz - radio_hz

    def _check_reach(self, key: str, frequency_hz: int, rf_chain: int, bandwidth_hz: int) -> None:
        radio_hz = self.radio_hz[rf_chain]
        if radio_hz is None:
            raise self._error(key, f"uses radio {'AB'[rf_chain]}, which is off", "give that radio a centre")
        reach_hz = abs(frequency_hz - radio_hz) + bandwidth_hz // 2
        if reach_hz > RADIO_REACH_HZ:
            what = f"{frequency_hz} Hz ends {reach_hz} Hz from the centre of radio {'AB'[rf_chain]}"
            hint = f"move the radio's centre, or use the other radio: {RADIO_REACH_HZ} Hz is the limit"
            raise self._error(key, what, hint)

    def _error(self, key: str, what: str, hint: str) -> ProfileError:
        where = f"{self.name}: {key}"
        return ProfileError(what, op="check channel plan", where=where, hint=hint, code="CG-PLAN-001")


def plan_names() -> tuple[str, ...]:
    """Return the names of the shipped plans."""
    return shipped_names(__name__)


def load_plan(name_or_path: str | Path) -> ChannelPlan:
    """Load a plan by the name of a shipped profile or by the path of a file.

    A file may name a shipped plan as its `base` and say only what is different; a table or list that it has replaces
    that of the base as a whole.

    Raises:
        ProfileError: no such profile, or it says something the chip cannot do.
    """
    table, name = open_profile(__name__, name_or_path)
    service, fsk = table.table("service"), table.table("fsk")
    plan = ChannelPlan(
        name=name,
        title=table.text("title"),
        source=table.text("source"),
        radio_hz=(_radio(table.table("radio_a")), _radio(table.table("radio_b"))),
        multi_sf=tuple(_multi_sf(entry) for entry in table.tables("multi_sf", MULTI_SF_CHANNELS)),
        spreading_factors=tuple(
            range(
                table.integer("lowest_spreading_factor", 5, 12, 5),
                table.integer("highest_spreading_factor", 5, 12, 12) + 1,
            )
        ),
        service=None if service is None else _service(service),
        fsk=None if fsk is None else _fsk(fsk),
        public=table.boolean("public", default=True),
        transmit=tuple(_band(entry) for entry in table.tables("transmit", TRANSMIT_BANDS_LIMIT)),
        transmit_source=table.optional_text("transmit_source"),
    )
    table.finish()
    return plan


def _radio(table: Table | None) -> int | None:
    if table is None:
        return None
    centre_hz = table.integer("centre_hz", RADIO_LOW_HZ, RADIO_HIGH_HZ)
    table.finish()
    return centre_hz


def _place(table: Table) -> tuple[int, int]:
    frequency_hz = table.integer("frequency_hz", RADIO_LOW_HZ, RADIO_HIGH_HZ)
    return frequency_hz, "AB".index(table.choice("radio", ("A", "B")))


def _multi_sf(table: Table) -> MultiSfChannel:
    channel = MultiSfChannel(*_place(table))
    table.finish()
    return channel


def _band(table: Table) -> TransmitBand:
    low_hz = table.integer("low_hz", RADIO_LOW_HZ, RADIO_HIGH_HZ)
    listening = table.table("listening")
    band = TransmitBand(
        low_hz=low_hz,
        high_hz=table.integer("high_hz", low_hz + 1, RADIO_HIGH_HZ),
        limit_dbm=table.number("limit_dbm", -20, 36),
        name=table.optional_text("name") or "",
        duty_cycle=table.number("duty_cycle", SMALLEST_DUTY_CYCLE, 1, 1.0),
        longest_ms=table.integer("longest_ms", 1, LONGEST_MS) if table.has("longest_ms") else None,
        pause_ms=table.integer("pause_ms", 0, LONGEST_MS, 0),
        narrowest_hz=table.integer("narrowest_hz", 0, WIDEST_HZ, 0),
        widest_hz=table.integer("widest_hz", 1, WIDEST_HZ) if table.has("widest_hz") else None,
        listening=None if listening is None else _listening(listening),
    )
    table.finish()
    return band


def _listening(table: Table) -> Listening:
    listening = Listening(table.integer("duration_us", 1, 1_000_000), table.number("threshold_dbm", -130, 0))
    table.finish()
    return listening


def _service(table: Table) -> ServiceChannel:
    frequency_hz, rf_chain = _place(table)
    bandwidth_hz = table.integer("bandwidth_hz", 125_000, 500_000)
    if bandwidth_hz not in SERVICE_BANDWIDTHS_HZ:
        raise table.error("bandwidth_hz", f"found {bandwidth_hz}", "write 125000, 250000 or 500000")
    spreading_factor = table.integer("spreading_factor", 5, 12)
    table.finish()
    return ServiceChannel(frequency_hz, rf_chain, bandwidth_hz, spreading_factor)


def _fsk(table: Table) -> FskChannel:
    frequency_hz, rf_chain = _place(table)
    bitrate_bps = table.integer("bitrate_bps", 500, 250_000)
    table.finish()
    return FskChannel(frequency_hz, rf_chain, bitrate_bps)
