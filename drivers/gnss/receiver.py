# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A GNSS receiver on a serial port: opened again when it vanished, found at whatever rate it speaks, never raising.

It is asked again and again by the thread that owns it; each look takes what has come and returns the seconds that it
named. Whatever goes wrong is a state with a name and a hint.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from drivers.errors import DriverError
from drivers.gnss import ublox
from drivers.gnss.framing import Frame, Protocol, Splitter
from drivers.gnss.messages import Answer, GpsTime, read
from drivers.gnss.reference import NS_PER_S
from drivers.gnss.timekeeping import Sight, Timekeeper

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.bus import Clock, SerialPort
    from drivers.gnss.synchroniser import SecondMark

logger = logging.getLogger(__name__)

RATES: Final = (9600, 38_400, 115_200, 4800, 57_600, 19_200, 230_400, 460_800)
"""That receivers speak at, the likely ones first."""
DWELL_S: Final = 3.0
"""How long one rate is listened to; receivers speak every second."""
PROOF_FRAMES: Final = 2
"""Right checksums that show that a rate is the right one."""
SILENCE_S: Final = 10.0
"""Without a frame, a receiver is looked for at other rates."""

READ_LIMIT_BYTES: Final = 4096
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
"""Between attempts to open a port that is not there."""
ASK_AGAIN_S: Final = 60.0
"""A u-blox receiver that does not tell GPS time is asked for it so often: it may have lost its supply."""
QUIET_NS: Final = 30_000_000
"""After so long a silence, a new burst of messages begins."""
NEVER_QUIET_S: Final = 3.0
"""A burst as long as this tells nothing about pulses: the receiver has more to say than its rate allows, and falls
behind."""
NAV_TIMEGPS: Final = b"\xb5\x62\x01\x20"


class ReceiverState(StrEnum):
    """How the receiver is."""

    ABSENT = "absent"
    """The port cannot be opened, or went away."""
    SILENT = "silent"
    """Nothing that can be understood comes, at any rate tried so far."""
    NO_FIX = "no_fix"
    FIX = "fix"


@dataclass(frozen=True, slots=True)
class ReceiverStatus:
    """The receiver at one moment.

    Attributes:
        state: how it is.
        detail: what is wrong and what to do, one line; empty when all is well.
        baud: rate at which it is listened to.
        sight: what it sees of the sky.
        tells_gps_time: it speaks UBX and names seconds in GPS time.
        opened: times that the port was opened.
        frames: sentences and messages with a right checksum.
        damaged: with a wrong one.
        noise_bytes: that belonged to neither.
        marks: seconds that it named and that were believed.
        implausible: times with a fix that cannot be.
    """

    state: ReceiverState = ReceiverState.ABSENT
    detail: str = ""
    baud: int = RATES[0]
    sight: Sight = field(default_factory=Sight)
    tells_gps_time: bool = False
    opened: int = 0
    frames: int = 0
    damaged: int = 0
    noise_bytes: int = 0
    marks: int = 0
    implausible: int = 0


