# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The register file of the virtual concentrator: bytes, masks, and hooks where a register does something.

Built from the table of `drivers.sx1302.registers` (data, not logic). A byte keeps what is written to its writable
bits; bits that the table calls not readable back (pulses, flags) are never stored by a write. Addresses without a
named field read 0 and ignore writes; on silicon they are unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.sx1302.emulated import MARK, MARK_ADDRESS
from drivers.sx1302.registers import ADDRESSES, reset_value, uncheckable_mask, writable_mask

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.sx1302.registers import Field

ADDRESS_SPACE: Final = 0x8000
"""Fifteen address bits."""

_RESET_IMAGE: Final = bytes(
    reset_value(a) if a in ADDRESSES else (MARK[a - MARK_ADDRESS] if 0 <= a - MARK_ADDRESS < len(MARK) else 0)
    for a in range(ADDRESS_SPACE)
)
_STORED_BITS: Final = bytes(
    writable_mask(a) & ~uncheckable_mask(a) if a in ADDRESSES else 0 for a in range(ADDRESS_SPACE)
)


class RegisterFile:
    """All registers of the chip.

    Attributes:
        stored: the bytes as a plain read returns them; models write status bytes here.
        on_read: address -> what a read returns instead of the stored byte.
        on_write: address -> called after the store as (old stored byte, new stored byte, byte on the wire).
    """

    def __init__(self) -> None:
        self.stored = bytearray(_RESET_IMAGE)
        self.on_read: dict[int, Callable[[], int]] = {}
        self.on_write: dict[int, Callable[[int, int, int], None]] = {}

    def reset(self) -> None:
        """Give every register its reset value; no hook runs."""
        self.stored[:] = _RESET_IMAGE

    def read(self, address: int) -> int:
        """Read one byte as the host does."""
        hook = self.on_read.get(address)
        return self.stored[address] if hook is None else hook()

    def write(self, address: int, value: int) -> None:
        """Write one byte as the host does."""
        stored = self.stored
        old = stored[address]
        bits = _STORED_BITS[address]
        new = stored[address] = (old & ~bits) | (value & bits)
        hook = self.on_write.get(address)
        if hook is not None:
            hook(old, new, value)

    def field(self, field: Field) -> int:
        """Return the stored value of a field."""
        return field.extract(self.stored[field.address])

    def set_bits(self, address: int, mask: int) -> None:
        """Set status bits from inside the chip."""
        self.stored[address] |= mask

    def clear_bits(self, address: int, mask: int) -> None:
        """Clear status bits from inside the chip."""
        self.stored[address] &= ~mask

    def word(self, address: int, length: int) -> int:
        """Return `length` stored bytes from `address` on as one big-endian number."""
        return int.from_bytes(self.stored[address : address + length], "big")
