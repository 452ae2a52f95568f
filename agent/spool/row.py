# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A frame as a row: the columns, their canonical bytes, and the checksum over them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from operator import attrgetter
from typing import TypeAlias

from agent.frame import CrcStatus, Frame, Modulation, Session

Row: TypeAlias = "tuple[int | bytes | None, ...]"
"""Values of the columns of table frame, in their order."""

Columns: TypeAlias = (
    "tuple[int, int, int, int, int, int, int, int, int, int, int, int, int | None, int | None, int, int, int, "
    "int | None, bytes, int, bytes | None]"
)
"""The same as they come back from an undamaged file."""

COLUMNS = (
    "seq, route, session, boottime_us, counter_us, frequency_hz, modulation, bandwidth_hz, datarate, coding_rate, crc, "
    "rssi_ddbm, rssis_ddbm, snr_qdb, frequency_offset_hz, if_chain, rf_chain, fine_timestamp_ns, phy_payload, "
    "row_crc32, note"
)
INSERT = f"INSERT INTO frame ({COLUMNS}) VALUES ({', '.join('?' * (COLUMNS.count(',') + 1))})"  # noqa: S608 - constants

WEIGHT_BYTES = 66
"""What a row takes in the file besides its payload, measured over recorded traffic."""
MAX_PAYLOAD_BYTES = 255

_MAX_TIME_US = (1 << 53) - 1
_PLACE = struct.Struct("<qQq")
_REST = struct.Struct("<QQIBIIBBhhhiBBqB")
_REST_FIELDS = attrgetter(
    "boottime_us",
    "counter_us",
    "frequency_hz",
    "modulation",
    "bandwidth_hz",
    "datarate",
    "coding_rate",
    "crc",
    "rssi_ddbm",
    "rssis_ddbm",
    "snr_qdb",
    "frequency_offset_hz",
    "if_chain",
    "rf_chain",
    "fine_timestamp_ns",
)
_MODULATIONS = tuple(Modulation)
_CRC_STATES = tuple(CrcStatus)
_NO_LEVEL = -32768
_MAX_FINE_NS = (1 << 32) - 1
_NO_TIME = -1


def pack(frame: Frame) -> bytes:
    """Return the canonical bytes of a frame without its session.

    Raises:
        ValueError: a field is outside the range that its column and the batch format have room for.
    """
    fields = _REST_FIELDS(frame)
    rssis, snr, fine = fields[9], fields[10], fields[14]
    payload = frame.phy_payload
    if fields[0] > _MAX_TIME_US or fields[1] > _MAX_TIME_US or (fine is not None and fine > _MAX_FINE_NS):
        raise ValueError(f"frame cannot be stored, a time is out of range: {frame}")
    if _NO_LEVEL in (rssis, snr) or (fine is not None and fine < 0):
        raise ValueError(f"frame cannot be stored: {frame}")
    try:
        return (
            _REST.pack(
                *fields[:9],
                _NO_LEVEL if rssis is None else rssis,
                _NO_LEVEL if snr is None else snr,
                *fields[11:14],
                _NO_TIME if fine is None else fine,
                len(payload),
            )
            + payload
        )
    except (struct.error, TypeError) as error:
        raise ValueError(f"frame cannot be stored: {error}: {frame}") from error


def unpack(data: bytes, session: Session) -> Frame:
    """Return the frame that `pack` made the bytes of.

    Raises:
        ValueError: the bytes are not from `pack`.
    """
    try:
        (*head, rssis, snr, offset, if_chain, rf_chain, fine, size) = _REST.unpack_from(data)
    except struct.error as error:
        raise ValueError(f"not a frame: {error}") from error
    payload = data[_REST.size :]
    if len(payload) != size:
        raise ValueError(f"not a frame: payload of {len(payload)} bytes, expected {size}")
    return Frame(
        session,
        head[0],
        head[1],
        head[2],
        Modulation(head[3]),
        head[4],
        head[5],
        head[6],
        CrcStatus(head[7]),
        head[8],
        None if rssis == _NO_LEVEL else rssis,
        None if snr == _NO_LEVEL else snr,
        offset,
        if_chain,
        rf_chain,
        payload,
        None if fine == _NO_TIME else fine,
    )


def checksum(seq: int, route: int, session: int, packed: bytes, note: bytes | None) -> int:
    """Return the CRC-32 over a whole row."""
    crc = zlib.crc32(packed, zlib.crc32(_PLACE.pack(seq, route, session)))
    return zlib.crc32(note, crc) if note is not None else crc


def to_row(seq: int, route: int, frame: Frame, packed: bytes, note: bytes | None = None) -> Row:
    """Return the row of a frame; `packed` is what `pack` gave for it."""
    bt, cu, fr, mo, bw, dr, cr, crc, rssi, rssis, snr, fo, ifc, rfc, fine = _REST_FIELDS(frame)
    session = frame.session.number
    return (
        *(seq, route, session, bt, cu, fr, int(mo), bw, dr, cr, int(crc), rssi, rssis, snr, fo, ifc, rfc, fine),
        frame.phy_payload,
        checksum(seq, route, session, packed, note),
        note,
    )


class DamagedRowError(ValueError):
    """The columns of a row do not fit its checksum."""

    def __init__(self, seq: int) -> None:
        super().__init__(f"frame {seq} is damaged")
        self.seq = seq


def from_row(row: Columns, sessions: Mapping[int, Session]) -> Frame:
    """Return the frame of a row after its checksum has been verified.

    Raises:
        DamagedRowError: the row is not what was written.
    """
    seq, route, session, bt, cu, fr, mo, bw, dr, cr, crc, rssi, rssis, snr, fo, ifc, rfc, fine, payload, check, note = (
        row
    )
    try:
        frame = Frame(
            sessions[session],
            *(
                bt,
                cu,
                fr,
                _MODULATIONS[mo],
                bw,
                dr,
                cr,
                _CRC_STATES[crc],
                rssi,
                rssis,
                snr,
                fo,
                ifc,
                rfc,
                payload,
                fine,
            ),
        )
        intact = checksum(seq, route, session, pack(frame), note) == check
    except (LookupError, TypeError, ValueError, struct.error) as error:
        raise DamagedRowError(seq) from error
    if not intact:
        raise DamagedRowError(seq)
    return frame
