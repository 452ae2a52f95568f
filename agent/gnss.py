# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The GNSS thread: owns the receiver's port, and makes clock anchors of the pulses whose second is known.

The radio thread brings the pulses as the concentrator latched them; what ties them to UTC is in `drivers.gnss`. Both
are timed by CLOCK_BOOTTIME as `agent.clock` gives it: a clock that is being slewed would move them. An
anchor is a pulse of that time, and holds for good; while receiver, fix or pulses are away there are just no new ones,
and the time of frames gets less certain with the distance from the last.

Imported only where a receiver is configured: the parsers take some megabytes.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.batch.model import Anchor, TimeSource
from agent.timeline import DRIFT_PPM
from drivers.gnss.receiver import Receiver, ReceiverState, ReceiverStatus
from drivers.gnss.synchroniser import Synchroniser, Tally

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from agent.radio import HostTime
    from drivers.bus import SerialPort
    from drivers.gnss.reference import Reference
    from drivers.sx1302.pps import Pulse

logger = logging.getLogger(__name__)

ANCHOR_EVERY_S = 300.0
"""A clock anchor is kept so often, and whenever one is twice as good as the last, and when the time is lost."""
LOST_AFTER_S = 10.0
"""Without a confirmed pulse for so long, the time is lost: the last one becomes an anchor."""
LOST_WORTH_S = 60.0
"""But only if the anchor before it is older than this."""
CANDIDATES = 8
"""The best of so many pulses becomes the anchor."""
PAUSE_S = 0.2
"""Between two looks at the port. Only while pulses and messages are there, and not put together yet, is it listened to
without a pause."""
ABSENT_PAUSE_S = 0.5
DEFECT_PAUSE_S = 30.0
SLEW_PERCENT = 10
"""How fast a time daemon may slew CLOCK_MONOTONIC at the worst [chrony.conf(5), maxslewrate]."""
DAY_US = 86_400_000_000
DETAILS_EVERY_US = 900_000_000
DETAILS_FOR_US = 60_000_000
"""What says little new from batch to batch travels four times an hour."""

STATE_NUMBERS = {
    ReceiverState.ABSENT: 0,
    ReceiverState.SILENT: 1,
    ReceiverState.NO_FIX: 2,
    ReceiverState.FIX: 3,
}
"""`gnss_state` in the health record."""
COUNTER_US = 200
"""By how much the boot time of a frame may be off, which is read from the concentrator's counter over SPI (two messages
of 12 bytes at 2 MHz, and the kernel's part). The batch format has no place for it with the frame; beside an anchor as
good as these it counts."""


@dataclass(frozen=True, slots=True)
class GnssStatus:
    """Receiver and time at one moment.

    Attributes:
        receiver: how it is, and what it sees.
        settled: whether pulses and messages agree on the second.
        pulses: what was met when they were put together.
        pulse_age_s: since the last pulse; None before the first.
        time_age_s: since the last pulse whose second is known; None before the first since the chip's start.
        drift_ppb: how much too fast the concentrator's crystal is, parts per billion; None while that is not known.
        anchors: clock anchors that were made.
        disputed: another source of time contradicted when it was last compared.
    """

    receiver: ReceiverStatus
    settled: bool
    pulses: Tally
    pulse_age_s: float | None
    time_age_s: float | None
    drift_ppb: int | None
    anchors: int
    disputed: bool


