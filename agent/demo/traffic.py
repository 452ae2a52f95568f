# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Recorded LoRaWAN traffic, as the emulated air plays it."""

from __future__ import annotations

import json
import lzma
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

EU868_CHANNELS_HZ = (
    868_100_000,
    868_300_000,
    868_500_000,
    867_100_000,
    867_300_000,
    867_500_000,
    867_700_000,
    867_900_000,
)

SHARES = {"tourperret": 0.65, "lisbon_bf53": 0.2, "cesnet_ic880a": 0.15}
"""Which recording a frame is taken from: the first two are our own sensors, the third is foreign
(one in five has a bad CRC)."""

OWN_DEV_ADDR = {"48000000": 8, "0000BF53": 32}
"""DevAddr prefixes (value: length in bits) of the recorded sensors that the demonstration's city owns."""

SPACING = 64
"""The same bytes are not sent twice within this many frames: one device cannot overlap itself on the air."""


@dataclass(frozen=True, slots=True)
class AirFrame:
    """One transmission.

    Attributes:
        payload: PHYPayload.
        frequency_hz: one of the EU868 channels.
        spreading_factor: 7 to 12.
        coding_rate: "4/5" to "4/8".
        rssi_dbm: at the gateway.
        snr_db: at the gateway.
        crc_ok: whether the payload CRC is right.
    """

    payload: bytes
    frequency_hz: int
    spreading_factor: int
    coding_rate: str
    rssi_dbm: float
    snr_db: float
    crc_ok: bool

    @property
    def own(self) -> bool:
        """Whether a sensor of the demonstration's city sent it; decided on the raw bytes, not by the agent's code."""
        if not self.crc_ok or len(self.payload) < 12 or self.payload[0] >> 5 not in (2, 4) or self.payload[0] & 3:
            return False
        dev_addr = int.from_bytes(self.payload[1:5], "little")
        return any((dev_addr ^ int(prefix, 16)) >> (32 - bits) == 0 for prefix, bits in OWN_DEV_ADDR.items())


def recording(name: str) -> list[AirFrame]:
    """Return one shipped recording; where it lacks a channel, the payload chooses one."""
    packed = resources.files(__package__).joinpath("traffic", f"{name}.jsonl.xz").read_bytes()
    return [_air_frame(json.loads(line)) for line in lzma.decompress(packed).splitlines()]


def play(seed: int) -> Iterator[AirFrame]:
    """Yield frames without end, mixed from the recordings by `SHARES`, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - a repeatable mixture, nothing secret
    decks = [_deck(recording(name), chance) for name in SHARES]
    recent: deque[bytes] = deque(maxlen=SPACING)
    while True:
        frame = next(chance.choices(decks, list(SHARES.values()))[0])
        if frame.payload not in recent:
            recent.append(frame.payload)
            yield frame


def _deck(frames: list[AirFrame], chance: random.Random) -> Iterator[AirFrame]:
    """Deal frames in random order, each once before any comes again: repeats would flatter the compression."""
    while True:
        chance.shuffle(frames)
        yield from frames


def _air_frame(row: dict[str, str | int | float]) -> AirFrame:
    # CESNET's recording lacks the MHDR; "unconfirmed data up" stands in for it, the frames are foreign to us anyway.
    payload = bytes.fromhex(str(row["phy"])) if "phy" in row else b"\x40" + bytes.fromhex(str(row["phy_from_byte1"]))
    return AirFrame(
        payload=payload,
        frequency_hz=int(row.get("freq", EU868_CHANNELS_HZ[payload[-1] % len(EU868_CHANNELS_HZ)])),
        spreading_factor=int(row["sf"]),
        coding_rate=str(row.get("cr", "4/5")),
        rssi_dbm=float(row["rssi"]),
        snr_db=float(row["snr"]),
        crc_ok=row.get("crc", 1) == 1,
    )
