# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Recorded receptions, to be heard again: JSON lines, perhaps compressed with xz.

Each line is what some gateway received: `ts` (UTC, when it was received), `phy` (PHYPayload in hexadecimal), `freq`
(Hz), `mod` (LORA, FSK), `sf`, `bw` (Hz), `cr`, `rssi`, `snr`, `crc` (1 right, -1 wrong, 0 none), `dir` (up, down). `ts`
and `phy` are needed, and `sf` for LoRa; what else is not known is left out, and keys of other names do not matter.
Lines with `dir` down are passed over: a gateway does not hear them.

What has been received once is received again: levels are those of the record, and the medium is not asked. A line
without `freq` gets a channel by its last byte. A record without the first byte (`phy_from_byte1`) gets the one of
an unconfirmed uplink.
"""

from __future__ import annotations

import json
import lzma
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from drivers.emulator.air import AirPacket
from drivers.errors import ProfileError
from drivers.sx1302.packet import CrcStatus, Modulation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    _Row = dict[str, object]

LINE_LIMIT_BYTES: Final = 16_384
LINES_LIMIT: Final = 200_000
"""Receptions that are kept in memory."""

_CHANNELS_HZ: Final = tuple(range(867_100_000, 868_600_000, 200_000))
_UNCONFIRMED_UP: Final = b"\x40"
_CODING_RATES: Final = {f"4/{4 + rate}": rate for rate in range(1, 5)}
_CRC: Final = {1: CrcStatus.OK, -1: CrcStatus.BAD, 0: CrcStatus.NONE}
_MODULATIONS: Final = {"LORA": Modulation.LORA, "FSK": Modulation.FSK}
_MICROSECOND: Final = timedelta(microseconds=1)
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
_LARGEST: Final = 1e12
_SHOWN: Final = 60
_K = TypeVar("_K", str, int)
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A reception.

    Attributes:
        after_us: since the first of the record.
        packet: what was received.
    """

    after_us: int
    packet: AirPacket


class _LineError(ValueError):
    """The line cannot be played; the text says why."""


def load_recording(path: Path) -> Sequence[Recorded]:
    """Read a record as a whole, so that what is wrong with it is said before it is played.

    Raises:
        ProfileError: it cannot be read, is too long, or a line makes no sense.
    """
    receptions: list[Recorded] = []
    first: datetime | None = None
    latest = _EARLIEST
    number = 0
    try:
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
            for number, line in _lines(file):
                row = _row(line)
                if row.get("dir", "up") != "up":
                    continue
                at = _time(row, latest)
                first, latest = first or at, at
                receptions.append(Recorded((at - first) // _MICROSECOND, _packet(row, f"{path.name}:{number}")))
    except OSError as error:
        raise _unusable(str(path), f"cannot be read: {error.strerror or error}", "check the path") from error
    except (lzma.LZMAError, EOFError) as error:
        raise _unusable(f"{path}:{number + 1}", f"damaged: {error}", "copy the file again") from error
    except _LineError as error:
        raise _unusable(f"{path}:{number}", str(error), "correct or remove the line") from error
    if not receptions:
        raise _unusable(str(path), "no reception in it", "check the path")
    return receptions


def _lines(file: BinaryIO | lzma.LZMAFile) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(LINE_LIMIT_BYTES + 1):
        number += 1
        if len(line) > LINE_LIMIT_BYTES or number > LINES_LIMIT:
            yield number, b""
        if line.strip():
            yield number, line


def _row(line: bytes) -> _Row:
    if not line:
        raise _LineError(f"longer than {LINE_LIMIT_BYTES} bytes, or more than {LINES_LIMIT} lines")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise _LineError("not JSON") from None
    if not isinstance(row, dict):
        raise _LineError("not a JSON object")
    return row


def _time(row: _Row, not_before: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(str(row["ts"]))
    except KeyError:
        raise _LineError("ts: missing") from None
    except ValueError:
        raise _LineError(f"ts: expected a time like 2023-01-04T21:31:22.173Z, found {_shown(row['ts'])}") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if at < not_before:
        raise _LineError(f"ts: {_shown(row['ts'])} is before that of the line above")
    return at


def _packet(row: _Row, identifier: str) -> AirPacket:
    payload = _payload(row)
    modulation = _choice(row, "mod", _MODULATIONS, "LORA")
    lora = modulation is Modulation.LORA
    fallback_hz = _CHANNELS_HZ[payload[-1] % len(_CHANNELS_HZ)] if payload else _CHANNELS_HZ[0]
    try:
        return AirPacket(
            freq_hz=round(_number(row, "freq", fallback_hz)),
            payload=payload,
            modulation=modulation,
            sf=round(_number(row, "sf", None if lora else 7)),
            bw_hz=round(_number(row, "bw", 125_000)),
            coding_rate=_choice(row, "cr", _CODING_RATES, "4/5"),
            rssi_dbm=_number(row, "rssi", -80.0),
            snr_db=_number(row, "snr", 9.0),
            crc=_choice(row, "crc", _CRC, 1),
            identifier=identifier,
        )
    except _LineError:
        raise
    except ValueError as error:
        raise _LineError(str(error)) from None


def _payload(row: _Row) -> bytes:
    for key, first in (("phy", b""), ("phy_from_byte1", _UNCONFIRMED_UP)):
        if key in row:
            try:
                return first + bytes.fromhex(str(row[key]))
            except ValueError:
                raise _LineError(f"{key}: expected hexadecimal digits") from None
    raise _LineError("phy: missing")


def _number(row: _Row, key: str, default: float | None) -> float:
    value = row.get(key, default)
    if value is None:
        raise _LineError(f"{key}: missing")
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        raise _LineError(f"{key}: expected a number, found {_shown(value)}")
    return value


def _choice(row: _Row, key: str, choices: dict[_K, _V], default: _K) -> _V:
    value = row.get(key, default)
    for known, meaning in choices.items():
        if value == known and not isinstance(value, bool):
            return meaning
    raise _LineError(f"{key}: expected one of {', '.join(map(str, choices))}, found {_shown(value)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _unusable(where: str, what: str, hint: str) -> ProfileError:
    return ProfileError(what, op="load recording", where=where, hint=hint, code="CG-EMU-020")
