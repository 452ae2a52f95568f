# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What is written to the card each day, how long the card stands that, and how long the buffer lasts.

Bytes are those that reach the block device, as the kernel counts them for the device that holds the spool: of all
programs together, since it is their sum that wears it, and of this service where the kernel keeps that apart (control
group). What a process hands to the page cache is another figure and is not used. The card's own write amplification
comes on top; the endurance of the configuration is to be understood without it.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SECTOR_BYTES = 512
"""The unit of the kernel's counters, whatever the device's own is [Linux Documentation/block/stat.rst]."""
DAY_S = 86_400.0
YEAR_DAYS = 365.25
SPAN_S = DAY_S
"""How far back a rate looks."""
SAMPLE_S = 600.0
"""How far apart two samples are; a rate needs at least two."""


class Card:
    """The block device under a folder.

    Args:
        folder: on it.
        sys: where sysfs is mounted.
        proc: where procfs is mounted.
    """

    def __init__(self, folder: Path, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> None:
        self._sys = sys
        self._proc = proc
        self._place: Path | None = None
        self.number = ""
        with suppress(OSError):
            number = folder.stat().st_dev
            place = (sys / "dev/block" / f"{os.major(number)}:{os.minor(number)}").resolve(strict=True)
            whole = place.parent if (place / "partition").exists() else place
            self.number = (whole / "dev").read_text(encoding="ascii").strip()
            self._place = whole

    @property
    def name(self) -> str | None:
        """What the kernel calls it, such as mmcblk0; None when the folder is on no block device of its own."""
        return None if self._place is None else self._place.name

    def written_bytes(self) -> int | None:
        """Return what all programs have written since the boot; None when the kernel does not tell."""
        if self._place is None:
            return None
        with suppress(OSError, ValueError, IndexError):
            return int((self._place / "stat").read_text(encoding="ascii").split()[6]) * SECTOR_BYTES
        return None

    def own_bytes(self) -> int | None:
        """Return what the control group of this process has written to it; None when the kernel does not tell."""
        with suppress(OSError, ValueError):
            groups = (self._proc / "self/cgroup").read_text(encoding="utf-8").splitlines()
            group = next((line[3:] for line in groups if line.startswith("0::")), "")
            if group.strip("/"):
                told = (self._sys / "fs/cgroup" / group.strip("/") / "io.stat").read_text(encoding="ascii")
                for line in told.splitlines():
                    number, _, fields = line.partition(" ")
                    if number == self.number:
                        return int(dict(item.split("=") for item in fields.split())["wbytes"])
        return None

    def life_used(self) -> float | None:
        """Return the share of its life that an eMMC says it has used, 0 to 1, rounded up to tenths; else None."""
        if self._place is None:
            return None
        with suppress(OSError, ValueError):
            # [JEDEC JESD84-B51 DEVICE_LIFE_TIME_EST]: 0 not told, 1 up to 10 %, ..., 11 beyond
            kinds = [int(kind, 16) for kind in (self._place / "device/life_time").read_text(encoding="ascii").split()]
            return min(max(kinds) / 10, 1.0) if max(kinds, default=0) else None
        return None


class Rate:
    """How fast a counter grows, over the last day."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def take(self, now_s: float, count: int | None) -> None:
        """Take a reading of the counter, by a clock that never goes back; one that shrank began anew."""
        if count is None:
            return
        samples = self._samples
        if samples and count < samples[-1][1]:
            samples.clear()
        while len(samples) > 1 and now_s - samples[1][0] >= SPAN_S:
            samples.popleft()
        if len(samples) > 1 and now_s - samples[-2][0] < SAMPLE_S:
            samples[-1] = (now_s, count)
        else:
            samples.append((now_s, count))

    @property
    def per_day(self) -> float | None:
        """Growth in a day; None before there are samples `SAMPLE_S` apart."""
        if not self._samples:
            return None
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_s - first_s) * DAY_S if last_s - first_s >= SAMPLE_S else None


@dataclass(frozen=True, slots=True)
class Outlook:
    """How long card and buffer last at the rate of the last day.

    Attributes:
        device: that holds the spool; None when it is on none, such as tmpfs.
        daily_bytes: written to it by all programs, None when not known.
        daily_bytes_own: of these, by this service; None when the kernel does not keep that apart.
        life_used: what an eMMC says of itself, 0 to 1; None where nothing says.
        card_years: until the card has taken what it is assumed to stand; None when not known.
        daily_frame_bytes: room that a day's frames take in the spool; None before it is known.
        buffer_days: how long frames find room while nothing is delivered; None when not known.
    """

    device: str | None = None
    daily_bytes: float | None = None
    daily_bytes_own: float | None = None
    life_used: float | None = None
    card_years: float | None = None
    daily_frame_bytes: float | None = None
    buffer_days: float | None = None


class Forecast:
    """Looks at the counters now and then.

    Args:
        card: that holds the spool.
        endurance_bytes: that it is assumed to stand.
    """

    def __init__(self, card: Card, endurance_bytes: float) -> None:
        self._card = card
        self._endurance_bytes = endurance_bytes
        self._device, self._own, self._frames = Rate(), Rate(), Rate()

    def look(self, boottime_s: float, frame_bytes: int, room_bytes: int | None) -> Outlook:
        """Say how long it lasts.

        Args:
            boottime_s: CLOCK_BOOTTIME.
            frame_bytes: room that all frames since the start have taken.
            room_bytes: that is left; None when not known.
        """
        written = self._card.written_bytes()
        self._device.take(boottime_s, written)
        self._own.take(boottime_s, self._card.own_bytes())
        self._frames.take(boottime_s, frame_bytes)
        daily = self._device.per_day
        if daily is None and written is not None and boottime_s >= SAMPLE_S:
            daily = written / boottime_s * DAY_S  # the kernel counts since the boot
        used = self._card.life_used()
        frames = self._frames.per_day
        return Outlook(
            device=self._card.name,
            daily_bytes=daily,
            daily_bytes_own=self._own.per_day,
            life_used=used,
            card_years=self._endurance_bytes * (1 - (used or 0.0)) / daily / YEAR_DAYS if daily else None,
            daily_frame_bytes=frames,
            buffer_days=room_bytes / frames if frames and room_bytes is not None else None,
        )
