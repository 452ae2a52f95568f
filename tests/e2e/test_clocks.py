# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A gateway's life with clocks that lie, against the true time that only the test knows.

Boots begin in 1970 or anywhere, the wall clock steps by years, NTP comes late and goes, GNSS comes and goes, the
concentrator's counter wraps and is reset, the crystal drifts, the link is away for days and brings batches in any
order. What the spool and the platform say of a frame's UTC must always hold the truth within its bound, at every moment
of this life and not only at its end; and the order of frames must be the true one. Reading the chip's counter is exact
here: what that costs is a matter of the bus (only hardware can show).
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.batch.keys import Ed25519Signer
from agent.batch.model import Account, Anchor, TimeSource
from agent.clock import KernelState, anchor_from, anchor_of_answer
from agent.frame import Session
from agent.reception import frame_of
from agent.spool import store
from agent.spool.engine import Engine
from agent.spool.intake import Heard, RoutedFrame
from agent.spool.orders import Destination, Entry, Policy
from agent.spool.reader import SpoolReader
from agent.spool.row import pack
from agent.timeline import Boot, Timeline
from drivers.sx1302.counter import TICKS_PER_US, CounterReading, CounterSample, first_sample, next_sample
from drivers.sx1302.counter import before as stamp
from drivers.sx1302.packet import CrcStatus, Modulation, RxPacket
from receiver.intake import Intake
from receiver.ledger.port import RegisteredKey
from receiver.ledger.sqlite import SqliteLedger

PS = 1_000_000
"""Picoseconds in a microsecond: the truth is not rounded."""
SECOND = 1_000_000
DAY = 86_400 * SECOND
YEAR = 365 * DAY
START_US = 1_790_000_000 * SECOND
EUI = bytes.fromhex("0016c001f1500812")
CITY = Destination("city", b"filter")
SYNCHRONISED, UNSYNCHRONISED = 0x2001, 0x0041
AGE_LIMIT_US = 2 * SECOND
"""Between the end of a packet and the look that fetches it."""
STAMP_US = AGE_LIMIT_US * 40 // 1_000_000 + 2
"""Within that, chip and host run apart by at most 40 ppm."""


@dataclass
class Host:
    """A boot, as the true time sees it: CLOCK_BOOTTIME drifts, the wall clock is anything."""

    number: int
    boottime_us: int
    drift_ppm: int
    wall_error_us: int
    synchronised_us: int | None = None
    """The kernel's maximum error while it calls its clock synchronised."""

    @property
    def boot_id(self) -> bytes:
        return self.number.to_bytes(16, "big")


