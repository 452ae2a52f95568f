# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""From CLOCK_BOOTTIME to UTC, with a bound on the error, also long after the fact.

A gateway keeps the boot and the CLOCK_BOOTTIME of everything it hears, and now and then an anchor: a moment of which
the UTC was known to within some uncertainty. Between anchors the host's clock runs with an error of at most
`DRIFT_PPM`, so each anchor confines every other moment of its boot to an interval that widens with the distance; the
true UTC lies in all of them. The estimate runs straight from anchor to anchor within what they leave. A boot without
any anchor is bounded by its neighbours: after the last record of the boot before it, before the first moment of the one
after it.

Nothing here is signed or stored: better anchors give better times for the same frames.

What is assumed: CLOCK_BOOTTIME runs within `DRIFT_PPM` of UTC, and of anchors that contradict each other at least one
is right: the bound then spans them. A time daemon that slews the host's clock faster than that moves CLOCK_BOOTTIME
too; it shows as a contradiction once it exceeds the uncertainty of the anchors around it. UTC is the POSIX count; a
leap second would show as a contradiction of one second.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.batch.model import Anchor, TimeSource

DRIFT_PPM = 50
"""How far a host's crystal may be off; those of a Raspberry Pi are within 30 over temperature and age."""


class Utc(NamedTuple):
    """A moment in UTC.

    Attributes:
        utc_us: best estimate, microseconds since 1970-01-01.
        error_us: the true UTC is not farther away than this.
        source: of the anchor that bounds it best; None where only neighbouring boots bound it.
    """

    utc_us: int
    error_us: int
    source: TimeSource | None


class _Offset(NamedTuple):
    """An interval of UTC minus CLOCK_BOOTTIME, both ends included."""

    low: int
    high: int

    def widened(self, distance_us: int) -> _Offset:
        drift = _drift(distance_us)
        return _Offset(self.low - drift, self.high + drift)


class _Node(NamedTuple):
    """What all anchors of a boot together say about the moment of one of them."""

    boottime_us: int
    offset: _Offset
    reach: tuple[int, TimeSource]
    """Uncertainty and source of the anchor that, from wherever it is, bounds this moment best."""


