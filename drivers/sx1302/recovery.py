# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What is left in the memory behind the receive FIFO of a chip whose process died.

A frame that was popped stays in the ring until a later one takes its place. What only hardware can show: whether the
RAM can be read like this and keeps what was popped, and that the last written address is where the oldest bytes begin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.sx1302.counter import TICKS_PER_US, WRAP_US, CounterSample
from drivers.sx1302.fifo import LONGEST_FRAME_BYTES, SYNC, Parsed, parse
from drivers.sx1302.registers import field
from drivers.sx1302.spi import RX_FIFO_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from drivers.sx1302.fifo import FifoRecord
    from drivers.sx1302.regmap import RegisterMap

FIFO_BYTES: Final = 4096
LAST_WRITE_ADDRESS = field("RX_TOP_RX_BUFFER_LAST_ADDR_WRITE_MSB_LAST_ADDR_WRITE")
LAST_WRITE_ADDRESS_MASK: Final = 0x0FFF
STAMP_SLACK_US: Final = 5_000_000
"""How much older than the moment of its entry into the FIFO a stamp may be: it may mark the end of a slow header."""

DIRECT_RAM_IF = field("RX_TOP_RX_BUFFER_DIRECT_RAM_IF")


def read_ram(registers: RegisterMap) -> bytes:
    """Return what this session of the chip wrote into the FIFO's RAM, the oldest byte first.

    A reset starts the ring at its first byte and leaves the rest as it was. So if frames stand without a flaw from the
    first byte to the last one written, the ring has not been round yet, and what lies behind is of an earlier session,
    whose counter tells nothing.

    Raises:
        BusError: a transfer did not complete.
    """
    written = int.from_bytes(registers.read_bytes(LAST_WRITE_ADDRESS, 2), "big") & LAST_WRITE_ADDRESS_MASK
    registers.write(DIRECT_RAM_IF, 1)
    ram = registers.space.read(RX_FIFO_ADDRESS, FIFO_BYTES)
    registers.write(DIRECT_RAM_IF, 0)
    young, old = ram[: written + 1], ram[written + 1 :]
    if written == 0:
        return b""
    return old + young if parse(young, final=True).faults else young


def gather(ram: bytes, popped: bytes, unread: Iterable[FifoRecord]) -> dict[FifoRecord, None]:
    """Return each frame that can be had, once, the oldest first.

    Args:
        ram: the ring, the oldest byte first.
        popped: what was taken out of the FIFO and not kept, and after it what was in there now.
        unread: frames of what was in there now.
    """
    in_ring = dict.fromkeys((*parse(ram, final=True).records, *unread))
    # What the ring has lost of what was popped is older than all that it has.
    overwritten = [record for record in parse(popped, final=True).records if record not in in_ring]
    return dict.fromkeys((*overwritten, *in_ring))


def date(
    records: Iterable[FifoRecord], unread: Collection[FifoRecord], now: CounterSample, looked_us: int | None
) -> Iterator[tuple[FifoRecord, CounterSample]]:
    """Yield each record with a moment of the counter from which it is less than one wrap old.

    Args:
        records: oldest first.
        unread: those of them that were still in the FIFO.
        now: the counter.
        looked_us: the same counter at the last look into the FIFO; None when it is not known: then all is taken to be
            less than one wrap old.
    """
    if looked_us is None:
        yield from ((record, now) for record in records)
        return
    earliest_us = looked_us - STAMP_SLACK_US
    for record in records:
        if record not in unread:
            yield record, CounterSample(looked_us + STAMP_SLACK_US, now.host_ns)
            continue
        at_us = earliest_us + (record.ticks // TICKS_PER_US - earliest_us) % WRAP_US
        yield record, CounterSample(at_us, now.host_ns)
        earliest_us = at_us - STAMP_SLACK_US


def complete(ram: bytes, data: bytes) -> Parsed:
    """Take apart what was in the FIFO, with the beginning of its first frame if only the RAM still has that.

    A process that died while it popped a frame leaves the frame's end in the FIFO; that is no damage.

    Args:
        ram: the ring, the oldest byte first.
        data: what was popped; the end of `ram`.
    """
    parsed = parse(data, final=True)
    if not parsed.faults or not ram.endswith(data):
        return parsed
    end = len(ram) - len(data)
    for begin in range(end - 1, max(end - LONGEST_FRAME_BYTES, 0) - 1, -1):
        if ram.startswith(SYNC, begin):
            whole = parse(ram[begin:], final=True)
            if sum(whole.faults.values()) < sum(parsed.faults.values()):
                return whole
    return parsed
