# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The register fields of the SX1302/SX1303, one row per field, under the vendor's names.

The rows are data (`registers.csv` beside this file): 1044 fields in 589 bytes of page 0, restated from
Semtech's sx1302_hal V2.1.0. Code names a field once, at module level, with `field("...")`, so that a misspelt
name fails when the module is imported and not on a mast.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Field:
    """A run of bits within one register byte.

    Attributes:
        name: the vendor's name, e.g. "COMMON_CTRL0_HOST_RADIO_CTRL".
        address: of the byte, 0x5600 to 0x61FF (TX modems from 0x5200).
        offset: of the lowest bit, 0 to 7.
        width: in bits, 1 to 8.
        signed: two's complement.
        writable: False for status fields.
        checkable: False where a written value does not read back (pulses, flags cleared by writing).
        reset: value after chip reset; negative for some signed fields.
    """

    name: str
    address: int
    offset: int
    width: int
    signed: bool
    writable: bool
    checkable: bool
    reset: int

    @property
    def mask(self) -> int:
        """The field's bits in place within its byte."""
        return ((1 << self.width) - 1) << self.offset

    @property
    def minimum(self) -> int:
        """Smallest value the field can hold."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        """Largest value the field can hold."""
        return (1 << (self.width - 1)) - 1 if self.signed else (1 << self.width) - 1

    def extract(self, byte: int) -> int:
        """Return the field's value out of its register byte."""
        value = (byte & self.mask) >> self.offset
        return value - (1 << self.width) if self.signed and value > self.maximum else value

    def insert(self, byte: int, value: int) -> int:
        """Return the register byte with the field set to `value` and all other bits kept.

        Raises:
            ValueError: the value does not fit the field.
        """
        if not self.minimum <= value <= self.maximum:
            msg = f"{self.name} = {value}: outside {self.minimum} to {self.maximum}"
            raise ValueError(msg)
        return (byte & ~self.mask) | ((value << self.offset) & self.mask)


def _rows() -> Iterator[Field]:
    table = files(__package__).joinpath("registers.csv").read_text(encoding="ascii")
    for row in csv.DictReader(table.splitlines()):
        msb, lsb = int(row["msb"]), int(row["lsb"])
        yield Field(
            name=row["field"],
            address=int(row["address"], 16),
            offset=lsb,
            width=msb - lsb + 1,
            signed=row["signed"] == "1",
            writable=row["access"] == "rw",
            checkable=row["readback_checkable"] == "1",
            reset=int(row["reset"]),
        )


FIELDS: Final[tuple[Field, ...]] = tuple(_rows())
"""Every field, in the order of the vendor's table."""

_BY_NAME: Final[Mapping[str, Field]] = {row.name: row for row in FIELDS}


def _bytewise() -> tuple[dict[int, int], dict[int, int], dict[int, int]]:
    resets: dict[int, int] = {}
    writable: dict[int, int] = {}
    uncheckable: dict[int, int] = {}
    for row in FIELDS:
        resets[row.address] = row.insert(resets.get(row.address, 0), row.reset)
        writable[row.address] = writable.get(row.address, 0) | (row.mask if row.writable else 0)
        uncheckable[row.address] = uncheckable.get(row.address, 0) | (0 if row.checkable else row.mask)
    return resets, writable, uncheckable


_RESETS, _WRITABLE, _UNCHECKABLE = _bytewise()

ADDRESSES: Final[frozenset[int]] = frozenset(_RESETS)
"""Addresses of all register bytes that have at least one named field."""


def field(name: str) -> Field:
    """Return the field of that vendor name.

    Raises:
        KeyError: no such field; names the nearest ones.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        near = ", ".join(get_close_matches(name, _BY_NAME, n=3)) or "none similar"
        msg = f"no SX1302 register field {name!r}; nearest: {near}"
        raise KeyError(msg) from None


def reset_value(address: int) -> int:
    """Return the byte at `address` after a chip reset; 0 where no field is named."""
    return _RESETS.get(address, 0)


def writable_mask(address: int) -> int:
    """Return the bits of the byte at `address` that the host can write; 0 where no field is named."""
    return _WRITABLE.get(address, 0)


def uncheckable_mask(address: int) -> int:
    """Return the bits of the byte at `address` whose written value does not read back."""
    return _UNCHECKABLE.get(address, 0)
