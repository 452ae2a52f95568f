# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The control channel of the virtual concentrator: a line of JSON in, a line of JSON out.

The language is described in `docs/emulator.md`. Nothing that comes in can stop the emulator: what is not understood is
answered with `{"ok": false, "error": ...}`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final, TypeVar, cast

from drivers.emulator.air import FSK_SYNC_WORD, AirPacket
from drivers.emulator.counter import TICKS_PER_US
from drivers.emulator.sx1261 import QUIET_DBM
from drivers.sx1302.packet import CrcStatus, Modulation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    _Json = object
    _Request = Mapping[str, _Json]
    _Answer = dict[str, _Json]

    from drivers.emulator.emulator import Emulator
    from drivers.emulator.tx import Emission

LINE_LIMIT_BYTES: Final = 4 << 20
PACKETS_LIMIT: Final = 10_000
"""Packets in one `inject_many`, entries in one answer to `rxlog`."""

_CODING_RATES: Final = {f"4/{4 + rate}": rate for rate in range(1, 5)}
_CRC: Final = {"ok": CrcStatus.OK, "bad": CrcStatus.BAD, "none": CrcStatus.NONE}
_MODULATIONS: Final = {"LORA": Modulation.LORA, "FSK": Modulation.FSK}
PACKET_KEYS: Final = frozenset(
    (
        *("cmd", "id", "at_us"),
        *("freq_hz", "payload", "rssi_dbm", "crc", "preamble", "sync_word"),
        *("mod", "sf", "bw_hz", "cr", "snr_db", "invert_iq", "datarate"),
    )
)


_NO_FAULT: Final = "none"
_T = TypeVar("_T")


class _RequestError(ValueError):
    """The request cannot be carried out; the text says why."""


def answer(emulator: Emulator, line: bytes) -> bytes:
    """Carry out one request and return the answer, with its newline."""
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise _RequestError("a request is a JSON object")
        result = _carry_out(emulator, request)
    except (ValueError, BlockingIOError, RecursionError) as error:
        # JSON and UTF-8 errors are ValueErrors, too.
        result = {"ok": False, "error": str(error) or type(error).__name__}
    return json.dumps(result, separators=(",", ":")).encode() + b"\n"


def parse_packet(item: _Json) -> tuple[AirPacket, int | None]:
    """Return the packet a JSON object describes, and when it ends (None: its decoding completes now).

    Raises:
        ValueError: a key is missing, unknown, or has a value outside its range.
    """
    if not isinstance(item, dict):
        raise _RequestError("a packet is a JSON object")
    unknown = item.keys() - PACKET_KEYS
    if unknown:
        raise _RequestError(f"unknown key {min(unknown)!r} in a packet")
    modulation = _choice(item, "mod", _MODULATIONS, "LORA")
    lora = modulation is Modulation.LORA
    sync = item.get("sync_word")
    identifier = item.get("id")
    packet = AirPacket(
        freq_hz=_integer(item, "freq_hz"),
        payload=_hexadecimal(item, "payload"),
        modulation=modulation,
        sf=_integer(item, "sf", 7 if not lora else None),
        bw_hz=_integer(item, "bw_hz", 125_000),
        coding_rate=_choice(item, "cr", _CODING_RATES, "4/5"),
        bitrate=_integer(item, "datarate", 50_000),
        rssi_dbm=_number(item, "rssi_dbm", -80.0),
        snr_db=_number(item, "snr_db", 9.0),
        crc=_choice(item, "crc", _CRC, "ok"),
        sync_word=_integer(item, "sync_word") if lora and sync is not None else None,
        fsk_sync=_hexadecimal(item, "sync_word") if not lora and sync is not None else FSK_SYNC_WORD,
        invert_iq=_boolean(item, "invert_iq"),
        preamble=_integer(item, "preamble") if item.get("preamble") is not None else None,
        identifier=str(identifier) if identifier is not None else None,
    )
    return packet, _integer(item, "at_us") if item.get("at_us") is not None else None


def _carry_out(emulator: Emulator, request: _Request) -> _Answer:
    command = request.get("cmd")
    handler = COMMANDS.get(command) if isinstance(command, str) else None
    if handler is None:
        raise _RequestError(f"unknown cmd {command!r}; known: {', '.join(sorted(COMMANDS))}")
    return {"ok": True} | handler(emulator, request)


def _inject(emulator: Emulator, request: _Request) -> _Answer:
    packet, end_us = parse_packet(request)
    done = emulator.inject(packet, end_us=end_us)
    return {
        "id": packet.identifier,
        "rx": done.number,
        "outcome": done.outcome,
        "pending_bytes": done.pending_bytes,
    }


def _inject_many(emulator: Emulator, request: _Request) -> _Answer:
    items = request.get("packets")
    if not isinstance(items, list) or not 0 < len(items) <= PACKETS_LIMIT:
        raise _RequestError(f"packets: a list of 1 to {PACKETS_LIMIT}")
    plan: list[tuple[AirPacket, int | None]] = []
    for index, item in enumerate(items):
        try:
            plan.append(parse_packet(item))
        except ValueError as error:
            raise _RequestError(f"packets[{index}]: {error}") from error
    done = emulator.inject_many(plan)
    return {
        "rx": done[0].number,
        "count": len(done),
        "outcomes": [result.outcome for result in done],
        "pending_bytes": done[-1].pending_bytes,
    }


