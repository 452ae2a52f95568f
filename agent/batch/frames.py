# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Frames by column.

What repeats stands once: sessions as runs, channels and data rates as tables. What goes on is written as a difference:
times against the frame before, the concentrator's counter against the host's clock, the signal's RSSI against the
channel's. Payloads are laid out so that like stands beside like: message type and device address in a table, frame
control, frame counter and port in planes, and the rest, which is mostly encrypted, behind each other. None of that
depends on what a payload means: any bytes come back as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, groupby, pairwise
from operator import attrgetter
from typing import Final, TypeVar

from agent.batch import column
from agent.batch.cbor import Item
from agent.batch.fields import bad_field, byte_string, members_of, natural, number, sequence, unwritable
from agent.batch.model import MAX_FRAMES, MAX_NUMBER
from agent.frame import CrcStatus, Frame, Modulation, Session

RUNS: Final = 0
CHANNELS: Final = 1
CHANNEL: Final = 2
DATA_RATES: Final = 3
DATA_RATE: Final = 4
BOOTTIME: Final = 5
COUNTER: Final = 6
CRC: Final = 7
RSSI: Final = 8
RSSIS: Final = 9
SNR: Final = 10
OFFSET: Final = 11
FINE: Final = 12
LENGTH: Final = 13
HEADS: Final = 14
HEAD: Final = 15
NECKS: Final = 16
TAILS: Final = 17

HEAD_BYTES: Final = 5
"""Of a data frame: message type and device address."""
NECK_BYTES: Final = 4
"""Of a data frame: frame control, counter and port."""
SPLIT_BYTES: Final = HEAD_BYTES + NECK_BYTES
"""Shorter payloads are not divided."""

_Range = tuple[int, int]
_TIME: Final = (0, MAX_NUMBER)
_BYTE: Final = (0, 0xFF)
_INT16: Final = (-(1 << 15), (1 << 15) - 1)
_INT32: Final = (-(1 << 31), (1 << 31) - 1)
_UINT32: Final = (0, (1 << 32) - 1)
_TIME_DIFFERENCE: Final = (-MAX_NUMBER, MAX_NUMBER)
_TIME_RESIDUAL: Final = (-2 * MAX_NUMBER, 2 * MAX_NUMBER)
_INT16_DIFFERENCE: Final = (-(1 << 16), 1 << 16)

_Row = TypeVar("_Row", tuple[int, ...], bytes)


def encode_frames(frames: Sequence[Frame], boot: Callable[[bytes], int]) -> Item:
    """Write frames.

    Args:
        frames: at least one.
        boot: gives the place of a boot id in the body's table.

    Raises:
        UnwritableError: CG-BAT-020, a value out of range.
    """
    boottimes = _values(frames, "boottime_us", _TIME)
    counters = _values(frames, "counter_us", _TIME)
    runs: list[Item] = []
    elapsed: list[int] = []
    residuals: list[int] = []
    start = 0
    for session, group in groupby(frames, attrgetter("session")):
        end = start + sum(1 for _ in group)
        session_number = natural(session.number, "session number")
        runs.append([boot(session.boot_id), session_number, end - start, boottimes[start], counters[start]])
        steps = [0, *(later - now for now, later in pairwise(boottimes[start:end]))]
        ticks = [0, *(later - now for now, later in pairwise(counters[start:end]))]
        elapsed += steps
        residuals += [tick - step for tick, step in zip(ticks, steps, strict=True)]
        start = end
    channels, channel = _ranked(
        list(
            zip(
                _values(frames, "frequency_hz", _UINT32),
                _values(frames, "if_chain", _BYTE),
                _values(frames, "rf_chain", _BYTE),
                strict=True,
            )
        )
    )
    data_rates, data_rate = _ranked(
        list(
            zip(
                [int(frame.modulation) for frame in frames],
                _values(frames, "bandwidth_hz", _UINT32),
                _values(frames, "datarate", _UINT32),
                _values(frames, "coding_rate", _BYTE),
                strict=True,
            )
        )
    )
    rssis = _values(frames, "rssi_ddbm", _INT16)
    signals = [
        None if signal is None else signal - rssi
        for signal, rssi in zip(_optional_values(frames, "rssis_ddbm", _INT16), rssis, strict=True)
    ]
    item: dict[int | str, Item] = {
        RUNS: runs,
        CHANNELS: _pack_table(channels),
        CHANNEL: column.pack(channel),
        DATA_RATES: _pack_table(data_rates),
        DATA_RATE: column.pack(data_rate),
        BOOTTIME: column.pack(elapsed),
        COUNTER: column.pack(residuals),
        CRC: column.pack([int(frame.crc) for frame in frames]),
        RSSI: column.pack(rssis),
        OFFSET: column.pack(_values(frames, "frequency_offset_hz", _INT32)),
        **_encode_payloads([frame.phy_payload for frame in frames]),
    }
    for key, values in (
        (RSSIS, signals),
        (SNR, _optional_values(frames, "snr_qdb", _INT16)),
        (FINE, _optional_values(frames, "fine_timestamp_ns", _UINT32)),
    ):
        packed = column.pack_optional(values)
        if packed is not None:
            item[key] = packed
    return item


