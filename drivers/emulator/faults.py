# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What can go wrong with a concentrator, on demand.

A fault stays until it is cleared, or for a number of occurrences where it says `times`. Two end otherwise: a brown-out
is over as soon as it has happened, and a stall ends with a chip reset, or once both microcontrollers were loaded anew
(whether that helps on silicon is unknown, so it can be chosen).

Each is modelled on what users of the chip have reported, or on what the vendor's software guards against; the field
signatures are those of the reports.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drivers.emulator.chip import Chip
    from drivers.emulator.header import Stts751

FOREVER: Final = 1 << 62
USB_FAULTS: Final = ("stall", "short", "refuse")
"""The bridge gives no answer, half of one, or a command error."""

STALL_CURES: Final = ("reset", "reload")

_GARBAGE: Final = bytes.fromhex("5a00ffa5a5c1175a")
_TRUNCATED_BYTES: Final = 5
_SIZE_AT: Final = 2
_MODEM_AT: Final = 5
_CRC16_BEHIND_PAYLOAD: Final = 19
_IMPOSSIBLE_MODEM: Final = 0x1F
_STALLED_AGC: Final = 0x14


@dataclass(slots=True)
class Faults:
    """What is wrong right now.

    Attributes:
        names: kinds of the faults that are active, for whoever asks.
        miso: what the data line is stuck at, 0x00 or 0xFF.
        bus_error: errno that transfers fail with; bus_errors_left: how many more.
        version: what the version register reads.
        stalled: reception has died, everything else looks alive.
        flipped: (address, mask) of the program memory that reads back wrong.
        torn_fill_left: readings of the fill level that will be torn; torn_counter_left: of the counter.
        damage: what happens to the next frames on their way into the FIFO; damage_left: to how many.
        overflows_left: frames that find the FIFO full.
        usb: what happens to the next answers of the USB bridge; usb_left: to how many.
        unplugged: the USB bridge is not there.
    """

    names: set[str] = field(default_factory=set)
    miso: int | None = None
    bus_error: int = 0
    bus_errors_left: int = 0
    version: int | None = None
    stalled: bool = False
    flipped: tuple[int, int] | None = None
    torn_fill_left: int = 0
    torn_counter_left: int = 0
    damage: Callable[[bytes], bytes] | None = None
    damage_name: str = ""
    damage_left: int = 0
    overflows_left: int = 0
    usb: str = ""
    usb_left: int = 0
    unplugged: bool = False

    @property
    def on_bus(self) -> bool:
        """Whether transfers need a second look."""
        return self.miso is not None or self.bus_errors_left > 0


class FaultError(ValueError):
    """A fault that is not known, or a parameter it does not take; the text says which are."""


def set_fault(chip: Chip, sensor: Stts751 | None, now_ns: int, kind: str, parameters: Mapping[str, int | str]) -> None:
    """Make something go wrong.

    Args:
        chip: whose hardware it is.
        sensor: the temperature sensor, if there is one.
        now_ns: the emulator's time.
        kind: name of the fault.
        parameters: what it takes.

    Raises:
        FaultError: unknown kind or parameter.
    """
    entry = KINDS.get(kind)
    if entry is None:
        raise FaultError(f"unknown fault {kind!r}; known: {', '.join(sorted(KINDS))}")
    unknown = parameters.keys() - entry.parameters.keys()
    if unknown:
        takes = ", ".join(entry.parameters) or "none"
        raise FaultError(f"fault {kind}: unknown parameter {min(unknown)!r}; it takes {takes}")
    values = {**entry.parameters, **parameters}
    for name, value in values.items():
        if type(value) is not type(entry.parameters[name]):
            raise FaultError(f"fault {kind}: {name} {value!r}: expected like {entry.parameters[name]!r}")
    entry.apply(_Place(chip, sensor, now_ns), values)
    if not entry.momentary:
        chip.faults.names.add(kind)


