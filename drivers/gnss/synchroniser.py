# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Which second each pulse began: the pulses of the concentrator and the messages of the receiver, put together.

A message names the moment of a fix and comes some time after it. How long is not said, so which pulse it is about is
not taken from the nearest one. What is certain is that it does not come before; what is assumed is that it does not
come `LATEST_NS` after. Each message so leaves one number for the pulses, or two when it came near a pulse or when the
host was too busy to say when it came; several messages together leave one. From then on the counter itself numbers the
pulses, which no late message changes: it only confirms an older pulse. Messages that contradict it again and again end
the agreement, and all begins anew. Until a message has confirmed it, a pulse is no reference: so neither a receiver
that guesses nor pulses without a fix are believed.

What is not noticed: a receiver that begins to speak of a fix later than `LATEST_NS`, and always.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Final

from drivers.gnss.reference import NS_PER_S, RATE_LIMIT_PPM, TICKS_PER_S, Reference

if TYPE_CHECKING:
    from drivers.sx1302.pps import Pulse

LATEST_NS: Final = NS_PER_S
"""Within this time after a fix the burst of its messages begins. A receiver that needed longer could not keep up with
its own seconds."""

JITTER_NS: Final = 1_000
"""How far pulses may scatter; receivers promise 30 to 100 ns, and the counter has a step of 31."""
WANDER_PPM: Final = 1
"""How fast a crystal may change its rate from one pulse to the next."""
STEADY_S: Final = 8
"""The rate is known once it was measured for so long."""
WINDOW_S: Final = 64
"""Over which the rate is measured."""
GAP_TOLERANCE_NS: Final = 100_000_000
"""After pulses stayed away for so long that they may have drifted so far, they are counted anew."""

AGREEING: Final = 3
"""So many messages must agree before they are believed."""
CONTRADICTING: Final = 3
"""So many pulses or messages in a row that do not fit are right, and what was believed is wrong."""
HOST_DRIFT_PPM: Final = 1_000
"""How far the host's clock, perhaps being slewed, and the pulses may run apart."""
OLDEST_PULSE_NS: Final = 10 * NS_PER_S
"""Later, messages say nothing about the pulses."""
WAITING_LIMIT: Final = 4
"""Messages that wait for their pulse to be read from the chip, which happens about once a second."""