def decode_frames(item: Item, boots: Sequence[bytes]) -> tuple[Frame, ...]:
    """Read what `encode_frames` writes.

    Raises:
        MalformedError: CG-BAT-011.
    """
    members = members_of(item, TAILS, "frames")
    runs = [_decode_run(run, boots) for run in sequence(members.get(RUNS), MAX_FRAMES, "runs")]
    count = sum(length for _, length, _, _ in runs)
    if not 0 < count <= MAX_FRAMES:
        raise bad_field(f"{count} frames, must be 1 to {MAX_FRAMES}", "runs")

    def read(key: int, limits: _Range, where: str) -> list[int]:
        return column.unpack(members.get(key), count, *limits, where=where)

    def read_optional(key: int, limits: _Range, where: str) -> list[int | None]:
        return column.unpack_optional(members.get(key), count, *limits, where=where)

    elapsed = read(BOOTTIME, _TIME_DIFFERENCE, "boottime")
    residuals = read(COUNTER, _TIME_RESIDUAL, "counter")
    sessions: list[Session] = []
    boottimes: list[int] = []
    counters: list[int] = []
    start = 0
    for session, length, first_us, first_counter_us in runs:
        end = start + length
        sessions += [session] * length
        steps = elapsed[start:end]
        ticks = [step + residual for step, residual in zip(steps, residuals[start:end], strict=True)]
        if steps[0] or ticks[0]:
            raise bad_field("the first frame of a run differs from the run", "boottime")
        boottimes += accumulate(steps[1:], initial=first_us)
        counters += accumulate(ticks[1:], initial=first_counter_us)
        start = end
    _within(boottimes, _TIME, "boottime")
    _within(counters, _TIME, "counter")

    channels = _unpack_table(members.get(CHANNELS), (_UINT32, _BYTE, _BYTE), "channels")
    channel = read(CHANNEL, (0, len(channels) - 1), "channel")
    modulations = tuple(Modulation)
    data_rates = _unpack_table(
        members.get(DATA_RATES), ((0, len(modulations) - 1), _UINT32, _UINT32, _BYTE), "data rates"
    )
    data_rate = read(DATA_RATE, (0, len(data_rates) - 1), "data rate")
    states = tuple(CrcStatus)
    crcs = read(CRC, (0, len(states) - 1), "crc")
    rssis = read(RSSI, _INT16, "rssi")
    signals = [
        None if signal is None else signal + rssi
        for signal, rssi in zip(read_optional(RSSIS, _INT16_DIFFERENCE, "rssis"), rssis, strict=True)
    ]
    _within([signal for signal in signals if signal is not None], _INT16, "rssis")
    snrs = read_optional(SNR, _INT16, "snr")
    offsets = read(OFFSET, _INT32, "frequency offset")
    fines = read_optional(FINE, _UINT32, "fine timestamp")
    lengths = read(LENGTH, _BYTE, "length")
    payloads = _decode_payloads(members, lengths)
    return tuple(
        map(
            Frame,
            sessions,
            boottimes,
            counters,
            [channels[place][0] for place in channel],
            [modulations[data_rates[place][0]] for place in data_rate],
            [data_rates[place][1] for place in data_rate],
            [data_rates[place][2] for place in data_rate],
            [data_rates[place][3] for place in data_rate],
            [states[crc] for crc in crcs],
            rssis,
            signals,
            snrs,
            offsets,
            [channels[place][1] for place in channel],
            [channels[place][2] for place in channel],
            payloads,
            fines,
        )
    )


def _decode_run(item: Item, boots: Sequence[bytes]) -> tuple[Session, int, int, int]:
    match item:
        case [boot, session_number, length, first_us, first_counter_us]:
            session = Session(boots[number(boot, len(boots) - 1, "runs")], number(session_number, MAX_NUMBER, "runs"))
            if length == 0:
                raise bad_field("empty run", "runs")
            return (
                session,
                number(length, MAX_FRAMES, "runs"),
                number(first_us, MAX_NUMBER, "runs"),
                number(first_counter_us, MAX_NUMBER, "runs"),
            )
        case _:
            raise bad_field("not [boot, session, length, boottime, counter]", "runs")


