# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The spool against a simple model of itself, in any order of events that hypothesis can think of.

The model is a list of frames and a platform. It knows what was offered and what the platform has, and nothing of how
the spool is made. Crashes are modelled as what they are to the file: a connection dropped without a commit, or a
transaction that breaks at one of its statements.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.batch.model import HOUR_US, Account, Reason, Refusal
from agent.frame import Frame, Session
from agent.spool import row, store
from agent.spool.engine import Engine
from agent.spool.intake import hour_of
from agent.spool.orders import Contradicted, Entry, Order, Policy, Refused, Unreadable
from agent.spool.reader import DamagedBatchError, SpoolReader
from agent.spool.state import BatchState
from tests.agent.spool.gateway import BOOT, CITY, EUI, SIGNER, WATER, Platform, frame, heard

NAMES = ("city", "water")
EXPIRE_HOURS = 48
POLICY = Policy(batch_frames=7, batch_age_s=30.0, quota_bytes=1 << 20, expire_hours=EXPIRE_HOURS)


class SpoolMachine(RuleBasedStateMachine):
    """Two destinations, one engine on a real file."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="civigate-spool-"))
        self.path = self.folder / "spool.db"
        self.next_frame = 0
        self.next_number = 1
        self.now_s = 0.0
        self.session = Session(BOOT, 1)
        self.pending: list[Entry] = []
        """Journaled, not committed."""
        self.offered: dict[str, list[Frame]] = {name: [] for name in NAMES}
        self.heard_total = dict.fromkeys(NAMES, 0)
        self.platforms: dict[bytes, Platform] = {}
        self.streams: dict[str, list[bytes]] = {name: [] for name in NAMES}
        self.wires: dict[tuple[bytes, int], bytes] = {}
        """Every batch that was ever committed: its number must never stand for anything else."""
        self.refused: set[tuple[bytes, int]] = set()
        self.damaged: list[Frame] = []
        self.hours = 0
        self.heard_at: dict[Frame, int] = {}
        self.boot = 0
        self.past_us = 0
        """CLOCK_BOOTTIME goes on by what `pass_time` says; this is where it stands, beside what `frame` gives."""

    @initialize()
    def begin(self) -> None:
        self.open()
        self.note_batches()

    def open(self) -> None:
        self.connection = store.open_writer(self.path, POLICY.quota_bytes)
        self.engine = Engine(self.connection, destinations=(CITY, WATER), policy=POLICY, signer=SIGNER, gateway_eui=EUI)
        self.reader = SpoolReader(self.path)

    def teardown(self) -> None:
        if hasattr(self, "reader"):
            self.reader.close()
            self.connection.close()
        shutil.rmtree(self.folder)

    def apply(self, *orders: Order, entries: int = 0, flush: bool = False) -> None:
        taken = self.pending[:entries]
        self.engine.apply(taken, orders, self.now_s, flush=flush)
        del self.pending[: len(taken)]
        self.note_batches()

    def note_batches(self) -> None:
        for name in NAMES:
            head = self.reader.head(name)
            if head.stream_id not in self.streams[name]:
                self.streams[name].append(head.stream_id)
                self.platforms[head.stream_id] = Platform()
        for batch in self.reader.batches():
            try:
                wire = self.reader.wire(batch)
            except DamagedBatchError:
                continue
            known = self.wires.setdefault((batch.stream.stream_id, batch.number), wire)
            assert known == wire, f"batch {batch.number} has two contents"

    # ------------------------------------------------------------------ events

    @rule(routes=st.lists(st.integers(0, 3), min_size=0, max_size=9), foreign=st.integers(0, 3))
    def offer(self, routes: list[int], foreign: int) -> None:
        frames = [frame(self.next_frame + index, self.session) for index in range(len(routes))]
        frames = [replace(one, boottime_us=one.boottime_us + self.past_us) for one in frames]
        self.heard_at |= dict.fromkeys(frames, self.hours)
        self.next_frame += len(routes)
        look = heard(frames, routes, destinations=2, foreign=foreign)
        self.pending.append(Entry(self.next_number, look, tuple(row.pack(r.frame) for r in look.frames)))
        self.next_number += 1
        for bit, name in enumerate(NAMES):
            self.heard_total[name] += len(frames) + foreign
            self.offered[name] += [one for one, route in zip(frames, routes, strict=True) if route >> bit & 1]

    @rule()
    def restart_concentrator(self) -> None:
        self.session = Session(self.session.boot_id, self.session.number + 1)

    @rule(hours=st.sampled_from([1, 2, 20, 60]))
    def pass_time(self, hours: int) -> None:
        self.hours += hours
        self.past_us += hours * HOUR_US

    @rule()
    def boot_again(self) -> None:
        self.boot += 1
        self.past_us = 0
        self.session = Session(bytes([self.boot]) * 16, self.session.number + 1)

    @rule(count=st.integers(1, 5), flush=st.booleans())
    def commit(self, count: int, flush: bool) -> None:
        self.apply(entries=count, flush=flush)

    @rule(seconds=st.sampled_from([1.0, 40.0, 1000.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.apply()

    @rule(count=st.integers(0, 5), flush=st.booleans(), after=st.integers(0, 6))
    def fail(self, count: int, flush: bool, after: int) -> None:
        """Break a transaction at one of its statements; then the same call must do the whole of it."""
        left = [after]
        done = self.engine.book.connection

        class Breaking:
            in_transaction = property(lambda _: done.in_transaction)

            def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
                if left[0] <= 0 and sql != "ROLLBACK":
                    raise sqlite3.OperationalError("as if")
                left[0] -= sql[:6] in {"INSERT", "UPDATE", "DELETE", "COMMIT"} or sql.startswith("REPLACE")
                return done.execute(sql, *values)  # type: ignore[arg-type]  # handed through

            def executemany(self, sql: str, values: object) -> sqlite3.Cursor:
                self.execute("UPDATE spool SET id = 1")
                return done.executemany(sql, values)  # type: ignore[arg-type]  # handed through

        self.engine.book.connection = Breaking()  # type: ignore[assignment]  # a connection that fails
        try:
            self.engine.apply(self.pending[:count], (), self.now_s, flush=flush)
        except sqlite3.OperationalError:
            pass
        else:
            del self.pending[:count]
        finally:
            self.engine.book.connection = done
        self.note_batches()

    @rule()
    def reopen(self) -> None:
        """Begin a new process; the journal still has what was not committed, and only that."""
        self.reader.close()
        self.connection.close()
        self.open()
        position = self.engine.state.journal
        assert all(entry.number > position for entry in self.pending)
        self.note_batches()

    @rule(name=st.sampled_from(NAMES), skip=st.sets(st.integers(1, 4), max_size=2))
    def send(self, name: str, skip: set[int]) -> None:
        """The platform takes what waits, some of it perhaps later."""
        platform = self.platforms[self.reader.head(name).stream_id]
        for batch in self.reader.unacknowledged(name, 0, 99):
            if batch.number not in skip and (batch.stream.stream_id, batch.number) not in self.refused:
                try:
                    platform.take(self.reader.wire(batch))
                except DamagedBatchError:
                    # as a sender does: it has asked what the platform has before it sends anything again
                    self.apply(platform.receipt(batch.stream.stream_id))
                    self.apply(Unreadable(batch.stream.stream_id, batch.number))

    @rule(name=st.sampled_from(NAMES), old=st.booleans())
    def receive(self, name: str, old: bool) -> None:
        stream_id = self.streams[name][0 if old else -1]
        self.apply(self.platforms[stream_id].receipt(stream_id))

    @rule(name=st.sampled_from(NAMES), reason=st.sampled_from([Reason.MALFORMED, Reason.UNKNOWN_KEY, Reason.FORK]))
    def refuse(self, name: str, reason: Reason) -> None:
        platform = self.platforms[self.reader.head(name).stream_id]
        batches = [b for b in self.reader.unacknowledged(name, 0, 99) if b.number not in platform.batches]
        if not batches or (reason is Reason.FORK and len(self.streams[name]) > 2):
            return
        batch = batches[-1]
        stream_id = batch.stream.stream_id
        refusal = Refusal(stream_id, batch.number, batch.hash, reason, "", 1)
        self.apply(Refused(stream_id, batch.number, refusal))
        if reason is not Reason.UNKNOWN_KEY:
            self.refused |= {(stream_id, b.number) for b in batches if reason is Reason.FORK or b == batch}

    @precondition(lambda self: any(len(streams) < 3 for streams in self.streams.values()))
    @rule(name=st.sampled_from(NAMES))
    def contradict(self, name: str) -> None:
        """The platform shows another history, up to what it has of this one."""
        stream_id = self.reader.head(name).stream_id
        self.apply(Contradicted(stream_id, max(self.platforms[stream_id].batches, default=0)))

    @precondition(lambda self: len(self.damaged) < 3)
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        # not where the bookkeeping is: then the spool has to be salvaged, see test_salvage
        snapshot_row = self.connection.execute("SELECT last_row FROM spool").fetchone()[0]
        stored = [item for item in self.reader.rows(0, snapshot_row) if not isinstance(item, row.DamagedRowError)]
        if not stored:
            return
        victim = data.draw(st.sampled_from(stored))
        self.connection.execute("UPDATE frame SET counter_us = counter_us + 1 WHERE seq = ?", (victim.seq,))
        self.damaged.append(victim.frame)

    # ------------------------------------------------------------------ what always holds

    @invariant()
    def nothing_is_lost_doubled_or_invented(self) -> None:
        if not hasattr(self, "reader"):
            return
        assert self.reader.check() == []
        present = list(self.reader.rows())
        for bit, name in enumerate(NAMES):
            waiting = {
                entry_frame
                for entry in self.pending
                for r in entry.heard.frames
                if r.route >> bit & 1
                for entry_frame in [r.frame]
            }
            committed = [one for one in self.offered[name] if one not in waiting]
            got = [f for stream_id in self.streams[name] for f in self.platforms[stream_id].frames()]
            assert len(got) == len(set(got)), "doubled"
            assert set(got) <= set(committed), "invented"
            here = {
                item.frame
                for item in present
                if not isinstance(item, row.DamagedRowError) and name in item.destinations
            }
            missing = set(committed) - set(got) - here - set(self.damaged)
            assert all(self.hours - self.heard_at[one] >= EXPIRE_HOURS for one in missing), "lost"
            accounts = [status.account for status in self.reader.status().streams if status.destination == name]
            assert len(missing) <= sum(account.expired for account in accounts)

    @invariant()
    def accounts_agree(self) -> None:
        if not hasattr(self, "reader"):
            return
        for name in NAMES:
            totals = Account()
            for status in self.reader.status().streams:
                if status.destination == name:
                    totals += status.account
            pending = sum(entry.heard.tallies[NAMES.index(name)].heard for entry in self.pending)
            assert totals.heard == self.heard_total[name] - pending

    @invariant()
    def every_hour_agrees_with_its_frames(self) -> None:
        """What the account says of an hour is what is there of it; where rows are damaged their hour is only likely."""
        if not hasattr(self, "reader") or self.damaged:
            return
        state = self.reader.state()
        names = state.hour_names()
        present = [item for item in self.reader.rows() if not isinstance(item, row.DamagedRowError)]
        for stream in state.streams.values():
            spans = [(b.first_row, b.last_row) for b in stream.sealed.values() if b.state is BatchState.WAITING]
            if stream.open:
                spans.append((stream.next_row, state.last_row))
            waiting = Counter(
                hour_of(item.frame.session.boot_id, item.frame.boottime_us)
                for item in present
                if stream.destination in item.destinations
                if any(first <= item.seq <= last for first, last in spans)
            )
            said = {names[hour]: stream.waiting_in(hour) for hour in stream.hours}
            assert {hour: count for hour, count in said.items() if count} == dict(waiting)


SpoolMachine.TestCase.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSpool = SpoolMachine.TestCase
