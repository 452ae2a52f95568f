# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Is the card well, has it room, and is the spool on it whole?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.doctor import host
from agent.doctor.causes import found, of_error
from agent.doctor.finding import Finding, Value, ok
from agent.doctor.wording import room
from agent.errors import SpoolError

if TYPE_CHECKING:
    from agent.doctor.context import Context
    from agent.spool.reader import SpoolReader, SpoolStatus

MB: Final = 1_000_000
MIB: Final = 1 << 20
FULL_BYTES: Final = 32 * MB
"""With less room than this the rest of the system stumbles, too."""
WORN: Final = 0.8
"""Share of its life that an eMMC says is used."""
SAMPLE_S: Final = 2.0
DAY_S: Final = 86_400
HOUR_US: Final = 3_600_000_000
RECENT_DAYS: Final = 7
SHORT_YEARS: Final = 1.0
SHORT_DAYS: Final = 2.0
READ_ONLY_FLAG: Final = os.ST_RDONLY
VOLATILE: Final = frozenset({"tmpfs", "ramfs", "overlay"})
UNSAFE: Final = frozenset({"vfat", "exfat", "msdos", "ntfs", "ntfs3", "fuseblk"})
_MOUNTS: Final = Path("/proc/self/mountinfo")
_STATES: Final = {
    "full": "spool-full",
    "slow": "spool-slow",
    "failing": "spool-failing",
    "read-only": "disk-read-only",
    "missing": "spool-gone",
    "unbalanced": "spool-sums",
    "damaged": "spool-damaged",
    "locked": "spool-locked",
    "stopped": "spool-stopped",
}
"""States of the spool's writer (docs/status.md) and what they mean."""


def disk(context: Context) -> Iterator[Finding]:
    """Say how the file system with the spool is."""
    if context.config is None:
        return
    folder = wanted = context.config.spool_path.parent
    try:
        while not folder.exists():  # the agent makes what is missing when it first runs
            folder = folder.parent
    except PermissionError:
        yield found("no-rights", "disk", f"{folder.parent} may not be searched by this user")
        return
    if folder != wanted and context.said("spool") is not None:
        yield found("state-missing", "disk", f"{wanted} is not there")
        return
    try:
        at = os.statvfs(folder)
    except OSError as error:
        yield found("no-rights", "disk", f"{folder}: {error.strerror}")
        return
    free, size = at.f_bavail * at.f_frsize, at.f_blocks * at.f_frsize
    kind, device = _mount(folder)
    values: dict[str, Value] = {"free_bytes": free, "size_bytes": size, "file_system": kind}
    said = f"{folder}: {room(free)} of {room(size)} free ({kind or 'unknown'}{f' on {device}' if device else ''})"
    errors = _errors(context.root, folder)
    stranger = _not_ours(context)
    if at.f_flag & READ_ONLY_FLAG:
        yield found("disk-read-only", "disk", said, values)
    elif errors:
        yield found(
            "disk-errors", "disk", f"{said}; the kernel counts {errors} errors on it", values, config=context.path
        )
    elif free < FULL_BYTES or (at.f_files and not at.f_favail):
        yield found("disk-full", "disk", said, values)
    elif kind in VOLATILE:
        yield found("disk-volatile", "disk", said, values)
    elif kind in UNSAFE:
        yield found("disk-promises", "disk", said, values)
    elif stranger is not None:
        evidence = f"{stranger} is not for the user {context.who}"
        yield found("state-owner", "disk", evidence, values, user=context.who, where=stranger)
    elif free < (growth := _growth(context)) + FULL_BYTES:
        yield found("disk-low", "disk", f"{said}; the spool may grow by {room(growth)}", values)
    else:
        yield ok("disk", said, values)
    yield from _wear(context)