def _encode_payloads(payloads: Sequence[bytes]) -> dict[int | str, Item]:
    lengths = [len(payload) for payload in payloads]
    if max(lengths) > _BYTE[1]:
        raise unwritable(f"PHYPayload of {max(lengths)} bytes, at most {_BYTE[1]}")
    item: dict[int | str, Item] = {LENGTH: column.pack(lengths)}
    divided = [payload for payload in payloads if len(payload) >= SPLIT_BYTES]
    if divided:
        heads, head = _ranked([payload[:HEAD_BYTES] for payload in divided])
        item[HEADS] = _transpose(b"".join(heads), HEAD_BYTES)
        item[HEAD] = column.pack(head)
        item[NECKS] = _transpose(b"".join([payload[HEAD_BYTES:SPLIT_BYTES] for payload in divided]), NECK_BYTES)
    item[TAILS] = b"".join([payload[SPLIT_BYTES:] if len(payload) >= SPLIT_BYTES else payload for payload in payloads])
    return item


def _decode_payloads(members: dict[int, Item], lengths: Sequence[int]) -> list[bytes]:
    divided = sum(1 for length in lengths if length >= SPLIT_BYTES)
    fronts: list[bytes] = []
    if divided:
        heads = members.get(HEADS)
        if not isinstance(heads, bytes) or not heads or len(heads) % HEAD_BYTES:
            raise bad_field(f"not a byte string of rows of {HEAD_BYTES}", "heads")
        rows = len(heads) // HEAD_BYTES
        head = column.unpack(members.get(HEAD), divided, 0, rows - 1, where="head")
        necks = byte_string(members.get(NECKS), divided * NECK_BYTES, "necks")
        fronts = [heads[row::rows] + necks[index::divided] for index, row in enumerate(head)]
    elif members.keys() & {HEADS, HEAD, NECKS}:
        raise bad_field("present, but no payload is long enough", "heads")
    sizes = [length - SPLIT_BYTES if length >= SPLIT_BYTES else length for length in lengths]
    tails = byte_string(members.get(TAILS), sum(sizes), "tails")
    front = iter(fronts)
    return [
        next(front) + tails[end - size : end] if length >= SPLIT_BYTES else tails[end - size : end]
        for length, size, end in zip(lengths, sizes, accumulate(sizes), strict=True)
    ]


def _values(frames: Sequence[Frame], name: str, limits: _Range) -> list[int]:
    values: list[int] = list(map(attrgetter(name), frames))
    if min(values) < limits[0] or max(values) > limits[1]:
        raise _out_of_range(name, values, limits)
    return values


def _optional_values(frames: Sequence[Frame], name: str, limits: _Range) -> list[int | None]:
    values: list[int | None] = list(map(attrgetter(name), frames))
    present = [value for value in values if value is not None]
    if present and (min(present) < limits[0] or max(present) > limits[1]):
        raise _out_of_range(name, present, limits)
    return values


def _out_of_range(name: str, values: Sequence[int], limits: _Range) -> Exception:
    wrong = next(value for value in values if not limits[0] <= value <= limits[1])
    return unwritable(f"{name} {wrong}, must be {limits[0]} to {limits[1]}")


def _within(values: Sequence[int], limits: _Range, where: str) -> None:
    if values and (min(values) < limits[0] or max(values) > limits[1]):
        raise bad_field(f"value outside {limits[0]} to {limits[1]}", where)


def _ranked(rows: Sequence[_Row]) -> tuple[list[_Row], list[int]]:
    """Return the different rows in ascending order, and for each row its place among them."""
    different = sorted(set(rows))
    place = {row: index for index, row in enumerate(different)}
    return different, [place[row] for row in rows]


def _pack_table(rows: Sequence[tuple[int, ...]]) -> Item:
    return [len(rows), *(column.pack(values) for values in zip(*rows, strict=True))]


def _unpack_table(item: Item | None, limits: Sequence[_Range], where: str) -> list[tuple[int, ...]]:
    if not isinstance(item, list) or len(item) != 1 + len(limits):
        raise bad_field(f"not [rows, {len(limits)} columns]", where)
    rows = number(item[0], MAX_FRAMES, where)
    if rows == 0:
        raise bad_field("empty table", where)
    columns = (
        column.unpack(packed, rows, low, high, where=where)
        for packed, (low, high) in zip(item[1:], limits, strict=True)
    )
    return list(zip(*columns, strict=True))


def _transpose(data: bytes, width: int) -> bytes:
    """Turn rows of `width` bytes into planes: the first byte of every row, then the second of every row, ..."""
    return b"".join([data[plane::width] for plane in range(width)])
