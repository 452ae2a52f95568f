# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What may be transmitted, judged before anything is programmed.

Frequency, bandwidth, power and length of the plan's bands; power of the board's steps; ranges of the modulation. Shares
of time need a history: that is the ledger's part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drivers.errors import ForbiddenTransmissionError
from drivers.plans import SERVICE_BANDWIDTHS_HZ
from drivers.sx1302.airtime import airtime_us
from drivers.sx1302.ledger import AirtimeLedger, share_us
from drivers.sx1302.transmission import (
    LONGEST_PAYLOAD_BYTES,
    CarrierTransmission,
    FskTransmission,
    LoraTransmission,
    Transmission,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drivers.boards import Board, TxGain
    from drivers.plans import ChannelPlan, TransmitBand

SHORTEST_PREAMBLE_SYMBOLS: Final = 6
SHORTEST_PREAMBLE_BYTES: Final = 3
LONGEST_PREAMBLE: Final = 65_535
FSK_BITRATE_BPS: Final = (500, 250_000)
FSK_DEVIATION_HZ: Final = (500, 200_000)
CARRIER_OFFSET_LIMIT_HZ: Final = 200_000


@dataclass(frozen=True, slots=True)
class Permit:
    """A transmission that is allowed, as far as its past does not speak against it.

    Attributes:
        gain: the board's power step.
        bands: those whose conditions it meets; one of them is enough.
        low_hz: lower edge of the signal.
        high_hz: upper edge of the signal.
        airtime_us: how long it lasts; None for a carrier, which lasts until it is aborted.
    """

    gain: TxGain
    bands: tuple[TransmitBand, ...]
    low_hz: int
    high_hz: int
    airtime_us: int | None


def check(
    transmission: Transmission, board: Board, plan: ChannelPlan, antenna_gain_dbi: float, *, listens: bool = False
) -> Permit:
    """Return what a transmission is allowed by, and the board's power step for it.

    The step is the highest that does not exceed the power asked for; below the lowest, the lowest is taken
    if it is within the band's limit.

    Args:
        transmission: to be judged.
        board: says which steps of power there are.
        plan: says what is allowed.
        antenna_gain_dbi: of antenna less cable.
        listens: the channel is listened to before.

    Raises:
        ForbiddenTransmissionError: it is not allowed, or no such transmission exists.
    """
    if not board.transmit_gains:
        raise _forbidden("board", f"{board.name} may not transmit", "its profile names no power steps")
    if plan.radio_hz[board.transmit_radio] is None:
        radio = "AB"[board.transmit_radio]
        what = f"radio {radio}, which transmits on {board.name}, is off in plan {plan.name}"
        raise _forbidden("radio", what, "give that radio a centre in the plan")
    problem = _problem(transmission)
    if problem:
        raise _forbidden("modulation", problem, "correct the transmission")
    half_hz = -(-transmission.bandwidth_hz // 2)
    low_hz, high_hz = transmission.frequency_hz - half_hz, transmission.frequency_hz + half_hz
    bands: Sequence[TransmitBand] = [
        band for band in plan.transmit if band.low_hz <= low_hz and high_hz <= band.high_hz
    ]
    if not bands:
        what = f"{transmission.frequency_hz} Hz, {transmission.bandwidth_hz} Hz wide, is in no transmit band"
        raise _forbidden("frequency", what, f"plan {plan.name} allows its [[transmit]] bands alone")
    bands = _of_bandwidth(bands, transmission.bandwidth_hz)
    if not listens:
        bands = _without_listening(bands)
    bands = _of_power(bands, transmission.power_dbm)
    if isinstance(transmission, CarrierTransmission):
        duration_us, bands = None, _without_end(bands)
    else:
        duration_us = airtime_us(transmission)
        bands = _of_length(bands, duration_us)
    gain = _step(board, transmission.power_dbm - antenna_gain_dbi)
    radiated_dbm = gain.power_dbm + antenna_gain_dbi
    fit = tuple(band for band in bands if radiated_dbm <= band.limit_dbm)
    if not fit:
        limit_dbm = max(band.limit_dbm for band in bands)
        what = f"the lowest step radiates {radiated_dbm:g} dBm where {limit_dbm:g} are allowed"
        raise _forbidden("power", what, "this antenna is too strong for this band")
    return Permit(gain, fit, low_hz, high_hz, duration_us)


def check_past(permit: Permit, ledger: AirtimeLedger, now_ns: int, start_ns: int) -> TransmitBand:
    """Return the band that has room for a transmission.

    Args:
        permit: what `check` said.
        ledger: of the plan's bands.
        now_ns: CLOCK_MONOTONIC_RAW.
        start_ns: when it begins.

    Raises:
        ForbiddenTransmissionError: none has; says when the first will have.
    """
    airtime = permit.airtime_us or 0
    refusals = []
    for band in permit.bands:
        free_ns = ledger.check(band, now_ns, start_ns, airtime)
        if free_ns is None:
            return band
        refusals.append((free_ns, band))
    free_ns, band = min(refusals, key=lambda refusal: refusal[0])
    wait_s = max(-(-(free_ns - now_ns) // 1_000_000_000), 0)
    used_us = ledger.used_us(band, now_ns)
    if band.duty_cycle < 1 and used_us + airtime > share_us(band):
        what = (
            f"{band} allows {band.duty_cycle * 100:.4g} % of each hour, which is {share_us(band) / 1e6:g} s: "
            f"{used_us / 1e6:.3f} s are used, and this takes {airtime / 1e6:.3f} s; it is free again in {wait_s} s"
        )
    else:
        what = f"{band} asks for a pause of {band.pause_ms} ms between transmissions; it is free again in {wait_s} s"
    raise ForbiddenTransmissionError(
        what,
        op="transmit",
        where="duty cycle",
        hint="send less, or on another frequency",
        code="CG-TX-005",
        retryable=True,
    )


def _of_bandwidth(bands: Sequence[TransmitBand], bandwidth_hz: int) -> Sequence[TransmitBand]:
    def fits(band: TransmitBand) -> bool:
        return band.narrowest_hz <= bandwidth_hz <= (band.widest_hz or bandwidth_hz)

    def why(band: TransmitBand) -> str:
        bound = f"from {band.narrowest_hz}" if band.narrowest_hz > bandwidth_hz else f"up to {band.widest_hz}"
        return f"{bandwidth_hz} Hz wide where {band} allows {bound} Hz"

    return _those(bands, fits, "bandwidth", why, "use another bandwidth")


def _without_listening(bands: Sequence[TransmitBand]) -> Sequence[TransmitBand]:
    def why(band: TransmitBand) -> str:
        return f"{band} asks for listening before talking, which is not done here"

    hint = "this region needs a board with an SX1261, and that switched on in the configuration"
    return _those(bands, lambda band: band.listening is None, "listening", why, hint)


def _of_power(bands: Sequence[TransmitBand], power_dbm: float) -> Sequence[TransmitBand]:
    limit_dbm = max(band.limit_dbm for band in bands)

    def why(band: TransmitBand) -> str:
        return f"{power_dbm:g} dBm EIRP where {limit_dbm:g} are allowed in {band}"

    return _those(bands, lambda band: power_dbm <= band.limit_dbm, "power", why, "lower the power")


def _without_end(bands: Sequence[TransmitBand]) -> Sequence[TransmitBand]:
    def fits(band: TransmitBand) -> bool:
        return band.longest_ms is None and band.duty_cycle >= 1

    def why(band: TransmitBand) -> str:
        return f"a carrier lasts until it is aborted, and {band} limits the time on the air"

    return _those(
        bands, fits, "carrier", why, "measure in a shielded room, with a plan of your own that has no such limit"
    )


def _of_length(bands: Sequence[TransmitBand], duration_us: int) -> Sequence[TransmitBand]:
    def longest_us(band: TransmitBand) -> int:
        return min(share_us(band), band.longest_ms * 1000 if band.longest_ms is not None else share_us(band))

    def why(band: TransmitBand) -> str:
        return f"{duration_us / 1000:.1f} ms on the air where {band} allows {longest_us(band) / 1000:g} ms at a time"

    hint = "use a lower spreading factor or a shorter payload"
    return _those(bands, lambda band: duration_us <= longest_us(band), "length", why, hint)


def _those(
    bands: Sequence[TransmitBand],
    fits: Callable[[TransmitBand], bool],
    where: str,
    why: Callable[[TransmitBand], str],
    hint: str,
) -> Sequence[TransmitBand]:
    fit = [band for band in bands if fits(band)]
    if not fit:
        raise _forbidden(where, why(bands[-1]), hint)
    return fit


def _step(board: Board, wanted_dbm: float) -> TxGain:
    gain = board.transmit_gains[0]
    for step in board.transmit_gains:
        if step.power_dbm <= wanted_dbm:
            gain = step
    return gain


def _problem(transmission: Transmission) -> str | None:
    """Say what the chip cannot do about a transmission."""
    if isinstance(transmission, CarrierTransmission):
        offset_hz = transmission.offset_hz
        return None if 0 < abs(offset_hz) <= CARRIER_OFFSET_LIMIT_HZ else f"carrier offset {offset_hz} Hz"
    if len(transmission.payload) > LONGEST_PAYLOAD_BYTES:
        return f"payload of {len(transmission.payload)} bytes"
    return _lora_problem(transmission) if isinstance(transmission, LoraTransmission) else _fsk_problem(transmission)


def _lora_problem(transmission: LoraTransmission) -> str | None:
    if transmission.bandwidth_hz not in SERVICE_BANDWIDTHS_HZ:
        return f"bandwidth {transmission.bandwidth_hz} Hz"
    if not 5 <= transmission.spreading_factor <= 12:
        return f"spreading factor {transmission.spreading_factor}"
    if not 1 <= transmission.coding_rate <= 4:
        return f"coding rate {transmission.coding_rate}"
    if not SHORTEST_PREAMBLE_SYMBOLS <= transmission.preamble_symbols <= LONGEST_PREAMBLE:
        return f"preamble of {transmission.preamble_symbols} symbols"
    return None


def _fsk_problem(transmission: FskTransmission) -> str | None:
    if not FSK_BITRATE_BPS[0] <= transmission.bitrate_bps <= FSK_BITRATE_BPS[1]:
        return f"{transmission.bitrate_bps} bit/s"
    if not FSK_DEVIATION_HZ[0] <= transmission.deviation_hz <= FSK_DEVIATION_HZ[1]:
        return f"deviation {transmission.deviation_hz} Hz"
    if not SHORTEST_PREAMBLE_BYTES <= transmission.preamble_bytes <= LONGEST_PREAMBLE:
        return f"preamble of {transmission.preamble_bytes} bytes"
    return None


def _forbidden(where: str, what: str, hint: str) -> ForbiddenTransmissionError:
    return ForbiddenTransmissionError(what, op="transmit", where=where, hint=hint, code="CG-TX-001")
