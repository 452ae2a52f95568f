# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What may be transmitted, judged before anything is programmed.

Frequency and power of the plan's bands, power of the board's steps, ranges of the modulation. Shares of
time (duty cycle, dwell time) are not judged here: they need a history, which a driver that is started anew
does not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.errors import ForbiddenTransmissionError
from drivers.plans import SERVICE_BANDWIDTHS_HZ
from drivers.sx1302.transmission import (
    LONGEST_PAYLOAD_BYTES,
    CarrierTransmission,
    FskTransmission,
    LoraTransmission,
    Transmission,
)

if TYPE_CHECKING:
    from drivers.boards import Board, TxGain
    from drivers.plans import ChannelPlan

SHORTEST_PREAMBLE_SYMBOLS: Final = 6
SHORTEST_PREAMBLE_BYTES: Final = 3
LONGEST_PREAMBLE: Final = 65_535
FSK_BITRATE_BPS: Final = (500, 250_000)
FSK_DEVIATION_HZ: Final = (500, 200_000)
CARRIER_OFFSET_LIMIT_HZ: Final = 200_000


def check(transmission: Transmission, board: Board, plan: ChannelPlan, antenna_gain_dbi: float) -> TxGain:
    """Return the board's power step for a transmission that is allowed.

    The step is the highest that does not exceed the power asked for; below the lowest, the lowest is taken
    if it is within the band's limit.

    Raises:
        ForbiddenTransmissionError: it is not allowed, or no such transmission exists.
    """
    if not board.transmit_gains:
        raise _forbidden("board", f"{board.name} may not transmit", "its profile names no power steps")
    problem = _problem(transmission)
    if problem:
        raise _forbidden("modulation", problem, "correct the transmission")
    half_hz = -(-transmission.bandwidth_hz // 2)
    low_hz, high_hz = transmission.frequency_hz - half_hz, transmission.frequency_hz + half_hz
    limits = [band.limit_dbm for band in plan.transmit if band.low_hz <= low_hz and high_hz <= band.high_hz]
    if not limits:
        what = f"{transmission.frequency_hz} Hz, {transmission.bandwidth_hz} Hz wide, is in no transmit band"
        raise _forbidden("frequency", what, f"plan {plan.name} allows its [[transmit]] bands alone")
    limit_dbm = max(limits)
    if transmission.power_dbm > limit_dbm:
        what = f"{transmission.power_dbm:g} dBm EIRP where {limit_dbm:g} are allowed"
        raise _forbidden("power", what, "lower the power")
    wanted_dbm = transmission.power_dbm - antenna_gain_dbi
    gain = board.transmit_gains[0]
    for step in board.transmit_gains:
        if step.power_dbm <= wanted_dbm:
            gain = step
    if gain.power_dbm + antenna_gain_dbi > limit_dbm:
        what = f"the lowest step radiates {gain.power_dbm + antenna_gain_dbi:g} dBm where {limit_dbm:g} are allowed"
        raise _forbidden("power", what, "this antenna is too strong for this band")
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
