# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A frame as a row: the columns, their canonical bytes, and the checksum over them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

from agent.frame import CrcStatus, Frame, Modulation, Session

Fields: TypeAlias = "tuple[Any, ...]"
"""Values of the columns from session to phy_payload."""
Row: TypeAlias = "tuple[int | bytes | None, ...]"
"""Values of the columns of table frame, in their order."""

COLUMNS = (
    "seq, route, session, boottime_us, counter_us, frequency_hz, modulation, bandwidth_hz, datarate, coding_rate, crc, "
    "rssi_ddbm, frequency_offset_hz, if_chain, rf_chain, rssis_ddbm, snr_qdb, fine_timestamp_ns, phy_payload, "
    "row_crc32, note"
)
INSERT = f"INSERT INTO frame ({COLUMNS}) VALUES ({', '.join('?' * (COLUMNS.count(',') + 1))})"  # noqa: S608 - constants
INSERT_PLAIN = INSERT.removesuffix("?)") + "NULL)"
"""Of a row without its note: to bind a NULL costs as much as to bind three numbers."""

WEIGHT_BYTES = 66
"""What a row takes in the file besides its payload, measured over recorded traffic."""
MAX_TIME_US = (1 << 53) - 1
MAX_FINE_NS = (1 << 32) - 1

_FIXED = struct.Struct("<QQIBIIBBhiBBhhqB")
to_fields = attrgetter(
    "session.number",
    "boottime_us",
    "counter_us",
    "frequency_hz",
    "modulation._value_",  # plain integers: sqlite3 looks for an adapter of anything else
    "bandwidth_hz",
    "datarate",
    "coding_rate",
    "crc._value_",
    "rssi_ddbm",
    "frequency_offset_hz",
    "if_chain",
    "rf_chain",
    "rssis_ddbm",
    "snr_qdb",
    "fine_timestamp_ns",
    "phy_payload",
)
"""Take the columns from session to phy_payload from a frame."""
_MODULATIONS = tuple(Modulation)
_CRC_STATES = tuple(CrcStatus)
_NO_LEVEL = -32768
_NO_TIME = -1
SEQ_FACTOR, ROUTE_FACTOR, SESSION_FACTOR = 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35


def _canonical(values: Sequence[int], rssis: int | None, snr: int | None, fine: int | None, payload: bytes) -> bytes:
    return (
        _FIXED.pack(
            *values,
            _NO_LEVEL if rssis is None else rssis,
            _NO_LEVEL if snr is None else snr,
            _NO_TIME if fine is None else fine,
            len(payload),
        )
        + payload
    )


def pack(frame: Frame) -> bytes:
    """Return the canonical bytes of a frame without its session.

    Raises:
        ValueError: a field is outside the range that its column and the batch format have room for.
    """
    return prepare(frame)[1]


def prepare(frame: Frame) -> tuple[Fields, bytes]:
    """Return the columns of a frame from session to phy_payload, and its canonical bytes.

    Raises:
        ValueError: as with `pack`.
    """
    try:
        fields = to_fields(frame)
        _, *values, rssis, snr, fine, payload = fields
        if (
            max(values[0], values[1]) > MAX_TIME_US
            or _NO_LEVEL in (rssis, snr)
            or not (fine is None or 0 <= fine <= MAX_FINE_NS)
        ):
            raise ValueError(f"frame cannot be stored, a value is out of range: {frame}")
        return fields, _canonical(values, rssis, snr, fine, payload)
    except (struct.error, TypeError, AttributeError) as error:
        raise ValueError(f"frame cannot be stored: {error}: {frame}") from error


def unpack(data: bytes, session: Session) -> Frame:
    """Return the frame that `pack` made the bytes of.

    Raises:
        ValueError: the bytes are not from `pack`.
    """
    try:
        (*values, rssis, snr, fine, size) = _FIXED.unpack_from(data)
    except struct.error as error:
        raise ValueError(f"not a frame: {error}") from error
    payload = data[_FIXED.size :]
    if len(payload) != size:
        raise ValueError(f"not a frame: payload of {len(payload)} bytes, expected {size}")
    levels = (None if rssis == _NO_LEVEL else rssis, None if snr == _NO_LEVEL else snr)
    return _frame(session, values, levels, None if fine == _NO_TIME else fine, payload)


