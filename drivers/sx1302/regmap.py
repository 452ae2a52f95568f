# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Register fields on a real chip: shadow copies instead of reads, bursts instead of single writes.

Almost every register byte holds several fields, so changing one needs the others. Nobody but the host
writes these bytes, hence one reading after reset serves for good. The exceptions are bits that do not read
back what was written (pulses): they are never carried over into a later write. Status is always read
afresh.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from drivers.errors import BusError
from drivers.sx1302.registers import ADDRESSES, Field, reset_value, uncheckable_mask, writable_mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from drivers.sx1302.spi import AddressSpace

Setting = tuple[Field, int]
"""A field and the value it shall have."""


def _runs(addresses: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Join consecutive addresses into (first, length)."""
    first = length = 0
    for address in sorted(addresses):
        if length and address == first + length:
            length += 1
        else:
            if length:
                yield first, length
            first, length = address, 1
    if length:
        yield first, length


_BLOCKS: Final = tuple(_runs(ADDRESSES))
"""The register bytes that have names, as 23 consecutive blocks."""


class RegisterMap:
    """The registers of one chip between two resets.

    Attributes:
        space: the chip's address space, for what is not a register.
    """

    def __init__(self, space: AddressSpace) -> None:
        self.space = space
        self._shadow: dict[int, int] = {}
        self._batch: list[tuple[int, bytes]] | None = None

    def prime(self) -> tuple[int, ...]:
        """Read every register byte into the shadow, as after a reset.

        Returns:
            The addresses whose writable bits are not at their reset value; after a true reset there is none.

        Raises:
            BusError: the transfer did not complete.
        """
        self._shadow.clear()
        for first, length in _BLOCKS:
            self._shadow.update(enumerate(self.space.read(first, length), first))
        return tuple(
            address
            for address, byte in self._shadow.items()
            if (byte ^ reset_value(address)) & writable_mask(address) & ~uncheckable_mask(address)
        )

    def lost(self) -> tuple[int, ...]:
        """Return the addresses at which the chip does not have any more what was written there last.

        Raises:
            BusError: the transfer did not complete.
        """
        found: dict[int, int] = {}
        for first, length in _BLOCKS:
            found.update(enumerate(self.space.read(first, length), first))
        return tuple(
            address
            for address, byte in found.items()
            if (byte ^ self._shadow.get(address, byte)) & writable_mask(address) & ~uncheckable_mask(address)
        )

    def holds(self, settings: Iterable[Setting]) -> bool:
        """Say whether the shadow has all these values; `prime` fills it.

        Raises:
            BusError: the transfer did not complete.
        """
        return all(field.extract(self._base(field.address)) == value for field, value in settings)

    def read(self, field: Field) -> int:
        """Read a field from the chip.

        Raises:
            BusError: the transfer did not complete.
        """
        self._flush()
        return field.extract(self.space.read(field.address, 1)[0])

    def read_bytes(self, first: Field, length: int) -> bytes:
        """Read `length` bytes from the byte of `first` on, in one burst.

        Raises:
            BusError: the transfer did not complete.
        """
        self._flush()
        return self.space.read(first.address, length)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Collect what is written until the end, or the next reading, and hand it to the bus as a whole, in its order.

        A bus with a costly round trip (the USB bridge) makes one request of it. What fails may have arrived in part;
        the shadow forgets all of it.

        Raises:
            BusError: the transfer did not complete.
        """
        if self._batch is not None:
            yield
            return
        self._batch = []
        try:
            yield
            self._flush()
        finally:
            for address, data in self._batch:
                self._forget(address, len(data))
            self._batch = None

    def write_memory(self, address: int, data: bytes) -> None:
        """Write bytes to what is no register, as a payload buffer.

        Raises:
            BusError: the transfer did not complete.
        """
        if self._batch is None:
            self.space.write(address, data)
        else:
            self._batch.append((address, data))

    def write(self, field: Field, value: int) -> None:
        """Set one field, at once and even if the shadow already says so.

        Raises:
            BusError: the transfer did not complete.
            ValueError: the value does not fit the field, or the field is read-only.
        """
        self._put(field.address, bytes((self._merge(self._base(field.address), field, value),)))

    def write_bytes(self, first: Field, data: bytes) -> None:
        """Write whole bytes from the byte of `first` on, in one burst.

        Raises:
            BusError: the transfer did not complete.
        """
        self._put(first.address, data)

    def apply(self, settings: Iterable[Setting]) -> None:
        """Set several fields whose order does not matter, in as few frames as possible.

        Fields of one byte are merged, bytes that already have their value are left out, neighbours travel
        as one burst in ascending order.

        Raises:
            BusError: the transfer did not complete.
            ValueError: a value does not fit its field, or a field is read-only.
        """
        wanted: dict[int, int] = {}
        pulsed: set[int] = set()
        for field, value in settings:
            address = field.address
            wanted[address] = self._merge(wanted.get(address, self._base(address)), field, value)
            if not field.checkable:
                pulsed.add(address)
        changed = [a for a, byte in wanted.items() if a in pulsed or byte != self._shadow.get(a)]
        with self.batch():
            for first, length in _runs(changed):
                self._put(first, bytes(wanted[address] for address in range(first, first + length)))

    def in_order(self, groups: Sequence[Iterable[Setting]]) -> None:
        """Apply one group of settings after the other; order matters between groups, not within.

        Raises:
            BusError: the transfer did not complete.
            ValueError: a value does not fit its field, or a field is read-only.
        """
        with self.batch():
            for group in groups:
                self.apply(group)

    def _put(self, address: int, data: bytes) -> None:
        """Write register bytes now, or with the batch."""
        if self._batch is not None:
            self._batch.append((address, data))
        else:
            try:
                self.space.write(address, data)
            except BusError:
                self._forget(address, len(data))
                raise
        self._shadow.update(enumerate(data, address))

    def _flush(self) -> None:
        """Hand over what was collected; what fails stays in the batch, to be forgotten with it."""
        if self._batch:
            self.space.write_all(self._batch)
            self._batch.clear()

    def _forget(self, address: int, length: int) -> None:
        for lost in range(address, address + length):
            self._shadow.pop(lost, None)

    def _base(self, address: int) -> int:
        """The byte that a change starts from; read once when the shadow does not know it."""
        if address not in self._shadow:
            self._flush()
            self._shadow[address] = self.space.read(address, 1)[0]
        return self._shadow[address] & ~uncheckable_mask(address)

    @staticmethod
    def _merge(byte: int, field: Field, value: int) -> int:
        if not field.writable:
            msg = f"{field.name} is read-only"
            raise ValueError(msg)
        return field.insert(byte, value)