def _not_ours(context: Context) -> Path | None:
    """Return the first of the spool's folder and files that its user may not write; None when there is none."""
    assert context.config is not None
    if not context.installed:
        return None
    path = context.config.spool_path
    for place in (path.parent, path, path.with_name(path.name + ".lock")):
        try:
            if not host.may_use(place, context.who):
                return place
        except OSError:
            continue
    return None


def _growth(context: Context) -> int:
    """Return by how much the spool may still grow."""
    assert context.config is not None
    quota = context.config.spool.quota_mb * MIB
    try:
        return max(0, quota - context.config.spool_path.stat().st_size)
    except OSError:
        return quota


def _wear(context: Context) -> Iterator[Finding]:
    """Say how long the card lasts, as the running agent has counted."""
    outlook = context.said("outlook") or {}
    used, years = outlook.get("life_used"), outlook.get("card_years")
    daily = outlook.get("daily_bytes")
    values: dict[str, Value] = {"life_used": used, "card_years": years, "daily_bytes": daily}
    if used is not None and used >= WORN:
        yield found("card-worn", "card", f"the drive says that {used:.0%} of its life is used", values)
    elif years is not None and years < SHORT_YEARS:
        evidence = f"{room(daily or 0)} are written a day: at that rate it lasts {years * 365:,.0f} days"
        yield found("card-worn", "card", evidence, values)
    elif years is not None:
        yield ok("card", f"{room(daily or 0)} are written a day: at that rate it lasts {years:,.0f} years", values)


def spool(context: Context) -> Iterator[Finding]:
    """Say whether the spool is whole, and how long it lasts without the platform."""
    if context.config is None:
        return
    writer = context.said("spool")
    if writer is not None:
        state, detail = str(writer.get("state")), str(writer.get("detail") or "")
        if state != "ok":
            cause = _STATES.get(state, "spool-strange")
            evidence, where = f"{state}: {detail or 'see the log'}", context.config.spool_path
            yield found(cause, "spool", evidence, config=context.path, where=where)
        yield from _counted(context, writer)
        if writer.get("sealing"):
            yield found("spool-sealing", "spool", str(writer["sealing"]), config=context.path)
        days = max(1.0, (context.uptime_s or 0) / DAY_S)
        if int(writer.get("slow_commits") or 0) >= days and state != "slow":
            longest = float(writer.get("longest_commit_s") or 0)
            evidence = f"{writer['slow_commits']} commits took more than 3 s, the longest {longest:.1f} s"
            yield found("card-slow", "spool", evidence, config=context.path)
    yield from _file(context, writer)