def _frame(
    session: Session, values: Sequence[int], levels: tuple[int | None, int | None], fine: int | None, payload: bytes
) -> Frame:
    bt, cu, freq, modulation, bandwidth, datarate, coding_rate, crc, rssi, offset, if_chain, rf_chain = values
    radio = (freq, _MODULATIONS[modulation], bandwidth, datarate, coding_rate, _CRC_STATES[crc], rssi, *levels)
    return Frame(session, bt, cu, *radio, offset, if_chain, rf_chain, payload, fine)


def checksum(seq: int, route: int, session: int, packed: bytes, note: bytes | None = None) -> int:
    """Return the CRC-32 over a whole row.

    It starts from its place: different odd factors make it another start for every single changed bit there, and for
    rows that were exchanged.
    """
    crc = zlib.crc32(packed, seq * SEQ_FACTOR + route * ROUTE_FACTOR + session * SESSION_FACTOR & 0xFFFFFFFF)
    return zlib.crc32(note, crc) if note is not None else crc


def to_row(seq: int, route: int, frame: Frame, packed: bytes, note: bytes | None = None) -> Row:
    """Return the row of a frame; `packed` is what `pack` gave for it."""
    fields = to_fields(frame)
    return (seq, route, *fields, checksum(seq, route, fields[0], packed, note), note)


def with_note(plain: Row, note: bytes) -> Row:
    """Return a row for `INSERT` from one for `INSERT_PLAIN`."""
    *values, payload, check = plain
    assert isinstance(check, int)
    return (*values, payload, zlib.crc32(note, check), note)  # the note comes last in the checksum


class DamagedRowError(ValueError):
    """The columns of a row do not fit its checksum."""

    def __init__(self, seq: int) -> None:
        super().__init__(f"frame {seq} is damaged")
        self.seq = seq


class UnknownSessionError(DamagedRowError):
    """A row is as it was written, but the session it names is not there."""


def from_row(row: Sequence[Any], sessions: Mapping[int, Session]) -> Frame:
    """Return the frame of a row after its checksum has been verified.

    Raises:
        UnknownSessionError: it is, but its session is not known.
        DamagedRowError: the row is not what was written.
    """
    seq, _, session, *values, rssis, snr, fine, payload, _, _ = row
    verify(row)
    try:
        known = sessions[session]
    except KeyError as error:
        raise UnknownSessionError(seq) from error
    try:
        return _frame(known, values, (rssis, snr), fine, payload)
    except (LookupError, TypeError) as error:
        raise DamagedRowError(seq) from error


def frames_of(rows: Sequence[Sequence[Any]], sessions: Mapping[int, Session]) -> tuple[Frame, ...]:
    """Return the frames of rows whose checksums nobody looks at: for whoever holds what comes of them to a hash.

    Raises:
        LookupError, TypeError, ValueError: a row is not what was written.
    """
    if not rows:
        return ()
    _, _, session, *rest, fine, payload, _, _ = zip(*rows, strict=True)
    boottime, counter, frequency, modulation, *rate, crc, rssi, offset, if_chain, rf_chain, rssis, snr = rest
    return tuple(
        map(
            Frame,
            [sessions[number] for number in session],
            *(boottime, counter, frequency),
            [_MODULATIONS[number] for number in modulation],
            *rate,
            [_CRC_STATES[number] for number in crc],
            *(rssi, rssis, snr, offset, if_chain, rf_chain, payload, fine),
        )
    )


def verify(row: Sequence[Any]) -> None:
    """Check a row against its checksum.

    Raises:
        DamagedRowError: the row is not what was written.
    """
    seq, route, session, *values, rssis, snr, fine, payload, check, note = row
    try:
        intact = checksum(seq, route, session, _canonical(values, rssis, snr, fine, payload), note) == check
    except (LookupError, TypeError, struct.error) as error:
        raise DamagedRowError(seq) from error
    if not intact:
        raise DamagedRowError(seq)
