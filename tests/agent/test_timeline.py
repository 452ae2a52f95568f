# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from agent.batch.model import Anchor, TimeSource
from agent.timeline import DRIFT_PPM, Boot, BootTimeline, Timeline, Utc

BOOT = bytes(16)
YEAR_2026_US = 1_767_225_600_000_000
SECOND = 1_000_000
DAY = 86_400 * SECOND


@dataclass(frozen=True)
class TrueClock:
    """The true UTC of each moment of a boot whose crystal changes its mind from hour to hour."""

    start_us: int
    rates_ppm: tuple[int, ...]

    def utc_us(self, boottime_us: int) -> int:
        hour = 3600 * SECOND
        whole, rest = divmod(boottime_us, hour)
        count = len(self.rates_ppm)
        drift = sum(hour * rate for rate in self.rates_ppm) * (whole // count)
        drift += sum(hour * rate for rate in self.rates_ppm[: whole % count]) + rest * self.rates_ppm[whole % count]
        return self.start_us + boottime_us + drift // 1_000_000


clocks = st.builds(
    TrueClock,
    st.integers(YEAR_2026_US, YEAR_2026_US + 1000 * DAY),
    st.lists(st.integers(-40, 40), min_size=1, max_size=5).map(tuple),
)
moments = st.integers(0, 20 * DAY)


@st.composite
def anchors(draw: st.DrawFn, clock: TrueClock, boot_id: bytes = BOOT, *, latest: int = 20 * DAY) -> Anchor:
    """Draw an anchor that is off by no more than it says."""
    at = draw(st.integers(0, latest))
    uncertainty = draw(st.sampled_from([0, 1, 50, 20_000, 300_000, 5 * SECOND]))
    noise = draw(st.integers(-uncertainty, uncertainty))
    return Anchor(boot_id, at, clock.utc_us(at) + noise, uncertainty, draw(st.sampled_from(TimeSource)))


def holds(estimate: Utc | None, true_us: int) -> bool:
    return estimate is not None and abs(estimate.utc_us - true_us) <= estimate.error_us + 1


@given(st.data(), clocks, st.lists(moments, min_size=1, max_size=10))
def test_the_true_time_is_within_the_bound(data: st.DataObject, clock: TrueClock, asked: list[int]) -> None:
    known = data.draw(st.lists(anchors(clock), min_size=1, max_size=8))
    timeline = BootTimeline(known)
    for at in (*asked, *(anchor.boottime_us for anchor in known)):
        assert holds(timeline.utc(at), clock.utc_us(at))


@given(st.data(), clocks, moments)
def test_no_anchor_alone_bounds_better_than_all_together(data: st.DataObject, clock: TrueClock, at: int) -> None:
    known = data.draw(st.lists(anchors(clock), min_size=1, max_size=8))
    together = BootTimeline(known).utc(at)
    assert together is not None
    for anchor in known:
        alone = BootTimeline([anchor]).utc(at)
        assert alone is not None
        # The straight line need not run in the middle of what is possible: at most twice the half-width.
        assert together.error_us <= 2 * alone.error_us + len(known)


@given(st.data(), clocks, moments)
def test_the_order_of_the_anchors_does_not_matter(data: st.DataObject, clock: TrueClock, at: int) -> None:
    known = data.draw(st.lists(anchors(clock), min_size=1, max_size=6, unique_by=lambda anchor: anchor.boottime_us))
    assert BootTimeline(known).utc(at) == BootTimeline(data.draw(st.permutations(known))).utc(at)


@given(st.data(), clocks, moments, st.integers(-(10**15), 10**15))
def test_where_anchors_contradict_each_other_the_bound_spans_them(
    data: st.DataObject, clock: TrueClock, at: int, lie_us: int
) -> None:
    known = data.draw(st.lists(anchors(clock), min_size=1, max_size=6))
    liar = data.draw(anchors(clock))
    liar = replace(liar, utc_us=liar.utc_us + lie_us)
    if abs(lie_us) <= 3 * 20 * DAY * DRIFT_PPM // 1_000_000 + 20 * SECOND:
        return  # not far enough off to contradict the others: nothing could notice
    assert holds(BootTimeline([*known, liar]).utc(at), clock.utc_us(at))


def test_one_liar_among_many_does_no_harm_away_from_it() -> None:
    known = [Anchor(BOOT, hour * 3600 * SECOND, YEAR_2026_US + hour * 3600 * SECOND, 1000, TimeSource.KERNEL)
             for hour in range(10)]  # fmt: skip
    known[5] = replace(known[5], utc_us=0)
    timeline = BootTimeline(known)
    for hour in (0.5, 3.5, 4.5, 5.5, 8.5):
        utc = timeline.utc(int(hour * 3600 * SECOND))
        assert utc is not None
        assert utc.error_us < 400_000


def test_a_boot_without_anchors_has_no_time() -> None:
    assert BootTimeline([]).utc(5) is None
    assert not BootTimeline([])
    assert Timeline([]).utc(BOOT, 5) is None


def test_before_the_first_anchor_the_error_is_the_drift() -> None:
    timeline = BootTimeline([Anchor(BOOT, DAY, YEAR_2026_US + DAY, 1000, TimeSource.PLATFORM)])
    assert timeline.utc(0) == Utc(YEAR_2026_US, 1000 + 4_320_000, TimeSource.PLATFORM)


def test_between_anchors_a_steady_drift_cancels() -> None:
    clock = TrueClock(YEAR_2026_US, (30,))
    timeline = BootTimeline([Anchor(BOOT, at, clock.utc_us(at), 1000, TimeSource.KERNEL) for at in (0, DAY)])
    utc = timeline.utc(DAY // 2)
    assert utc is not None
    assert abs(utc.utc_us - clock.utc_us(DAY // 2)) <= 2
    # 30 ppm are used up; the other 20 could have been run ahead and taken back, or the other way round
    assert utc.error_us == DAY // 2 * 20 // 1_000_000 + 1000


def test_the_source_is_that_of_the_anchor_that_bounds_best() -> None:
    timeline = BootTimeline([
        Anchor(BOOT, 0, YEAR_2026_US, 1, TimeSource.GNSS),
        Anchor(BOOT, 60 * SECOND, YEAR_2026_US + 60 * SECOND, 250_000, TimeSource.KERNEL),
        Anchor(BOOT, DAY, YEAR_2026_US + DAY, 30_000, TimeSource.PLATFORM),
    ])  # fmt: skip
    assert [utc.source for at in (60 * SECOND, DAY) if (utc := timeline.utc(at))] == [
        TimeSource.GNSS,
        TimeSource.PLATFORM,
    ]


@dataclass(frozen=True)
class Life:
    """Several boots one after the other: their clocks, how long each ran, and who knows what."""

    clocks: tuple[TrueClock, ...]
    lengths_us: tuple[int, ...]
    anchors: tuple[Anchor, ...]
    seen_us: tuple[int | None, ...]

    @property
    def boots(self) -> list[Boot]:
        return [
            Boot(bytes([number]) * 16, length, seen)
            for number, (length, seen) in enumerate(zip(self.lengths_us, self.seen_us, strict=True))
        ]


@st.composite
def lives(draw: st.DrawFn) -> Life:
    now = YEAR_2026_US
    clocks_, lengths, known, seen = [], [], [], []
    for number in range(draw(st.integers(1, 6))):
        now += draw(st.integers(0, 5 * DAY))
        clock = TrueClock(now, tuple(draw(st.lists(st.integers(-40, 40), min_size=1, max_size=3))))
        length = draw(st.integers(0, 5 * DAY))
        boot_id = bytes([number]) * 16
        known += draw(st.lists(anchors(clock, boot_id, latest=length), max_size=2))
        now = clock.utc_us(length)
        clocks_.append(clock)
        lengths.append(length)
        seen.append(draw(st.none() | st.integers(now, now + 9 * DAY)))
    return Life(tuple(clocks_), tuple(lengths), tuple(known), tuple(seen))


@given(lives(), st.data())
def test_boots_without_anchors_are_bounded_by_their_neighbours(life: Life, data: st.DataObject) -> None:
    timeline = Timeline(life.anchors, life.boots)
    anchored = {anchor.boot_id for anchor in life.anchors}
    before = False
    for index, (clock, length, boot) in enumerate(zip(life.clocks, life.lengths_us, life.boots, strict=True)):
        at = data.draw(st.integers(0, length))
        after = any(later.boot_id in anchored for later in life.boots[index + 1 :]) or any(
            seen is not None for seen in life.seen_us[index:]
        )
        estimate = timeline.utc(boot.boot_id, at)
        if boot.boot_id in anchored or (before and after):
            assert holds(estimate, clock.utc_us(at))
        else:
            assert estimate is None
        if estimate is not None:
            assert (estimate.source is None) == (boot.boot_id not in anchored)
        before = before or boot.boot_id in anchored