class Receiver:
    """Owns the port; one thread asks it.

    Args:
        open_port: opens the port at a rate; called again whenever it was lost.
        clock: host time.
        baud: rate to try first.
        timekeeper: judges the times; None for a new one.
    """

    def __init__(
        self,
        open_port: Callable[[int], SerialPort],
        clock: Clock,
        *,
        baud: int = RATES[0],
        timekeeper: Timekeeper | None = None,
    ) -> None:
        self._open_port = open_port
        self._clock = clock
        self._expected_baud = baud
        self._rates = (baud, *(rate for rate in RATES if rate != baud))
        self._timekeeper = timekeeper or Timekeeper()
        self._splitter = Splitter()
        self._port: SerialPort | None = None
        self._open_after_ns = 0
        self._pause_s = FIRST_PAUSE_S
        self._empty_ns = 0
        """When last nothing had come that was not read."""
        self._data_ns = 0
        """When last something was read."""
        self._burst_ns = 0
        """When the present burst of messages had not begun yet."""
        self._status = ReceiverStatus(baud=baud)
        self._begin_listening(0)

    @property
    def status(self) -> ReceiverStatus:
        """How it is; any thread may ask."""
        return self._status

    def look(self) -> list[SecondMark]:
        """Take what the port has, and return the seconds that were named; waits as long as the port waits.

        Without a port it returns at once: the caller waits a little before it asks again.
        """
        now_ns = self._clock.monotonic_ns()
        try:
            if self._port is None:
                if now_ns < self._open_after_ns:
                    return []
                self._open()
            return self._listen()
        except DriverError as error:
            self._lost(error)
            return []

    @property
    def is_open(self) -> bool:
        """Whether there is a port, at which `look` waits."""
        return self._port is not None

    def close(self) -> None:
        """Release the port."""
        if self._port is not None:
            self._port.close()
            self._port = None
        self._splitter.clear()

    def _open(self) -> None:
        self._port = self._open_port(self._status.baud)
        now_ns = self._clock.monotonic_ns()
        self._splitter.clear()
        self._empty_ns = self._data_ns = self._burst_ns = now_ns
        self._pause_s = FIRST_PAUSE_S
        self._status = replace(self._status, opened=self._status.opened + 1)
        self._become(ReceiverState.SILENT, "")
        self._begin_listening(now_ns)

    def _lost(self, error: DriverError) -> None:
        self.close()
        self._open_after_ns = self._clock.monotonic_ns() + round(self._pause_s * NS_PER_S)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._become(ReceiverState.ABSENT, f"{error}; {error.hint} [{error.code}]")

    def _begin_listening(self, now_ns: int) -> None:
        """Start to look for frames at the present rate."""
        self._since_ns = now_ns
        self._heard = 0
        self._heard_ns = now_ns
        self._asked_ns: int | None = None
        self._may_ask_by_key = False

    def _listen(self) -> list[SecondMark]:
        port = self._port
        assert port is not None
        data = port.read(READ_LIMIT_BYTES)
        now_ns = self._clock.monotonic_ns()
        if not data:
            self._empty_ns = now_ns
            self._judge([], now_ns)
            return []
        if self._empty_ns - self._data_ns >= QUIET_NS:
            self._burst_ns = self._empty_ns
        frames = self._splitter.feed(data, self._empty_ns, now_ns)
        self._data_ns = now_ns
        if len(data) < READ_LIMIT_BYTES:
            self._empty_ns = now_ns
        marks = []
        for frame in frames:
            # What comes behind others in a burst may be late because of them, and not know it.
            mark = self._take(replace(frame, before_ns=min(frame.before_ns, self._burst_ns)))
            if mark is not None:
                marks.append(mark)
        self._status = replace(
            self._status,
            frames=self._status.frames + len(frames),
            damaged=self._splitter.damaged,
            noise_bytes=self._splitter.noise_bytes,
            marks=self._status.marks + len(marks),
            implausible=self._timekeeper.implausible,
            sight=self._timekeeper.sight,
        )
        self._judge(frames, now_ns)
        return marks

    def _take(self, frame: Frame) -> SecondMark | None:
        message = read(frame)
        if message is None:
            return None
        if isinstance(message, GpsTime):
            self._status = replace(self._status, tells_gps_time=True)
        if (
            isinstance(message, Answer)
            and not message.accepted
            and message.kind == ublox.CFG_MSG
            and self._may_ask_by_key
        ):
            self._may_ask_by_key = False
            self._send(ublox.ask_by_key(usb=self._port is not None and not self._port.paced))
        return self._timekeeper.take(message, frame)

    def _judge(self, frames: list[Frame], now_ns: int) -> None:
        """See what is new: a receiver that was found, or fell silent, or must be asked for its GPS time."""
        self._heard += len(frames)
        if frames:
            self._heard_ns = now_ns
        if self._status.state is ReceiverState.SILENT and self._heard < PROOF_FRAMES:
            if now_ns - self._since_ns > DWELL_S * NS_PER_S:
                self._try_next_rate(now_ns)
            return
        if now_ns - self._heard_ns > SILENCE_S * NS_PER_S:
            heard = self._splitter.noise_bytes > 0
            what = f"nothing for {SILENCE_S:.0f} s that can be understood" if heard else "it does not speak"
            self._become(ReceiverState.SILENT, f"{what}; check its supply and its wires, the rate is looked for")
            self._status = replace(self._status, tells_gps_time=False)
            self._begin_listening(now_ns)
            return
        fix = self._timekeeper.sight.fix
        self._become(ReceiverState.FIX if fix else ReceiverState.NO_FIX, self._advice(now_ns))
        if any(frame.protocol is Protocol.UBX and frame.data.startswith(NAV_TIMEGPS) for frame in frames):
            self._asked_ns = now_ns
        if self._asked_ns is None or now_ns - self._asked_ns > ASK_AGAIN_S * NS_PER_S:
            self._asked_ns = now_ns
            self._may_ask_by_key = True
            self._send(ublox.ask_by_message())

    def _try_next_rate(self, now_ns: int) -> None:
        assert self._port is not None
        self._begin_listening(now_ns)
        if self._port.paced:
            rate = self._rates[(self._rates.index(self._status.baud) + 1) % len(self._rates)]
            self._port.set_rate(rate)
            self._splitter.clear()
            self._status = replace(self._status, baud=rate)
        if self._status.baud == self._expected_baud:
            detail = "it does not speak at any rate; check its supply, and that its TX leads to our RX"
            self._become(ReceiverState.SILENT, detail)

    def _advice(self, now_ns: int) -> str:
        baud = self._status.baud
        if now_ns - self._burst_ns > NEVER_QUIET_S * NS_PER_S:
            return f"it says more than {baud} baud carry, so its time is of no use: raise its rate, or let it say less"
        if baud == self._expected_baud:
            return ""
        return f"it speaks at {baud} baud, not at {self._expected_baud}; set baud = {baud} to find it at once"

    def _send(self, data: bytes) -> None:
        if self._port is not None:
            self._port.write(data)

    def _become(self, state: ReceiverState, detail: str) -> None:
        before = self._status
        if (state, detail) == (before.state, before.detail):
            return
        self._status = replace(before, state=state, detail=detail)
        logger.info("event=gnss_state from=%s to=%s baud=%d detail=%s", before.state, state, before.baud, detail)