def _drift(distance_us: int) -> int:
    return -(-abs(distance_us) * DRIFT_PPM // 1_000_000)


def _meet(*offsets: _Offset) -> _Offset:
    """Return what all allow; what they span, where they contradict each other."""
    low, high = max(offset.low for offset in offsets), min(offset.high for offset in offsets)
    if low <= high:
        return _Offset(low, high)
    return _Offset(min(offset.low for offset in offsets), max(offset.high for offset in offsets))


class BootTimeline:
    """UTC for the moments of one boot.

    Args:
        anchors: of one and the same boot, in any order; the boot id is not looked at.
    """

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        ordered = sorted(anchors, key=lambda anchor: anchor.boottime_us)
        marks = [_mark(at, list(same)) for at, same in groupby(ordered, key=lambda anchor: anchor.boottime_us)]
        ahead = _carry(marks)
        behind = _carry(marks[::-1])[::-1]
        self._nodes = [_together(*said) for said in zip(marks, ahead, behind, strict=True)]
        self._moments = [node.boottime_us for node in self._nodes]

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def utc(self, boottime_us: int) -> Utc | None:
        """Estimate the UTC of a moment of this boot; None without any anchor."""
        if not self._nodes:
            return None
        index = bisect_right(self._moments, boottime_us)
        around = self._nodes[max(index - 1, 0) : index + 1]
        offset = _meet(*(node.offset.widened(boottime_us - node.boottime_us) for node in around))
        estimate = min(max(_straight(around, boottime_us), offset.low), offset.high)
        error_us = max(offset.high - estimate, estimate - offset.low)
        _, source = min((_grown(node, boottime_us) for node in around), key=_uncertainty)
        return Utc(boottime_us + estimate, error_us, source)

    def earliest_us(self, boottime_us: int) -> int | None:
        """Return the lower bound of the UTC of a moment; None without any anchor."""
        utc = self.utc(boottime_us)
        return None if utc is None else utc.utc_us - utc.error_us

    def latest_us(self, boottime_us: int) -> int | None:
        """Return the upper bound of the UTC of a moment; None without any anchor."""
        utc = self.utc(boottime_us)
        return None if utc is None else utc.utc_us + utc.error_us


def _mark(boottime_us: int, anchors: Sequence[Anchor]) -> _Node:
    """Put the anchors of one moment together."""
    offsets = [
        _Offset(
            anchor.utc_us - boottime_us - anchor.uncertainty_us, anchor.utc_us - boottime_us + anchor.uncertainty_us
        )
        for anchor in anchors
    ]
    reach = min(((anchor.uncertainty_us, anchor.source) for anchor in anchors), key=_uncertainty)
    return _Node(boottime_us, _meet(*offsets), reach)


def _together(mark: _Node, *sides: _Node | None) -> _Node:
    """Put together what the anchors of a moment, those before and those behind it say about it."""
    said = [mark, *(side for side in sides if side is not None)]
    reach = min((node.reach for node in said), key=_uncertainty)
    return _Node(mark.boottime_us, _meet(*(node.offset for node in said)), reach)


def _uncertainty(reach: tuple[int, TimeSource]) -> int:
    return reach[0]


def _grown(node: _Node, boottime_us: int) -> tuple[int, TimeSource]:
    uncertainty, source = node.reach
    return uncertainty + _drift(boottime_us - node.boottime_us), source


def _carry(marks: Sequence[_Node]) -> list[_Node | None]:
    """Return for each moment what those before it in this order say about it; None for the first."""
    said: list[_Node | None] = []
    known: _Node | None = None
    for mark in marks:
        if known is not None:
            at = mark.boottime_us
            known = _Node(at, known.offset.widened(at - known.boottime_us), _grown(known, at))
        said.append(known)
        known = _together(mark, known)
    return said


def _straight(around: Sequence[_Node], boottime_us: int) -> int:
    """Return the offset on the line between the centres of two nodes, or that of the only one."""
    first, last = around[0], around[-1]
    start, end = (sum(node.offset) // 2 for node in (first, last))
    if first is last:
        return start
    return start + (end - start) * (boottime_us - first.boottime_us) // (last.boottime_us - first.boottime_us)


class Boot(NamedTuple):
    """A boot of a gateway, as far as its records tell.

    Attributes:
        boot_id: the kernel's boot id, 16 bytes.
        last_us: CLOCK_BOOTTIME of its latest record.
        over_us: UTC by which that record certainly existed, for one because the platform had it; None if unknown.
    """

    boot_id: bytes
    last_us: int
    over_us: int | None = None


class Timeline:
    """UTC for the moments of several boots.

    Args:
        anchors: of any boots, in any order.
        boots: those whose order is known, oldest first. The order comes from sequence numbers, never from a clock.
    """

    def __init__(self, anchors: Iterable[Anchor], boots: Sequence[Boot] = ()) -> None:
        by_boot: dict[bytes, list[Anchor]] = {}
        for anchor in anchors:
            by_boot.setdefault(anchor.boot_id, []).append(anchor)
        self._anchored = {boot_id: BootTimeline(members) for boot_id, members in by_boot.items()}
        self._last_us = {boot.boot_id: boot.last_us for boot in boots}
        self._starts_after_us = self._walk_up(boots)
        self._ends_before_us = self._walk_down(boots)

    def utc(self, boot_id: bytes, boottime_us: int) -> Utc | None:
        """Estimate the UTC of a moment; None where nothing bounds it on both sides."""
        anchored = self._anchored.get(boot_id)
        if anchored is not None:
            return anchored.utc(boottime_us)
        start, end = self._starts_after_us.get(boot_id), self._ends_before_us.get(boot_id)
        if start is None or end is None:
            return None
        low = start + _at_least(boottime_us)
        high = end - _at_least(max(self._last_us[boot_id] - boottime_us, 0))
        middle = (low + high) // 2
        return Utc(middle, max(abs(high - middle), abs(middle - low)), None)

    def _walk_up(self, boots: Sequence[Boot]) -> dict[bytes, int | None]:
        """Find for each boot a UTC before which it cannot have begun."""
        found: dict[bytes, int | None] = {}
        known: int | None = None
        for boot in boots:
            found[boot.boot_id] = known
            anchored = self._anchored.get(boot.boot_id)
            if anchored is not None:
                known = anchored.earliest_us(boot.last_us)
            elif known is not None:
                known += _at_least(boot.last_us)
        return found

    def _walk_down(self, boots: Sequence[Boot]) -> dict[bytes, int | None]:
        """Find for each boot a UTC after which its latest record cannot have been made."""
        found: dict[bytes, int | None] = {}
        known: int | None = None
        for boot in reversed(boots):
            limits = [limit for limit in (known, boot.over_us) if limit is not None]
            end = found[boot.boot_id] = min(limits, default=None)
            anchored = self._anchored.get(boot.boot_id)
            if anchored is not None:
                known = anchored.latest_us(0)
            else:
                known = None if end is None else end - _at_least(boot.last_us)
        return found


def _at_least(duration_us: int) -> int:
    """Return the shortest true duration that the host's clock can have measured as this one."""
    return duration_us - _drift(duration_us)