def _rxlog(emulator: Emulator, request: _Request) -> _Answer:
    entries, following = emulator.rxlog(_integer(request, "since", 0), PACKETS_LIMIT)
    return {
        "next": following,
        "rx": [
            {
                "n": entry.number,
                "id": entry.identifier,
                "outcome": entry.outcome,
                "read": entry.read,
                "end_us": entry.end_us,
                "counter_us": entry.counter_us,
                "counter32_us": None if entry.counter_us is None else entry.counter_us & 0xFFFFFFFF,
            }
            for entry in entries
        ],
    }


def _txlog(emulator: Emulator, _request: _Request) -> _Answer:
    return {"tx": [_emission(emission) for emission in emulator.txlog()]}


def _emission(emission: Emission) -> _Answer:
    start = emission.start_ticks
    return {
        "chain": "AB"[emission.chain],
        "trigger": emission.trigger,
        "mod": emission.modulation,
        "freq_hz": round(emission.freq_hz),
        "agc_tx_pwr": emission.power[0],
        "iq_gain": emission.power[1],
        "payload": emission.payload.hex(),
        "airtime_us": emission.airtime_us,
        "start_us": None if start is None else start / TICKS_PER_US,
        "outcome": emission.outcome,
        **emission.parameters,
    }


def _now(emulator: Emulator, _request: _Request) -> _Answer:
    return {"us": emulator.now_us(), "counter_us": emulator.counter_us()}


def _stats(emulator: Emulator, _request: _Request) -> _Answer:
    stats = emulator.stats()
    return {
        "spi_messages": stats.spi_messages,
        "spi_bytes": stats.spi_bytes,
        "fifo_bytes": stats.fifo_bytes,
        "pending_bytes": stats.pending_bytes,
        "resets": stats.resets,
        "running": stats.running,
        "injected": stats.injected,
        "complaints": stats.complaints,
    }


def _gpio(emulator: Emulator, _request: _Request) -> _Answer:
    return {**emulator.lines(), "high": emulator.high_lines()}


def _complaints(emulator: Emulator, _request: _Request) -> _Answer:
    return {"complaints": emulator.complaints()}


def _devices(emulator: Emulator, _request: _Request) -> _Answer:
    return {
        "devices": [
            {
                "name": device.name,
                "state": device.state,
                "dev_addr": None if device.dev_addr is None else f"{device.dev_addr:08X}",
                **asdict(device.counts),
                "windows": [asdict(window) for window in device.windows],
            }
            for device in emulator.devices()
        ]
    }


def _channel(emulator: Emulator, request: _Request) -> _Answer:
    emulator.set_channel(_number(request, "rssi_dbm", QUIET_DBM))
    return {}


def _fault(emulator: Emulator, request: _Request) -> _Answer:
    parameters = {key: value for key, value in request.items() if key not in {"cmd", "kind"}}
    kind = request.get("kind")
    if kind == _NO_FAULT:
        if parameters:
            raise _RequestError(f"kind {_NO_FAULT!r} takes no parameters")
        emulator.clear_faults()
    elif isinstance(kind, str):
        emulator.fault(kind, **cast("dict[str, int | str]", parameters))
    elif kind is not None or parameters:
        raise _RequestError(f"kind: expected the name of a fault, found {kind!r}")
    return {"faults": emulator.faults()}


COMMANDS: Final[Mapping[str, Callable[[Emulator, _Request], _Answer]]] = {
    "channel": _channel,
    "complaints": _complaints,
    "devices": _devices,
    "fault": _fault,
    "gpio": _gpio,
    "inject": _inject,
    "inject_many": _inject_many,
    "now": _now,
    "rxlog": _rxlog,
    "stats": _stats,
    "txlog": _txlog,
}


def _integer(item: _Request, key: str, default: int | None = None) -> int:
    value = item.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _RequestError(f"{key}: expected a whole number, found {value!r}")
    return value


def _number(item: _Request, key: str, default: float) -> float:
    value = item.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _RequestError(f"{key}: expected a number, found {value!r}")
    return float(value)


def _boolean(item: _Request, key: str) -> bool:
    value = item.get(key, False)
    if not isinstance(value, bool):
        raise _RequestError(f"{key}: expected true or false, found {value!r}")
    return value


def _hexadecimal(item: _Request, key: str) -> bytes:
    value = item.get(key)
    try:
        return bytes.fromhex(cast("str", value))
    except (TypeError, ValueError):
        raise _RequestError(f"{key}: expected hexadecimal digits") from None


def _choice(item: _Request, key: str, choices: Mapping[str, _T], default: str) -> _T:
    value = item.get(key, default)
    if not isinstance(value, str) or value not in choices:
        raise _RequestError(f"{key}: expected one of {', '.join(choices)}, found {value!r}")
    return choices[value]
