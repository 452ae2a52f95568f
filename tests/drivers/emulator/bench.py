# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A virtual concentrator whose time only passes when a test says so, and the vendor's recorded bring-up for it.

The chip is started by replaying what Semtech's software once sent, not by our driver: so the tests of the emulator
say nothing about the driver, and a mistake in one is not hidden by the same mistake in the other.
"""

from __future__ import annotations

import json
import lzma
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from drivers.emulator.air import AirPacket
from drivers.emulator.chip import Chip, Model, Reception
from drivers.emulator.firmware import synthetic_agc, synthetic_arb
from tests.drivers.recorded import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

EUI = bytes.fromhex("0016C001FF123456")


@dataclass(frozen=True, slots=True)
class Row:
    """One recorded SPI message.

    Attributes:
        number: in the record.
        at_us: host time.
        mosi: sent, with a synthetic image in place of firmware.
        miso: answered then; None for program memory.
    """

    number: int
    at_us: int
    mosi: bytes
    miso: bytes | None


@cache
def rows(trace: str) -> tuple[Row, ...]:
    """The messages to the concentrator in a recorded run, firmware bodies filled with synthetic images."""
    text = lzma.decompress((FOLDER / f"hal_trace_{trace}.jsonl.xz").read_bytes()).decode()
    images = (synthetic_agc(), synthetic_arb())
    found = []
    for line in text.splitlines():
        row = json.loads(line)
        if row.get("dev") != "spidev0.0":
            continue
        mosi = bytes.fromhex(row["mosi"])
        miso = bytes.fromhex(row["miso"]) if "miso" in row else None
        if "body" in row:
            address, length = (mosi[1] & 0x7F) << 8 | mosi[2], row["body_len"]
            part = images[address >> 13][address & 0x1FFF :][:length]
            if row["body"] == "mosi":
                mosi += part
            else:
                mosi, miso = mosi + bytes(length), bytes(4) + part
        found.append(Row(row["n"], row["t_us"], mosi, miso))
    return tuple(found)


@cache
def marks(trace: str) -> dict[str, int]:
    """Row numbers of the phases named in a recorded run."""
    text = lzma.decompress((FOLDER / f"hal_trace_{trace}.jsonl.xz").read_bytes()).decode()
    return {row["mark"]: row["n"] for row in map(json.loads, text.splitlines()) if "mark" in row}


class Bench:
    """A chip on the bench: time, bus and air in the test's hand."""

    def __init__(self, *, model: Model = Model.SX1302, counter_start_us: int = 0) -> None:
        self.chip = Chip(model=model, eui=EUI, counter_start_us=counter_start_us)
        self.now_ns = 0

    @property
    def now_us(self) -> int:
        return self.now_ns // 1000

    def wait_us(self, duration_us: int) -> None:
        self.now_ns += duration_us * 1000
        self.chip.advance(self.now_ns)

    def transfer(self, frame: str | bytes) -> bytes:
        return self.chip.transfer(bytes.fromhex(frame) if isinstance(frame, str) else frame, self.now_ns)

    def read(self, address: int, length: int = 1) -> bytes:
        return self.transfer(b"\0" + address.to_bytes(2, "big") + bytes(1 + length))[4:]

    def write(self, address: int, *data: int) -> None:
        self.transfer(b"\0" + (address | 0x8000).to_bytes(2, "big") + bytes(data))

    def modify(self, address: int, *, set_bits: int = 0, clear_bits: int = 0) -> None:
        self.write(address, (self.read(address)[0] | set_bits) & ~clear_bits)

    def start(self, after_each: Callable[[], None] = lambda: None) -> Bench:
        """Bring the chip to reception as the vendor's software does: EU868, all ten channels."""
        running = marks("pktfwd_eu868")["running"]
        begin_us = self.now_us
        for row in rows("pktfwd_eu868"):
            if row.number > running:
                break
            self.now_ns = (begin_us + row.at_us) * 1000
            self.transfer(row.mosi)
            after_each()
        assert not self.chip.complaints
        return self

    def hear(self, packet: AirPacket, *, end_us: int | None = None) -> Reception:
        """Let a packet arrive; its decoding completes now, or as long after `end_us` as it takes."""
        readable_ns = self.now_ns if end_us is None else (end_us + packet.readable_after_us) * 1000
        return self.chip.receive(packet, readable_ns, self.now_ns)

    def fetch(self) -> bytes:
        """Empty the FIFO as a host does."""
        waiting = int.from_bytes(self.read(0x58C8, 2), "big")
        return self.read(0x4000, waiting) if waiting else b""

    def counter(self) -> int:
        return int.from_bytes(self.read(0x6105, 4), "big")


def uplink(**changes: object) -> AirPacket:
    """An ordinary LoRaWAN uplink on a channel of the EU868 plan, with some properties changed."""
    properties: dict[str, object] = {"freq_hz": 868_100_000, "payload": bytes.fromhex("40DA1D01268000000112345678")}
    return AirPacket(**(properties | changes))  # type: ignore[arg-type]  # a table of properties, checked at run time