class Gnss:
    """Keeps the time of a receiver until it is told to stop.

    Args:
        open_port: opens the receiver's port at a rate.
        clock: the host's.
        stop: ends `run` when set.
        on_anchor: takes the anchors; must not wait.
        baud: rate to try first.
        delay_ns: by how much a pulse reaches the concentrator after the beginning of its second.
    """

    def __init__(
        self,
        open_port: Callable[[int], SerialPort],
        clock: HostTime,
        stop: Event,
        *,
        on_anchor: Callable[[Anchor], None],
        baud: int,
        delay_ns: int = 0,
    ) -> None:
        self._clock = clock
        self._stop = stop
        self._on_anchor = on_anchor
        self._receiver = Receiver(open_port, SteadyClock(clock), baud=baud)
        self.synchroniser = Synchroniser(delay_ns=delay_ns)
        """Which the radio thread feeds with pulses; everybody may ask it for the time."""
        self._choice = AnchorChoice()
        self._anchors = 0
        self._disputed = False
        self._told_us: int | None = None

    def run(self) -> None:
        """Listen until told to stop; the body of the thread "gnss"."""
        while not self._stop.is_set():
            try:
                self.look()
            except Exception:  # a defect of this program must not cost the time for good
                logger.exception("event=gnss_defect")
                self._receiver.close()
                self._stop.wait(DEFECT_PAUSE_S)
            pause_s = self._pause_s()
            if pause_s:
                self._stop.wait(pause_s)
        self._receiver.close()

    def _pause_s(self) -> float:
        """Return how long nobody needs to look; 0 while it matters when exactly a message comes."""
        if not self._receiver.is_open:
            return ABSENT_PAUSE_S
        pulse = self.synchroniser.last_pulse
        pulsing = pulse is not None and self._clock.boottime_us() * 1000 - pulse.host_ns < LOST_AFTER_S * 1e9
        fix = self._receiver.status.state is ReceiverState.FIX
        return 0.0 if fix and pulsing and not self.synchroniser.settled else PAUSE_S

    def look(self) -> None:
        """Take what the receiver has said since the look before."""
        for mark in self._receiver.look():
            self.synchroniser.mark(mark)
        anchor = self._choice.take(self._measured(), self._clock.boottime_us())
        if anchor is not None:
            self._anchors += 1
            logger.debug("event=gnss_anchor utc_us=%d uncertainty_us=%d", anchor.utc_us, anchor.uncertainty_us)
            self._on_anchor(anchor)

    def chip_started(self) -> None:
        """Know that the concentrator's counter begins anew; called by the radio's thread."""
        self.synchroniser.restart()

    def pulse(self, pulse: Pulse) -> None:
        """Take a pulse; called by the radio's thread, soon after the chip was asked."""
        before_ns = self._clock.monotonic_ns()
        boottime_ns = self._clock.boottime_us() * 1000
        half_ns = (self._clock.monotonic_ns() - before_ns) // 2
        since_ns = before_ns + half_ns - pulse.host_ns
        slewed_ns = max(since_ns - pulse.age_ns, 0) * SLEW_PERCENT // 100
        error_ns = pulse.host_error_ns + half_ns + slewed_ns + 1000
        self.synchroniser.pulse(replace(pulse, host_ns=boottime_ns - since_ns, host_error_ns=error_ns))

    @property
    def status(self) -> GnssStatus:
        """How receiver and time are; any thread may ask."""
        now_ns = self._clock.boottime_us() * 1000
        reference, pulse = self.synchroniser.reference, self.synchroniser.last_pulse
        return GnssStatus(
            receiver=self._receiver.status,
            settled=self.synchroniser.settled,
            pulses=self.synchroniser.tally,
            pulse_age_s=None if pulse is None else max(now_ns - pulse.host_ns, 0) / 1e9,
            time_age_s=None if reference is None else max(now_ns - reference.host_ns, 0) / 1e9,
            drift_ppb=None if reference is None else reference.drift_ppb,
            anchors=self._anchors,
            disputed=self._disputed,
        )

    def health(self) -> dict[str, int]:
        """Return what the health record of a batch says of it; the spool's thread asks.

        State and age of the time, and troubles that there are any of, are in every record; satellites, drift of the
        concentrator's crystal and position in those that are made in the first minute of each quarter of an hour.
        Position in millionths of a degree, altitude in decimetres, drift in parts per billion, ages in seconds.
        """
        status = self.status
        record = {"gnss_state": STATE_NUMBERS[status.receiver.state]}
        if status.time_age_s is not None:
            record["gnss_time_age_s"] = int(status.time_age_s)
        troubles = {
            "gnss_contradictions": status.pulses.contradictions,
            "gnss_stray_pulses": status.pulses.stray_pulses,
            "gnss_implausible": status.receiver.implausible,
            "gnss_disputed": int(status.disputed),
        }
        record |= {name: count for name, count in troubles.items() if count}
        now_us = self._clock.boottime_us()
        if self._told_us is None or now_us - self._told_us >= DETAILS_EVERY_US:
            self._told_us = now_us
        return record | _details(status) if now_us - self._told_us <= DETAILS_FOR_US else record

    def compare(self, other: Anchor) -> None:
        """Say so when another source of time contradicts: one of the two is wrong, and the bounds of frames span both.

        Args:
            other: an anchor of this boot, of this moment.
        """
        ours = self._measured()
        if ours is None:
            return
        away_us = abs((other.utc_us - other.boottime_us) - (ours.utc_us - ours.boottime_us))
        drift_us = abs(other.boottime_us - ours.boottime_us) * DRIFT_PPM // 1_000_000
        disputed = away_us > other.uncertainty_us + ours.uncertainty_us + drift_us
        if disputed and not self._disputed:
            hint = "one of them is wrong; look at the receiver's pulse and time, and at the host's time daemon"
            logger.warning("event=gnss_disputed by=%s apart_ms=%d hint=%s", other.source.name, away_us // 1000, hint)
        self._disputed = disputed

    def _measured(self) -> Anchor | None:
        reference = self.synchroniser.reference
        return None if reference is None else anchor_from(reference, self._clock.boot_id)


def anchor_from(reference: Reference, boot_id: bytes) -> Anchor:
    """Make an anchor of a pulse whose second is known, and whose `host_ns` is CLOCK_BOOTTIME."""
    error_ns = reference.host_error_ns + reference.utc_error_ns(reference.pulse_ticks)
    # Boot time and UTC are each rounded to a microsecond.
    uncertainty_us = -(-error_ns // 1000) + 2 + COUNTER_US
    return Anchor(boot_id, reference.host_ns // 1000, reference.pulse_utc_ns // 1000, uncertainty_us, TimeSource.GNSS)


class SteadyClock:
    """CLOCK_BOOTTIME, which no time daemon slews, as the clock of the driver.

    Args:
        clock: the host's.
    """

    def __init__(self, clock: HostTime) -> None:
        self._clock = clock

    def monotonic_ns(self) -> int:
        """Return it in nanoseconds."""
        return self._clock.boottime_us() * 1000

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self._clock.sleep(seconds)


class AnchorChoice:
    """Decides which pulses become anchors: few, because each is written to the card and travels."""

    def __init__(self) -> None:
        self._recent: deque[Anchor] = deque(maxlen=CANDIDATES)
        self._last: Anchor | None = None

    def take(self, newest: Anchor | None, now_us: int) -> Anchor | None:
        """Return the anchor to keep now, if it is time for one.

        Args:
            newest: the newest pulse whose second is known; the same one again and again until there is another.
            now_us: CLOCK_BOOTTIME.
        """
        if newest is None:
            return None
        seen = bool(self._recent) and self._recent[-1].utc_us == newest.utc_us
        # The POSIX count gives a leap second and the midnight behind it the same number.
        if not seen and newest.utc_us // 1_000_000 * 1_000_000 % DAY_US != 0:
            self._recent.append(newest)
        if not self._recent:
            return None
        chosen = min(self._recent, key=_uncertainty)
        last = self._last
        if last is not None:
            age_us = newest.boottime_us - last.boottime_us
            lost = now_us - newest.boottime_us >= LOST_AFTER_S * 1e6 and age_us >= LOST_WORTH_S * 1e6
            due = age_us >= ANCHOR_EVERY_S * 1e6
            if lost:
                chosen = self._recent[-1]
            elif not due and chosen.uncertainty_us * 2 > last.uncertainty_us:
                return None
            if chosen.boottime_us <= last.boottime_us:
                return None
        self._last = chosen
        return chosen


def _uncertainty(anchor: Anchor) -> int:
    return anchor.uncertainty_us


def _details(status: GnssStatus) -> dict[str, int]:
    sight = status.receiver.sight
    record = {"gnss_satellites": sight.satellites}
    if status.drift_ppb is not None:
        record["gnss_drift_ppb"] = status.drift_ppb
    if sight.latitude_deg is not None and sight.longitude_deg is not None:
        record["gnss_latitude_udeg"] = round(sight.latitude_deg * 1_000_000)
        record["gnss_longitude_udeg"] = round(sight.longitude_deg * 1_000_000)
    if sight.altitude_m is not None:
        record["gnss_altitude_dm"] = round(sight.altitude_m * 10)
    return record
