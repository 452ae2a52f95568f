# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The host's clocks: the boot, the time since it, and UTC when the kernel says that it knows it.

A Raspberry Pi starts without knowing the time; CLOCK_REALTIME may be years off and may jump. Nothing is ordered or
timed by it. CLOCK_BOOTTIME never jumps and goes on in suspend; an anchor ties it to UTC. But a time daemon slews it, by
500 ppm and more, ten times faster than a crystal drifts, and what is said of the error between two anchors would not
hold. So it is taken without that: CLOCK_MONOTONIC_RAW plus the time in suspend.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from agent.batch.model import Anchor, TimeSource
from agent.errors import AgentError
from agent.timeline import DRIFT_PPM

BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")

# [adjtimex(2)]
_TIME_OOP, _TIME_WAIT, _TIME_ERROR = 3, 4, 5
_STA_UNSYNC = 0x0040
_STA_NANO = 0x2000

SNTP_ALLOWANCE_US = 250_000
"""Added where the time daemon tells the kernel no error at all, as systemd-timesyncd does: half the round trip of a
slow mobile link, which is the most by which an SNTP answer can be off."""
READING_TRIES = 5
"""How often the clocks are read together at most, until the reading was not interrupted."""
CLOSE_NS = 20_000
"""What reading them takes at most without an interruption."""
NOTE_INTERVAL_S = 30.0
"""How often `agent.clockkeeper` asks the kernel."""
NOTE_FRESH_S = 3 * NOTE_INTERVAL_S
"""Nothing older is taken for what the kernel says now."""
_NOTE_LIMIT_BYTES = 4096
_KEEPER_HINT = "see that civigate-clock.service runs, or allow the system call adjtimex (systemd: @clock)"
WORST_ERROR_US = 16_000_000
"""What the kernel itself calls not synchronised [Linux include/linux/timex.h, NTP_PHASE_LIMIT]."""