@dataclass(frozen=True, slots=True)
class SecondMark:
    """A message that names the second that began with the last pulse before it, from a receiver with a fix.

    Attributes:
        gps_s: seconds since 1980-01-06 without leap seconds.
        leap_s: GPS ahead of UTC in this second.
        before_ns: CLOCK_MONOTONIC at which the burst of messages that it came in had not begun yet.
        after_ns: CLOCK_MONOTONIC at which its first byte was there.
        accuracy_ns: how exact the receiver's pulses are.
        part_ns: how long the second had lasted at the moment of the fix; most take theirs right with the pulse.
        gps_doubt_s: as in `Reference`.
        utc_doubt_s: as in `Reference`.
    """

    gps_s: int
    leap_s: int
    before_ns: int
    after_ns: int
    accuracy_ns: int
    part_ns: int = 0
    gps_doubt_s: int = 0
    utc_doubt_s: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """What was met since the beginning.

    Attributes:
        pulses: that fitted the row.
        stray_pulses: that did not, and were refused.
        recounts: times that the pulses were counted anew, because they moved or the chip was started.
        confirmed: pulses that got their second.
        contradictions: messages that did not fit the pulses.
    """

    pulses: int = 0
    stray_pulses: int = 0
    recounts: int = 0
    confirmed: int = 0
    contradictions: int = 0


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A pulse in its row; `tolerance_ns` is how well it was checked against those before."""

    number: int
    pulse: Pulse
    tolerance_ns: int


class _Agreement:
    """What messages say of the second that the pulse with the number 0 began.

    Attributes:
        zero_s: that second, GPS; None until enough messages agree.
        contradictions: messages that did not fit.
    """

    def __init__(self) -> None:
        self.zero_s: int | None = None
        self.contradictions = 0
        self._low_s = self._high_s = 0
        self._agreeing = 0
        self._contradicting = 0

    def weigh(self, low_s: int, high_s: int) -> bool:
        """Take a message that allows what is from `low_s` to `high_s`; True if it fits what is agreed."""
        if self.zero_s is not None:
            if low_s <= self.zero_s <= high_s:
                self._contradicting = 0
                return True
            self.contradictions += 1
            self._contradicting += 1
            if self._contradicting < CONTRADICTING:
                return False
            self.forget()
        if self._agreeing and max(self._low_s, low_s) > min(self._high_s, high_s):
            self.contradictions += 1
            self.forget()
        if self._agreeing:
            low_s, high_s = max(self._low_s, low_s), min(self._high_s, high_s)
        self._low_s, self._high_s = low_s, high_s
        self._agreeing += 1
        if low_s == high_s and self._agreeing >= AGREEING:
            self.zero_s = low_s
        return self.zero_s is not None

    def forget(self) -> None:
        """Begin anew."""
        self.zero_s = None
        self._agreeing = self._contradicting = 0


class Synchroniser:
    """Numbers the pulses. Any thread may call anything.

    Args:
        delay_ns: by how much a pulse reaches the counter after the beginning of its second: antenna, cables, receiver.
    """

    def __init__(self, *, delay_ns: int = 0) -> None:
        self._delay_ns = delay_ns
        self._lock = Lock()
        self._tally = Tally()
        self._row: deque[_Numbered] = deque(maxlen=2 * WINDOW_S)
        self._strays = 0
        self._agreement = _Agreement()
        self._waiting: deque[SecondMark] = deque(maxlen=WAITING_LIMIT)
        self._reference: Reference | None = None

    @property
    def reference(self) -> Reference | None:
        """The newest confirmed pulse; None while there is none in this run of the chip."""
        return self._reference

    @property
    def tally(self) -> Tally:
        """What was met."""
        return replace(self._tally, contradictions=self._agreement.contradictions)

    @property
    def settled(self) -> bool:
        """Whether pulses and messages agree."""
        return self._agreement.zero_s is not None

    @property
    def last_pulse(self) -> Pulse | None:
        """The newest pulse that fitted."""
        try:
            return self._row[-1].pulse
        except IndexError:
            return None

    def restart(self) -> None:
        """Forget all: the chip's counter begins anew."""
        with self._lock:
            self._recount()
            self._reference = None

    def pulse(self, pulse: Pulse) -> None:
        """Take the next pulse of the concentrator."""
        with self._lock:
            if not self._row:
                self._row.append(_Numbered(0, pulse, GAP_TOLERANCE_NS))
                return
            last = self._row[-1]
            rate_ticks, rate_s = self._rate()
            ticks = pulse.counter_ticks - last.pulse.counter_ticks
            seconds = (2 * ticks * rate_s + rate_ticks) // (2 * rate_ticks)
            off_ns = (ticks * rate_s - seconds * rate_ticks) * NS_PER_S // rate_ticks
            tolerance_ns = JITTER_NS + seconds * (WANDER_PPM if rate_s >= STEADY_S else RATE_LIMIT_PPM) * 1000
            if ticks == 0:
                return
            if seconds >= 1 and abs(off_ns) <= tolerance_ns <= GAP_TOLERANCE_NS:
                self._strays = 0
                self._tally = replace(self._tally, pulses=self._tally.pulses + 1)
                self._row.append(_Numbered(last.number + seconds, pulse, tolerance_ns))
                self._confirm()
                return
            self._strays += 1
            self._tally = replace(self._tally, stray_pulses=self._tally.stray_pulses + 1)
            if self._strays >= CONTRADICTING or tolerance_ns > GAP_TOLERANCE_NS:
                self._recount()
                self._row.append(_Numbered(0, pulse, GAP_TOLERANCE_NS))

    def mark(self, mark: SecondMark) -> None:
        """Take a message that names a second."""
        with self._lock:
            if not self._row:
                return
            last = self._row[-1]
            away_ns = max(abs(at - last.pulse.host_ns) for at in (mark.before_ns, mark.after_ns))
            if away_ns > OLDEST_PULSE_NS:
                return
            slack_ns = last.pulse.host_error_ns + away_ns * HOST_DRIFT_PPM // 1_000_000
            after_ns = last.number * NS_PER_S + mark.after_ns - last.pulse.host_ns
            before_ns = last.number * NS_PER_S + mark.before_ns - last.pulse.host_ns
            fix_ns = mark.gps_s * NS_PER_S + mark.part_ns
            low = -((after_ns + slack_ns - fix_ns) // NS_PER_S)
            high = (fix_ns + LATEST_NS - before_ns + slack_ns) // NS_PER_S
            if not self._agreement.weigh(low, high):
                # Nothing that was said before is certain now.
                self._waiting.clear()
                return
            self._waiting.append(mark)
            self._confirm()

    def _confirm(self) -> None:
        """Make a reference of the newest pulse whose second a message has named."""
        if self._agreement.zero_s is None:
            return
        named = {mark.gps_s - self._agreement.zero_s: mark for mark in self._waiting}
        for numbered in reversed(self._row):
            mark = named.get(numbered.number)
            if mark is not None and numbered.tolerance_ns < GAP_TOLERANCE_NS:
                break
        else:
            return
        self._waiting = deque((m for m in self._waiting if m.gps_s > mark.gps_s), maxlen=WAITING_LIMIT)
        span_ticks, span_s = self._rate()
        steady = span_s >= STEADY_S
        self._reference = Reference(
            pulse_ticks=numbered.pulse.counter_ticks,
            host_ns=numbered.pulse.host_ns,
            host_error_ns=numbered.pulse.host_error_ns,
            gps_s=mark.gps_s,
            leap_s=mark.leap_s,
            delay_ns=self._delay_ns,
            accuracy_ns=mark.accuracy_ns + numbered.tolerance_ns,
            span_ticks=span_ticks if steady else TICKS_PER_S,
            span_s=span_s if steady else 0,
            gps_doubt_s=mark.gps_doubt_s,
            utc_doubt_s=mark.utc_doubt_s,
        )
        self._tally = replace(self._tally, confirmed=self._tally.confirmed + 1)

    def _rate(self) -> tuple[int, int]:
        """Return ticks and the seconds in which they were counted; the nominal rate, for a second, without a row."""
        last = self._row[-1]
        # The first pulse of a row was checked against nothing.
        checked = (n for n in self._row if n.tolerance_ns < GAP_TOLERANCE_NS and n.number >= last.number - WINDOW_S)
        first = next(checked, last)
        if first is last:
            return TICKS_PER_S, 1
        return last.pulse.counter_ticks - first.pulse.counter_ticks, last.number - first.number

    def _recount(self) -> None:
        """Number the pulses anew."""
        if self._row:
            self._tally = replace(self._tally, recounts=self._tally.recounts + 1)
        self._row.clear()
        self._strays = 0
        self._agreement.forget()
        self._waiting.clear()