def clear_faults(chip: Chip, sensor: Stts751 | None, now_ns: int) -> None:
    """Make all whole again; what a fault has already done stays done."""
    stalled = chip.faults.stalled
    chip.faults = Faults(stalled=stalled, names={"stall"} if stalled else set())
    if not stalled:
        chip.agc.stuck_status = None
    chip.agc.silent = chip.arb.silent = False
    for radio in chip.radios:
        radio.fail_image_calibration = radio.missing = False
    chip.update_clock()
    for chain in chip.tx:
        chain.stuck_status = None
    chip.counter.set_pps_present(now_ns, present=True)
    chip.counter.set_rate_error(now_ns, 0)
    if sensor is not None:
        sensor.failing = False


@dataclass(frozen=True, slots=True)
class _Place:
    chip: Chip
    sensor: Stts751 | None
    now_ns: int


_Values = Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class _Kind:
    """A fault that can be asked for, with the parameters it takes and their defaults."""

    apply: Callable[[_Place, _Values], None]
    parameters: Mapping[str, int | str] = field(default_factory=dict)
    momentary: bool = False


def _number(values: _Values, name: str, low: int, high: int) -> int:
    value = values[name]
    if not isinstance(value, int) or not low <= value <= high:
        raise FaultError(f"{name} {value!r}: outside {low} to {high}")
    return value


def _times(values: _Values) -> int:
    """Return how often; 0 stands for ever."""
    return _number(values, "times", 0, 1_000_000) or FOREVER


def _miso(place: _Place, values: _Values) -> None:
    place.chip.faults.miso = _number(values, "value", 0, 0xFF)


def _bus_error(place: _Place, values: _Values) -> None:
    place.chip.faults.bus_error = _number(values, "errno", 1, 133)
    place.chip.faults.bus_errors_left = _times(values)


def _version(place: _Place, values: _Values) -> None:
    place.chip.faults.version = _number(values, "value", 0, 0xFF)


def _agc_stuck(place: _Place, values: _Values) -> None:
    place.chip.agc.stuck_status = _number(values, "status", 0, 0xFF)


def _stall(place: _Place, values: _Values) -> None:
    cure, chip = values["cure"], place.chip
    if cure not in STALL_CURES:
        raise FaultError(f"cure {cure!r}: expected one of {', '.join(STALL_CURES)}")
    chip.faults.stalled = True
    chip.agc.stuck_status = _STALLED_AGC
    for mcu in (chip.agc, chip.arb):
        mcu.lose_parity()
    if cure == "reload":
        chip.agc.on_release = chip.agc.unstick
        chip.arb.on_release = chip.end_stall


def _silent(place: _Place, values: _Values) -> None:
    name = values["mcu"]
    if name not in {"agc", "arb"}:
        raise FaultError(f"mcu {name!r}: expected 'agc' or 'arb'")
    (place.chip.agc if name == "agc" else place.chip.arb).silent = True


def _readback(place: _Place, values: _Values) -> None:
    address = _number(values, "address", 0, 0x3FFF)
    place.chip.faults.flipped = (address, 1 << _number(values, "bit", 0, 7))


def _radio_missing(place: _Place, values: _Values) -> None:
    place.chip.radios[_number(values, "radio", 0, 1)].missing = True
    place.chip.update_clock()


def _image_calibration(place: _Place, values: _Values) -> None:
    place.chip.radios[_number(values, "radio", 0, 1)].fail_image_calibration = True


def _torn_fill(place: _Place, values: _Values) -> None:
    place.chip.faults.torn_fill_left = _times(values)


def _torn_counter(place: _Place, values: _Values) -> None:
    place.chip.faults.torn_counter_left = _times(values)


def _damage(place: _Place, values: _Values) -> None:
    how = values["how"]
    damage = _DAMAGES.get(how) if isinstance(how, str) else None
    if damage is None:
        raise FaultError(f"how {how!r}: expected one of {', '.join(_DAMAGES)}")
    place.chip.faults.damage = damage
    place.chip.faults.damage_name = str(how)
    place.chip.faults.damage_left = _times(values)


