# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the tests of the spool share: frames, a platform that signs nothing away, a writer over real files."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.batch import codec
from agent.batch.codec import Opened
from agent.batch.keys import Ed25519Signer
from agent.batch.model import GENESIS_HASH, Account, Receipt
from agent.frame import CrcStatus, Frame, Modulation, Session
from agent.spool.intake import Heard, RoutedFrame, fingerprint
from agent.spool.orders import Destination, Policy
from agent.spool.reader import SealedBatch, SpoolReader
from agent.spool.writer import SpoolWriter

EUI = bytes.fromhex("0016c001f1500812")
BOOT = bytes(range(16))
SESSION = Session(BOOT, 1)
SIGNER = Ed25519Signer(Ed25519PrivateKey.from_private_bytes(b"a key for tests; nobody's secret"))
"""The same in every process: spools are handed from one to the next."""
CITY = Destination("city", b"filter 1")
WATER = Destination("water", b"filter 2")
POLICY = Policy(batch_frames=10, batch_age_s=3600.0, quota_bytes=64 << 20)


def frame(index: int, session: Session = SESSION, size: int | None = None) -> Frame:
    """Return a frame that no other index gives; all fields vary."""
    chance = random.Random(index)
    lora = index % 11 != 0
    length = chance.randrange(12, 60) if size is None else size
    return Frame(
        session=session,
        boottime_us=10_000_000 + index * 7_919,
        counter_us=3_000_000 + index * 7_919 + chance.randrange(-5, 6),
        frequency_hz=868_100_000 + 200_000 * (index % 8),
        modulation=Modulation.LORA if lora else Modulation.FSK,
        bandwidth_hz=125_000,
        datarate=7 + index % 6 if lora else 50_000,
        coding_rate=1 if lora else 0,
        crc=CrcStatus.OK if index % 7 else CrcStatus.NONE,
        rssi_ddbm=-1200 + index % 900,
        rssis_ddbm=-1210 + index % 900 if lora else None,
        snr_qdb=index % 80 - 40 if lora else None,
        frequency_offset_hz=chance.randrange(-9000, 9000),
        if_chain=index % 8 if lora else 9,
        rf_chain=index % 2,
        phy_payload=(index.to_bytes(4, "big") + chance.randbytes(max(length - 4, 0)))[:length] if length else b"",
        fine_timestamp_ns=None if index % 3 else chance.randrange(10**9),
    )


def heard(
    frames: Sequence[Frame], routes: Sequence[int] | None = None, destinations: int = 1, foreign: int = 0
) -> Heard:
    """Return a look at the radio: these frames, and some that were filtered and only counted."""
    routes = routes or [1] * len(frames)
    counts = [sum(route >> index & 1 for route in routes) for index in range(destinations)]
    return Heard(
        frames=tuple(RoutedFrame(one, route) for one, route in zip(frames, routes, strict=True) if route),
        tallies=tuple(
            Account(heard=len(frames) + foreign, filtered=len(frames) - count + foreign, spooled=count)
            for count in counts
        ),
        seen=tuple(fingerprint(one.counter_us, one.phy_payload) for one in frames),
    )


def writer(
    folder: Path,
    destinations: Sequence[Destination] = (CITY,),
    policy: Policy = POLICY,
    *,
    commit_window_s: float = 0.0,
    commit_frames: int = 500,
    gateway_eui: bytes | None = EUI,
    health: Callable[[], Mapping[str, int]] | None = None,
) -> SpoolWriter:
    """Return a writer over `folder`, not started."""
    return SpoolWriter(
        folder / "spool.db",
        journal_folder=folder / "journal",
        destinations=destinations,
        policy=policy,
        signer=SIGNER,
        gateway_eui=gateway_eui,
        health=health,
        commit_window_s=commit_window_s,
        commit_frames=commit_frames,
    )


def wait_for(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + limit_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, "condition not met in time"
        pause.wait(0.002)


@dataclass
class Platform:
    """A platform's memory of one stream: verifies what comes, keeps it, and says what it has."""

    batches: dict[int, Opened] = field(default_factory=dict)
    wires: dict[int, bytes] = field(default_factory=dict)

    def take(self, wire: bytes) -> Opened:
        """Verify a batch and keep it; the same number with another content is a fork."""
        opened = codec.open_wire(wire, lambda kid: SIGNER.public if kid == SIGNER.kid else None)
        number = opened.header.number
        if number in self.wires:
            assert self.wires[number] == wire, f"fork at batch {number}"
        self.batches[number] = opened
        self.wires[number] = wire
        return opened

    def collect(self, reader: SpoolReader, destination: str = "city") -> list[Opened]:
        """Take everything that waits."""
        sealed: list[SealedBatch] = reader.unacknowledged(destination, 0, 1 << 20)
        return [self.take(reader.wire(batch)) for batch in sealed]

    def withdrawn(self) -> dict[int, bytes]:
        """Return the numbers that are declared to never come, with the hash of the last of each range."""
        return {
            number: stone.last_hash if number == stone.last_number else b""
            for opened in self.batches.values()
            for stone in opened.body.tombstones
            if stone.first_number
            for number in range(stone.first_number, stone.last_number + 1)
        }

    def receipt(self, stream_id: bytes) -> Receipt:
        """Say what is here: the chain as far as it is whole, and the rest as ranges."""
        gone = self.withdrawn()
        through, hash_ = 0, GENESIS_HASH
        while (number := through + 1) in self.batches or number in gone:
            if number in self.batches:
                assert self.batches[number].header.previous_hash == hash_, f"chain broken at {number}"
                hash_ = self.batches[number].hash
            else:
                hash_ = gone[number]
            through = number
        beyond: list[tuple[int, int]] = []
        for number in sorted(number for number in self.batches if number > through):
            if beyond and beyond[-1][1] == number - 1:
                beyond[-1] = (beyond[-1][0], number)
            else:
                beyond.append((number, number))
        return Receipt(stream_id, through, hash_, 1_790_000_000_000_000, tuple(beyond))

    def frames(self) -> list[Frame]:
        """Return all frames, in the order of the stream."""
        return [frame for number in sorted(self.batches) for frame in self.batches[number].body.frames]

    def account(self) -> Account:
        """Return the sum of all accounts."""
        return sum((opened.body.account for opened in self.batches.values()), Account())