class Life(RuleBasedStateMachine):
    """One gateway and its platform."""

    def __init__(self) -> None:
        super().__init__()
        self.undo = contextlib.ExitStack()
        folder = Path(self.undo.enter_context(tempfile.TemporaryDirectory(prefix="cg-")))
        signer = Ed25519Signer.generate()
        connection = self.undo.enter_context(contextlib.closing(store.open_writer(folder / "spool.db", 64 << 20)))
        policy = Policy(batch_frames=20, batch_age_s=1e9, quota_bytes=64 << 20)
        self.engine = Engine(connection, destinations=(CITY,), policy=policy, signer=signer, gateway_eui=EUI)
        self.reader = self.undo.enter_context(SpoolReader(folder / "spool.db"))
        self.ledger = self.undo.enter_context(contextlib.closing(SqliteLedger(folder / "platform")))
        self.ledger.add_key(RegisteredKey(EUI, "", signer.kid, signer.public.text, 1))
        self.intake = Intake(self.ledger, signer, utc_us=lambda: self.now_us)
        self.now_ps = START_US * PS
        self.truth: list[int] = []
        """UTC of each frame, by its number."""
        self.anchored: set[int] = set()
        self.session = 0
        self.gnss = False

    @initialize(wall=st.integers(-60 * YEAR, 60 * YEAR), drift=st.integers(-40, 40))
    def first_boot(self, wall: int, drift: int) -> None:
        self.host = Host(1, 5 * SECOND, drift, wall)
        self.start_chip(drift=0)

    def teardown(self) -> None:
        self.undo.close()

    @property
    def now_us(self) -> int:
        """The true UTC."""
        return self.now_ps // PS

    @property
    def chip_us(self) -> int:
        """What the concentrator has counted since its start."""
        return self.chip_ps // PS

    def pass_time(self, duration_us: int) -> None:
        """Let the host's clock show so much more."""
        self.now_ps += duration_us * (PS + self.host.drift_ppm)
        self.host.boottime_us += duration_us
        self.chip_ps += duration_us * (PS + self.chip_ppm + self.host.drift_ppm)

    def start_chip(self, drift: int) -> None:
        self.session += 1
        self.chip_ps, self.chip_ppm = 1000 * PS, drift
        self.sample: CounterSample = first_sample(self.reading())

    def reading(self) -> CounterReading:
        ticks = self.chip_us * TICKS_PER_US & 0xFFFFFFFF
        return CounterReading(ticks, 0, self.host.boottime_us * 1000, 0)

    # ---------------------------------------------------------------- clocks

    @rule(seconds=st.one_of(st.floats(0.0, 5.0), st.floats(0.0, 2 * 86_400.0)), drift=st.integers(-40, 40))
    def time_passes(self, seconds: float, drift: int) -> None:
        # the agent looks at the counter often, whatever else happens
        self.pass_time(round(seconds * SECOND))
        following = next_sample(self.sample, self.reading())
        assert following is not None, "wraps are told by the host's clock"
        self.sample = following
        self.host.drift_ppm = drift

    @rule(off=st.integers(0, 30 * DAY), wall=st.integers(-60 * YEAR, 60 * YEAR), drift=st.integers(-40, 40))
    def reboot(self, off: int, wall: int, drift: int) -> None:
        self.now_ps += (off + 5 * SECOND) * PS
        self.host = Host(self.host.number + 1, 5 * SECOND, drift, wall)
        self.gnss = False
        self.start_chip(drift)

    @rule(drift=st.integers(-40, 40))
    def reset_chip(self, drift: int) -> None:
        self.start_chip(drift)

    @rule(step=st.integers(-60 * YEAR, 60 * YEAR))
    def step_wall_clock(self, step: int) -> None:
        self.host.wall_error_us, self.host.synchronised_us = step, None

    @rule(max_error=st.integers(0, 20 * SECOND), share=st.floats(-1.0, 1.0))
    def ntp_synchronises(self, max_error: int, share: float) -> None:
        self.host.synchronised_us, self.host.wall_error_us = max_error, int(max_error * share)

    @rule()
    def ntp_goes(self) -> None:
        self.host.synchronised_us = None

    @rule()
    def ask_kernel(self) -> None:
        """What the service does every few minutes."""
        state = KernelState(
            state=0 if self.host.synchronised_us is not None else 5,
            status=SYNCHRONISED if self.host.synchronised_us is not None else UNSYNCHRONISED,
            offset_us=0,
            max_error_us=self.host.synchronised_us or 0,
            esterror_us=1,
        )
        at_us, wall_us = self.host.boottime_us, self.now_us + self.host.wall_error_us
        anchor = anchor_from(state, self.host.boot_id, at_us, wall_us, at_us)
        if self.host.synchronised_us is None:
            assert anchor is None, "a clock that is not synchronised was believed"
        if anchor is not None:
            self.keep(anchor)
        # a synchronised clock drifts with the host until it is corrected again; the test corrects it at once

    @rule()
    def gnss_comes(self) -> None:
        self.gnss = True

    @rule()
    def gnss_goes(self) -> None:
        self.gnss = False

    @precondition(lambda self: self.gnss)
    @rule(error=st.integers(-5, 5))
    def pulse(self, error: int) -> None:
        self.keep(Anchor(self.host.boot_id, self.host.boottime_us, self.now_us + error, 5, TimeSource.GNSS))

    def keep(self, anchor: Anchor) -> None:
        self.anchored.add(self.host.number)
        self.engine.apply((), [anchor], 0.0)

    # ---------------------------------------------------------------- frames

    @rule(gaps=st.lists(st.integers(1000, AGE_LIMIT_US // 4), min_size=1, max_size=4))
    def hear(self, gaps: list[int]) -> None:
        packets = []
        for gap in gaps:
            self.pass_time(gap)
            packets.append((len(self.truth), self.chip_us))
            self.truth.append(self.now_us)
        following = next_sample(self.sample, self.reading())
        assert following is not None
        self.sample = following
        zero_us = self.host.boottime_us - following.counter_us
        session = Session(self.host.boot_id, self.session)
        frames = [
            frame_of(packet(number, stamp(following, ticks * TICKS_PER_US & 0xFFFFFFFF)), session, zero_us)
            for number, ticks in packets
        ]
        heard = Heard(tuple(RoutedFrame(one, 1) for one in frames), (Account(heard=len(frames), spooled=len(frames)),))
        entry = Entry(self.engine.state.journal + 1, heard, tuple(map(pack, frames)))
        self.engine.apply([entry], (), 0.0)

    @rule(backwards=st.booleans(), most=st.integers(1, 6), trip=st.integers(0, 3 * SECOND), share=st.floats(0.0, 1.0))
    def send(self, backwards: bool, most: int, trip: int, share: float) -> None:
        """Seal, and bring some of what waits, the newest or the oldest first; a receipt anchors the present boot."""
        self.engine.apply((), (), 0.0, flush=True)
        waiting = self.reader.unacknowledged("city", 0, 1 << 20)
        for batch in sorted(waiting, key=lambda one: one.number, reverse=backwards)[:most]:
            asked_us = self.host.boottime_us
            self.pass_time(round(trip * share))
            answer = self.intake.submit(self.reader.wire(batch), sender="test")
            assert answer.receipt is not None
            self.pass_time(trip - round(trip * share))
            self.engine.apply((), [answer.receipt], 0.0)
            back_us = self.host.boottime_us
            self.keep(anchor_of_answer(self.host.boot_id, asked_us, back_us, answer.receipt.utc_us))

    # ---------------------------------------------------------------- what must hold

    @invariant()
    def the_platform_is_right(self) -> None:
        while self.ledger.revise(1000):
            pass
        rows = self.ledger.frames(0, 1000)
        for row in rows:
            number = number_of(bytes.fromhex(str(row["phy_payload"])))
            if row["utc_us"] is not None:
                event(f"told by {row['utc_source'] or 'neighbours'}")
                assert_holds(self.truth[number], int(str(row["utc_us"])), int(str(row["utc_error_us"])))
        by_seq = sorted((int(str(row["seq"])), number_of(bytes.fromhex(str(row["phy_payload"])))) for row in rows)
        assert [number for _, number in by_seq] == sorted(number for _, number in by_seq), "another order"
        by_clock = sorted(
            (str(row["boot"]), int(str(row["boottime_us"])), number_of(bytes.fromhex(str(row["phy_payload"]))))
            for row in rows
        )
        for (boot, _, earlier), (other, _, later) in pairwise(by_clock):
            assert boot != other or earlier < later, "another order by CLOCK_BOOTTIME"

    @invariant()
    def the_gateway_is_right(self) -> None:
        boots = [Boot(boot_id, last_us) for boot_id, last_us in self.reader.boots()]
        times = Timeline(self.reader.anchors(), boots)
        numbers = []
        for stored in self.reader.frames():
            number = number_of(stored.frame.phy_payload)
            numbers.append(number)
            utc = times.utc(stored.frame.session.boot_id, stored.frame.boottime_us)
            if utc is not None:
                assert_holds(self.truth[number], utc.utc_us, utc.error_us)
            else:
                assert int.from_bytes(stored.frame.session.boot_id, "big") not in self.anchored
        assert numbers == sorted(numbers)


def assert_holds(true_us: int, utc_us: int, error_us: int) -> None:
    assert abs(utc_us - true_us) <= error_us + STAMP_US, f"{utc_us - true_us:+} us off, stated {error_us}"


def packet(number: int, counter_us: int) -> RxPacket:
    return RxPacket(
        payload=number.to_bytes(4, "big") + bytes(8),
        frequency_hz=868_100_000,
        modulation=Modulation.LORA,
        bandwidth_hz=125_000,
        datarate=7,
        coding_rate=1,
        crc=CrcStatus.OK,
        rssi_channel_dbm=-80.0,
        rssi_signal_dbm=-81.5,
        snr_db=9.25,
        frequency_offset_hz=-350,
        if_chain=2,
        rf_chain=1,
        modem=4,
        counter_us=counter_us,
    )


def number_of(payload: bytes) -> int:
    return int.from_bytes(payload[:4], "big")


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