def _overflow(place: _Place, values: _Values) -> None:
    place.chip.faults.overflows_left = _times(values)


def _tx_stuck(place: _Place, values: _Values) -> None:
    chain = place.chip.tx[_number(values, "chain", 0, 1)]
    chain.stuck_status = _number(values, "status", 0, 0xFF)


def _brown_out(place: _Place, _values: _Values) -> None:
    place.chip.brown_out(place.now_ns)


def _pps_lost(place: _Place, _values: _Values) -> None:
    place.chip.counter.set_pps_present(place.now_ns, present=False)


def _rate(place: _Place, values: _Values) -> None:
    place.chip.counter.set_rate_error(place.now_ns, _number(values, "ppb", -1_000_000, 1_000_000))


def _i2c(place: _Place, _values: _Values) -> None:
    if place.sensor is None:
        raise FaultError("this board has no temperature sensor that could fail")
    place.sensor.failing = True


def _usb(place: _Place, values: _Values) -> None:
    how = values["how"]
    if how not in USB_FAULTS:
        raise FaultError(f"how {how!r}: expected one of {', '.join(USB_FAULTS)}")
    place.chip.faults.usb = str(how)
    place.chip.faults.usb_left = _times(values)


def _unplug(place: _Place, _values: _Values) -> None:
    place.chip.faults.unplugged = True


def _resummed(frame: bytes) -> bytes:
    return frame[:-1] + bytes((sum(frame[:-1]) & 0xFF,))


def _with_garbage(frame: bytes) -> bytes:
    return _GARBAGE + frame


def _with_wrong_sum(frame: bytes) -> bytes:
    return frame[:-1] + bytes((frame[-1] ^ 0xFF,))


def _truncated(frame: bytes) -> bytes:
    return frame[:-_TRUNCATED_BYTES]


def _with_wrong_crc16(frame: bytes) -> bytes:
    at = _CRC16_BEHIND_PAYLOAD + frame[_SIZE_AT]
    return _resummed(frame[:at] + bytes((frame[at] ^ 0x01,)) + frame[at + 1 :])


def _with_impossible_modem(frame: bytes) -> bytes:
    return _resummed(frame[:_MODEM_AT] + bytes((_IMPOSSIBLE_MODEM,)) + frame[_MODEM_AT + 1 :])


_DAMAGES: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "garbage": _with_garbage,
    "checksum": _with_wrong_sum,
    "truncated": _truncated,
    "crc16": _with_wrong_crc16,
    "range": _with_impossible_modem,
}

KINDS: Final[Mapping[str, _Kind]] = {
    "miso": _Kind(_miso, {"value": 0}),
    "bus_error": _Kind(_bus_error, {"errno": errno.EIO, "times": 1}),
    "version": _Kind(_version, {"value": 0}),
    "agc_stuck": _Kind(_agc_stuck, {"status": 1}),
    "stall": _Kind(_stall, {"cure": "reset"}),
    "silent": _Kind(_silent, {"mcu": "arb"}),
    "readback": _Kind(_readback, {"address": 0, "bit": 0}),
    "radio_missing": _Kind(_radio_missing, {"radio": 0}),
    "image_calibration": _Kind(_image_calibration, {"radio": 0}),
    "torn_fill": _Kind(_torn_fill, {"times": 1}),
    "torn_counter": _Kind(_torn_counter, {"times": 1}),
    "damage": _Kind(_damage, {"how": "checksum", "times": 1}),
    "overflow": _Kind(_overflow, {"times": 1}),
    "tx_stuck": _Kind(_tx_stuck, {"chain": 0, "status": 0x91}),
    "brown_out": _Kind(_brown_out, momentary=True),
    "pps_lost": _Kind(_pps_lost),
    "rate": _Kind(_rate, {"ppb": 20_000}),
    "i2c": _Kind(_i2c),
    "usb": _Kind(_usb, {"how": "stall", "times": 1}),
    "usb_unplug": _Kind(_unplug),
}
"""Every fault by name, with its parameters and their defaults."""