def _counted(context: Context, writer: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge what the writer has counted since its start."""
    assert context.config is not None
    shed, unnoted = (int(writer.get(name) or 0) for name in ("shed_frames", "journal_failures"))
    if shed:
        evidence = f"{shed:,} frames found no room in memory since the agent's start, and are lost"
        yield found("spool-shed", "spool", evidence, {"shed_frames": shed})
    if unnoted:
        evidence = f"{unnoted:,} notes of what was heard could not be made since the agent's start"
        where = context.config.gateway.runtime_dir
        yield found("spool-unnoted", "spool", evidence, {"journal_failures": unnoted}, where=where)
    if writer.get("crowded"):
        yield found("disk-low", "spool", "the disk has no room to spare: the spool does not grow, and evicts sooner")


def _file(context: Context, writer: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Read the spool's file."""
    from agent.spool.reader import SpoolReader

    assert context.config is not None
    path = context.config.spool_path
    try:
        with SpoolReader(path) as reader:
            status, wrong = reader.look()
            context.spool_status.append(status)
            damaged, looked = _sample(reader) if not wrong else (0, 0)
    except SpoolError as error:
        if isinstance(error.__cause__, PermissionError):
            yield found("no-rights", "spool", f"{path} may not be read by this user")
        elif error.code == "CG-SPL-001":
            yield found("spool-gone" if writer is not None else "spool-new", "spool", f"{path} is not there")
        else:
            yield of_error("spool", error)
        return
    if wrong:
        yield found("spool-sums", "spool", "; ".join(wrong[:3]), {"wrong": len(wrong)}, config=context.path)
        return
    if damaged:
        evidence = f"{damaged} of the {looked:,} newest frames are damaged"
        yield found("spool-damaged", "spool", evidence, {"damaged": damaged, "looked": looked})
        return
    yield from _account(context, status, writer)


def _sample(reader: SpoolReader) -> tuple[int, int]:
    """Read the newest frames, as many as there is time for; return how many are damaged, and how many were read.

    Raises:
        SpoolError: a page cannot be read at all.
    """
    from agent.spool.row import DamagedRowError

    deadline = time.monotonic() + SAMPLE_S
    damaged = looked = 0
    for row in reader.rows(newest_first=True):
        looked += 1
        damaged += isinstance(row, DamagedRowError)
        if time.monotonic() >= deadline:
            break
    return damaged, looked


def _account(context: Context, status: SpoolStatus, writer: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Judge counts that add up."""
    waiting = sum(stream.unsealed + stream.sealed for stream in status.streams)
    lost, lately = _lost(context, status)
    refused = sum(stream.quarantined_batches for stream in status.streams)
    days = (context.said("outlook") or {}).get("buffer_days")
    left = None if writer is None else writer.get("room_bytes")
    values: dict[str, Value] = {
        "frames": status.frames,
        "waiting": waiting,
        "lost": lost,
        "quarantined_batches": refused,
        "buffer_days": days,
        "room_bytes": left,
    }
    lasts = f", room for {days:,.0f} days without the platform" if days is not None else ""
    if days is None and left is not None:
        lasts = f", room for {room(left)} more"
    earlier = f"; {lost:,} were given up earlier" if lost and not lately else ""
    said = f"sums match; {waiting:,} frames wait{lasts}{earlier}"
    if refused:
        yield found(
            "spool-quarantine", "spool", f"{refused} batches are in quarantine; {said}", values, config=context.path
        )
    elif lately:
        yield found(
            "spool-lost", "spool", f"{lately:,} frames were given up in the last {RECENT_DAYS} days; {said}", values
        )
    elif days is not None and days < SHORT_DAYS:
        yield found("spool-short", "spool", said, values)
    else:
        yield ok("spool", said, values)


def _lost(context: Context, status: SpoolStatus) -> tuple[int, int]:
    """Return how many frames were given up: since the spool began, and of the last days of this boot."""
    this = context.clock.boottime_us() // HOUR_US
    hours = [hour for stream in status.streams if stream.open for hour in stream.hours]
    lately = [hour for hour in hours if hour.boot_id == context.clock.boot_id and hour.hour > this - RECENT_DAYS * 24]
    every = [stream.account for stream in status.streams if stream.open]
    return (
        sum(account.evicted + account.expired for account in every),
        sum(hour.account.evicted + hour.account.expired for hour in lately),
    )


def _mount(folder: Path) -> tuple[str, str]:
    """Return the kind of the file system and the device that a folder is on; empty when nobody says."""
    try:
        number = folder.stat().st_dev
        wanted = f"{os.major(number)}:{os.minor(number)}"
        for line in (host.text(_MOUNTS) or "").splitlines():
            words, _, rest = line.partition(" - ")
            if words.split()[2:3] == [wanted]:
                kind, device = rest.split()[:2]
                return kind, device
    except (OSError, ValueError):
        pass
    return "", ""


def _errors(root: Path, folder: Path) -> int:
    """Return how many errors ext4 has met, since it was checked last, on the file system that a folder is on.

    The kernel counts them under its own name of the device; what is mounted may be called /dev/root, which is none.
    """
    try:
        number = folder.stat().st_dev
        name = (root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}").readlink().name
    except OSError:
        return 0  # no file system on a device
    return host.number(root / "sys/fs/ext4" / name / "errors_count") or 0
