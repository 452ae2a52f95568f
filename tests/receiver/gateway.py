# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A gateway as the platform sees it: a key, a stream, and batches that follow one another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from agent.batch import codec, succession
from agent.batch.codec import Sealed
from agent.batch.keys import Ed25519Signer, Signer
from agent.batch.model import GENESIS_HASH, Account, Anchor, Body, HourAccount, Loss, Predecessor, Tombstone
from agent.frame import CrcStatus, Frame, Modulation, Session
from receiver.ledger.port import RegisteredKey

BOOT_ID = bytes(range(16))
EUI = bytes.fromhex("0016c001ff10a235")
FRAME_INTERVAL_US = 1_000_000
DEV_ADDR = 0x26011BDA


def frame(
    number: int, *, boot_id: bytes = BOOT_ID, payload: bytes | None = None, boottime_us: int | None = None
) -> Frame:
    """Make the n-th frame of a stream: one a second since boot, or at a moment."""
    phy = b"\x40" + DEV_ADDR.to_bytes(4, "little") + b"\x00" + number.to_bytes(2, "little") + b"\x01data" + bytes(4)
    return Frame(
        session=Session(boot_id, 1),
        boottime_us=number * FRAME_INTERVAL_US if boottime_us is None else boottime_us,
        counter_us=number * FRAME_INTERVAL_US + 77,
        frequency_hz=868_100_000,
        modulation=Modulation.LORA,
        bandwidth_hz=125_000,
        datarate=7,
        coding_rate=1,
        crc=CrcStatus.OK,
        rssi_ddbm=-1013,
        rssis_ddbm=-1020,
        snr_qdb=-7,
        frequency_offset_hz=-312,
        if_chain=3,
        rf_chain=1,
        phy_payload=phy if payload is None else payload,
    )


@dataclass
class Gateway:
    """Seals batches one after the other."""

    eui: bytes = EUI
    seed: bytes = b"gateway"
    signer: Signer = field(default_factory=Ed25519Signer.generate)
    number: int = 0
    seq: int = 1
    previous_hash: bytes = GENESIS_HASH
    clock_us: int | None = None
    """CLOCK_BOOTTIME of the next frame; None while they come one a second since boot."""

    @property
    def stream_id(self) -> bytes:
        """The stream of the spool that is in use."""
        return hashlib.sha256(self.seed).digest()[:16]

    @property
    def registration(self) -> RegisteredKey:
        """What the registry should know of it."""
        return RegisteredKey(self.eui, "town hall", self.signer.kid, self.signer.public.text, 1)

    def seal(
        self,
        frames: int = 3,
        *,
        account: Account | None = None,
        anchors: tuple[Anchor, ...] = (),
        tombstones: tuple[Tombstone, ...] = (),
        payload: bytes | None = None,
        boot_id: bytes = BOOT_ID,
        hours: tuple[HourAccount, ...] = (),
        succession: bytes = b"",
        predecessor: Predecessor | None = None,
    ) -> Sealed:
        """Seal the next batch."""
        if account is None:
            account = Account(heard=frames + 3, bad_crc=1, filtered=2, spooled=frames)
        heard_us = [None if self.clock_us is None else self.clock_us + i * FRAME_INTERVAL_US for i in range(frames)]
        members = tuple(
            frame(self.seq + i, payload=payload, boot_id=boot_id, boottime_us=moment_us)
            for i, moment_us in enumerate(heard_us)
        )
        sealed = codec.seal(
            Body(members, account, anchors, tombstones, {"uptime_s": self.seq}, hours, succession, predecessor),
            self.signer,
            gateway_eui=self.eui,
            stream_id=self.stream_id,
            number=self.number + 1,
            first_seq=self.seq,
            previous_hash=self.previous_hash,
            filter_version=1,
        )
        self.number += 1
        self.seq += frames
        self.previous_hash = sealed.hash
        return sealed

    def announce(self, successor: Signer) -> Sealed:
        """Seal the next batch, which announces the next key."""
        said = succession.announce(successor, gateway_eui=self.eui, predecessor=self.signer.kid)
        return self.seal(succession=said)

    def wire(self, frames: int = 3, **options: bytes) -> bytes:
        """Seal the next batch and write it for the way."""
        return wire(self.seal(frames, **options))  # type: ignore[arg-type] # only bytes options are given this way

    def wires(self, count: int, frames: int = 3) -> list[bytes]:
        """Seal some batches."""
        return [self.wire(frames) for _ in range(count)]


def wire(sealed: Sealed) -> bytes:
    """Write a batch for the way."""
    return codec.pack(sealed.signed_header, sealed.body)


def withdrawn(batches: list[Sealed], reason: Loss = Loss.EVICTED) -> Tombstone:
    """Declare batches withdrawn."""
    frames = sum(sealed.header.frame_count for sealed in batches)
    return Tombstone(
        frames,
        batches[0].header.first_seq * FRAME_INTERVAL_US,
        (batches[-1].header.first_seq + batches[-1].header.frame_count - 1) * FRAME_INTERVAL_US,
        reason,
        BOOT_ID,
        BOOT_ID,
        batches[0].header.number,
        batches[-1].header.number,
        batches[-1].hash,
    )


def stick(folder: Path, wires: list[bytes]) -> Path:
    """Write batches into a file as a gateway exports them."""
    path = folder / "export.batches"
    path.write_bytes(b"".join(wires))
    return path