class HostClock:
    """The clocks of this boot of this machine; also the clock of the drivers.

    Attributes:
        note: what `agent.clockkeeper` writes, for who may not ask the kernel.

    Raises:
        AgentError: the kernel does not tell its boot id.
    """

    note = Path("/run/civigate-clock/anchor.json")

    def __init__(self) -> None:
        self._suspended_ns = 0
        try:
            self.boot_id = uuid.UUID(BOOT_ID_FILE.read_text(encoding="ascii").strip()).bytes
        except (OSError, ValueError) as error:
            raise AgentError(
                f"no boot id: {error}",
                where=str(BOOT_ID_FILE),
                hint="civigate needs Linux with /proc mounted",
                code="CG-CLK-001",
            ) from error

    def boottime_us(self) -> int:
        """Return CLOCK_BOOTTIME without what a time daemon has slewed, microseconds; the same in every process."""
        return (time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) + self._suspended()) // 1000

    def _suspended(self) -> int:
        """Return how long this boot was in suspend, nanoseconds: what CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC."""
        for _ in range(READING_TRIES):
            before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            boottime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            after_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            if boottime_ns - after_ns <= self._suspended_ns <= boottime_ns - before_ns:
                break
            if after_ns - before_ns <= CLOSE_NS:
                self._suspended_ns = boottime_ns - (before_ns + after_ns) // 2
                break
        return self._suspended_ns

    def monotonic_ns(self) -> int:
        """Return CLOCK_MONOTONIC_RAW, nanoseconds: the concentrator's counter is held against it."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)

    def sleep(self, seconds: float) -> None:
        """Wait at least `seconds`."""
        time.sleep(seconds)

    def anchor(self) -> Anchor | None:
        """Return an anchor, None while the kernel does not call its clock synchronised.

        It is of this moment; in a service that may not ask the kernel, it is that of `civigate-clock.service`, of the
        last half minute.

        Raises:
            AgentError: the kernel does not answer, nor does that service.
        """
        try:
            return self.anchor_of_kernel()
        except AgentError as error:
            if not self.note.parent.is_dir():
                raise
            return read_note(self.note, self.boot_id, self.boottime_us(), error)

    def anchor_of_kernel(self) -> Anchor | None:
        """Return an anchor at this moment, None while the kernel does not call its clock synchronised.

        Raises:
            AgentError: the kernel does not answer.
        """
        state = _read_kernel()
        before_us = self.boottime_us()
        utc_us = time.time_ns() // 1000
        after_us = self.boottime_us()
        # A step of the clock in between would have made it unsynchronised.
        if _read_kernel().status != state.status:
            return None
        return anchor_from(state, self.boot_id, before_us, utc_us, after_us)


def write_note(folder: Path, clock: HostClock, anchor: Anchor | None) -> None:
    """Write what the kernel says of the time, for those who may not ask it.

    Raises:
        OSError: it cannot be written.
    """
    said: dict[str, object] = {"boot_id": clock.boot_id.hex(), "written_us": clock.boottime_us(), "anchor": None}
    if anchor is not None:
        said["anchor"] = [anchor.boottime_us, anchor.utc_us, anchor.uncertainty_us]
    draft = folder / f"{clock.note.name}.new"
    draft.write_text(json.dumps(said), encoding="ascii")
    draft.replace(folder / clock.note.name)


def read_note(path: Path, boot_id: bytes, now_us: int, refusal: AgentError) -> Anchor | None:
    """Return the anchor of a note, None while the kernel does not call its clock synchronised.

    Args:
        path: of the note.
        boot_id: of the present boot.
        now_us: CLOCK_BOOTTIME.
        refusal: what the kernel said when it was asked directly.

    Raises:
        AgentError: there is no note, it is old, or of another boot.
    """
    try:
        said = json.loads(path.read_bytes()[:_NOTE_LIMIT_BYTES])
        anchor = said["anchor"]
        fresh = said["boot_id"] == boot_id.hex() and 0 <= now_us - int(said["written_us"]) <= NOTE_FRESH_S * 1_000_000
        found = None
        if anchor is not None:
            boottime_us, utc_us, uncertainty_us = (int(number) for number in anchor)
            found = Anchor(boot_id, boottime_us, utc_us, uncertainty_us, TimeSource.KERNEL)
    except (OSError, ValueError, LookupError, TypeError) as error:
        refusal.hint = f"{_KEEPER_HINT} ({error})"
        raise refusal from error
    if not fresh:
        refusal.hint = f"{_KEEPER_HINT} (the note is old)"
        raise refusal
    return found


class KernelState(NamedTuple):
    """What adjtimex(2) says of the host's clock.

    Attributes:
        state: TIME_OK (0) to TIME_ERROR (5).
        status: STA_* bits.
        offset_us: correction that is still being slewed in.
        max_error_us: maximum error.
        esterror_us: estimated error, as the time daemon last set it.
    """

    state: int
    status: int
    offset_us: int
    max_error_us: int
    esterror_us: int


def anchor_from(kernel: KernelState, boot_id: bytes, before_us: int, utc_us: int, after_us: int) -> Anchor | None:
    """Make an anchor of a reading of CLOCK_REALTIME between two of CLOCK_BOOTTIME; None if it is not to be trusted.

    Its uncertainty is the kernel's maximum error, what is still being slewed in, half the time between the two
    readings, and `SNTP_ALLOWANCE_US` where the time daemon did not tell the kernel how good it is.
    """
    unsynchronised = kernel.state == _TIME_ERROR or bool(kernel.status & _STA_UNSYNC)
    # During and right after an inserted leap second the POSIX count says the same second twice.
    leaping = kernel.state in (_TIME_OOP, _TIME_WAIT)
    if unsynchronised or leaping or kernel.max_error_us >= WORST_ERROR_US:
        return None
    allowance_us = 0 if kernel.esterror_us else SNTP_ALLOWANCE_US
    half_us = (after_us - before_us + 1) // 2
    uncertainty_us = kernel.max_error_us + abs(kernel.offset_us) + half_us + allowance_us + 1
    return Anchor(boot_id, before_us + half_us, utc_us, uncertainty_us, TimeSource.KERNEL)


def anchor_of_answer(boot_id: bytes, after_us: int, received_us: int, utc_us: int) -> Anchor:
    """Make an anchor of the time in a signed answer.

    Args:
        boot_id: of the present boot.
        after_us: CLOCK_BOOTTIME before which the answer cannot have been signed.
        received_us: CLOCK_BOOTTIME when it was here.
        utc_us: the platform's clock when it signed.
    """
    round_trip_us = received_us - after_us
    drift_us = round_trip_us * DRIFT_PPM // 1_000_000 + 1
    uncertainty_us = (round_trip_us + 1) // 2 + drift_us
    return Anchor(boot_id, (after_us + received_us) // 2, utc_us, uncertainty_us, TimeSource.PLATFORM)


class _Timex(ctypes.Structure):
    """`struct timex` up to `status`, with room for the rest [adjtimex(2)].

    On 32-bit machines this is the layout of the symbol `adjtimex`; the one with 64-bit times has another name.
    """

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


_libc = ctypes.CDLL(None, use_errno=True)


def _read_kernel() -> KernelState:
    timex = _Timex(modes=0)
    state = _libc.adjtimex(ctypes.byref(timex))
    if state < 0:
        reason = os.strerror(ctypes.get_errno())
        raise AgentError(
            reason, where="adjtimex", hint="allow the system call adjtimex (systemd: @clock)", code="CG-CLK-002"
        )
    offset_us = timex.offset // 1000 if timex.status & _STA_NANO else timex.offset
    return KernelState(state, timex.status, offset_us, timex.maxerror, timex.esterror)
