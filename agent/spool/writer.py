# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The thread that writes the spool: commits in groups what is heard, seals, and keeps trying when the disk fails.

Nobody waits for it. What is offered goes into the journal and a bounded queue at once; when the queue is full it is
shed, which is counted. While the disk refuses, the state has a name, the queue fills, and everything is committed as
soon as it takes again.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType

from agent.batch import body as bodies
from agent.batch.errors import UnwritableError
from agent.batch.keys import Signer
from agent.batch.model import Anchor, Body, Receipt, Refusal
from agent.errors import AgentError, SpoolError
from agent.frame import Session
from agent.spool import store
from agent.spool.audit import Audit
from agent.spool.ballast import Ballast
from agent.spool.condition import DAMAGED, INCURABLE, SLOW_S, WriterState, WriterStatus, slow_detail, state_of
from agent.spool.engine import Engine
from agent.spool.intake import Heard
from agent.spool.journal import Journal, Recovered
from agent.spool.orders import (
    Contradicted,
    Destination,
    Entry,
    Identify,
    Order,
    Policy,
    Refused,
    Unreadable,
    prepared,
)
from agent.spool.pending import Pending
from agent.spool.reader import SpoolReader
from agent.spool.row import WEIGHT_BYTES, Fields
from agent.spool.salvage import mend, salvage, unless_kept
from agent.spool.salvaged import Salvaged
from agent.spool.standing import standings
from agent.spool.window import CommitWindow
from agent.watchdog import ORDINARY_S

log = logging.getLogger(__name__)

QUEUE_ORDERS = 10_000
"""Receipts, anchors and the like that wait for the disk at most."""
RETRY_S = (0.1, 0.3, 1.0, 3.0, 5.0)
"""Pauses after failures of the disk; the last one goes on."""
ROOM_EVERY_S = 10.0
"""How often the room that is left is looked at."""
STANDINGS_EVERY_S = 10.0
"""How often the accounts are summed up for those who look."""
MOST_SALVAGES = 3
"""In one life; each keeps the file that was damaged. A machine that damages files faster needs a person."""
COMMIT_LIMIT_S = 120.0
"""A commit that takes longer hangs: no card that works does that, and the kernel gives up on it sooner."""
SALVAGE_LIMIT_S = 3600.0
"""The same after an error, when a large file may have to be read row by row."""
LOOK_S = 10.0
"""How often the thread shows that it is there while nothing is to be done."""
STOP_S = 30.0
"""How long a clean stop may take before the rest is left to the journal."""


class SpoolWriter:
    """Owner of the only writing connection, and of its thread "spool"."""

    def __init__(
        self,
        path: Path,
        *,
        journal_folder: Path,
        destinations: Sequence[Destination],
        policy: Policy,
        signer: Signer,
        previous: Signer | None = None,
        gateway_eui: bytes | None = None,
        health: Callable[[], Mapping[str, int]] | None = None,
        commit_window_s: float = 1.0,
        commit_frames: int = 500,
        daily_bytes: float | None = None,
        beat: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Open or create the spool, and take over what an earlier process has left in the journal.

        Args:
            path: of the database; its folder must exist.
            journal_folder: on tmpfs, made when missing.
            destinations: in the order of the configuration.
            policy: of sealing and quota.
            signer: signs batches, in the thread of the writer. While it cannot, frames are kept and sealed later.
            previous: the key before it, while the platform may not know the new one yet (`agent.spool.signing`).
            gateway_eui: EUI-64; None: what the spool knows, or what `identify` tells. Nothing is sealed before.
            health: small integers for the batches, asked when sealing, in the thread of the writer.
            commit_window_s: the longest that a frame waits for its commit.
            commit_frames: commit at once when so many wait.
            daily_bytes: that may be written to the card in a day; as far as they go, a frame waits shorter. None:
                it always waits the longest.
            beat: told within how many seconds the thread will be heard of again (`agent.watchdog`).

        Raises:
            SpoolError: spool or journal cannot be used.
        """
        self.path = path
        self.destinations = tuple(destination.name for destination in destinations)
        self._policy = policy
        window = CommitWindow(commit_window_s, daily_bytes)
        self._commit_frames = commit_frames
        self._routes = (1 << len(destinations)) - 1
        self._lock = store.Lock(path)
        self._salvages = 0
        self._unbalanced: tuple[str, ...] = ()
        self._distrust: SpoolError | None = None
        self._problem = ""
        self._salvaged_for: set[str] = set()
        """What was found before each salvage since a look that found nothing."""
        self._incurable: SpoolError | None = None
        self._audit = Audit(path, self._audited)
        try:
            self.salvaged: Salvaged | None = mend(path, self.destinations)
            """What was saved when the spool was found damaged; None when it was not."""
            self._connection = store.open_writer(path, policy.quota_bytes)
            self._file = store.identity(path)
        except OSError as error:
            self._lock.release()
            raise error if isinstance(error, SpoolError) else store.file_error(error, path) from error
        except BaseException:
            self._lock.release()
            raise
        try:
            self._check_identity(gateway_eui)
            read = partial(
                Engine,
                destinations=destinations,
                policy=policy,
                signer=signer,
                previous=previous,
                gateway_eui=gateway_eui,
                health=health,
            )
            try:
                self._engine = read(self._connection)
            except sqlite3.DatabaseError as error:
                if store.database_error(error, path).code != DAMAGED:
                    raise
                # writing has come to pages that only reading had passed by
                log.error("event=spool_damaged problem=%s", error)  # noqa: TRY400 - it is dealt with
                self._connection.close()
                self.salvaged = salvage(path, self.destinations)
                self._connection = store.open_writer(path, policy.quota_bytes)
                self._file = store.identity(path)
                self._engine = read(self._connection)
            if self.salvaged is not None:
                self._engine.book.know_searched()
            self._ballast = Ballast(path)
            self._engine.book.let_grow(self._ballast.growth_bytes)
            known = self._engine.state
            self.standings = tuple(standings(known))
            """How each destination stands, some seconds old; any thread may look."""
            journal = Journal(journal_folder, known.spool_id, self.destinations, known.journal)
        except sqlite3.Error as error:
            self._abandon()
            raise store.database_error(error, path) from error
        except OSError as error:
            self._abandon()
            if isinstance(error, SpoolError):
                raise
            raise SpoolError(
                f"journal cannot be used: {error.strerror or error}",
                where=str(journal_folder),
                hint="let the agent's user write the folder, or correct [gateway] runtime_dir",
                code="CG-SPL-012",
            ) from error
        except BaseException:
            self._abandon()
            raise
        self.recovered: Recovered = journal.recovered
        """What an earlier process has left; its frames are queued already."""
        if self.salvaged is not None and not self.salvaged.whole_account:
            self.recovered = replace(self.recovered, heard=tuple(unless_kept(self._connection, self.recovered.heard)))
        left = self.recovered.session
        self._session = max(known.session, left.number if left else 0)
        self._beat = beat
        self._changed = threading.Condition()
        self._orders: deque[Order] = deque()
        self._flushes: list[threading.Event] = []
        self._stopping = False
        self._busy_since: float | None = None
        self._room_at_s: float | None = None
        self._moved = False
        self._standings_at_s = -math.inf
        self._events = {name: threading.Event() for name in self.destinations}
        self._status = WriterStatus(WriterState.OK, "", 0, 0.0, 0, 0, 0, 0, 0, crowded=False)
        self._pending = Pending(journal, window)
        self._pending.replay(self.recovered.heard)
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    def _check_identity(self, gateway_eui: bytes | None) -> None:
        found = self._connection.execute("SELECT gateway_eui FROM spool").fetchone()[0]
        if gateway_eui is not None and found is not None and found != gateway_eui:
            raise SpoolError(
                f"spool of gateway {found.hex()}, this one is {gateway_eui.hex()}",
                where=str(self.path),
                hint="after an exchange of the concentrator set [gateway] eui to the old one, or move the spool aside",
                code="CG-SPL-013",
            )

    def _abandon(self) -> None:
        self._connection.close()
        self._lock.release()

    # ------------------------------------------------------------------ any thread

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()
        self._audit.start()

    def audit(self) -> None:
        """Have the sums checked soon; `status` tells the outcome."""
        self._audit.look()

    def _audited(self, wrong: tuple[str, ...], problem: SpoolError | None) -> None:
        with self._changed:
            if wrong and wrong != self._unbalanced:
                log.error("event=spool_unbalanced what=%s", "; ".join(wrong))
            self._unbalanced = wrong
            if problem is None:
                self._incurable = None
                self._salvaged_for.clear()
            elif problem.code == DAMAGED:
                if problem.what in self._salvaged_for or self._salvages >= MOST_SALVAGES:
                    # Once more would come to the same, and cost a copy of the file each time.
                    if self._incurable is None:
                        log.error("event=spool_incurable problem=%s", problem)
                    self._incurable = problem
                else:
                    self._distrust = problem
                    self._changed.notify_all()

    def __enter__(self) -> SpoolWriter:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def begin_session(self, boot_id: bytes) -> Session:
        """Return the name of a run of the concentrator that begins now. Does not wait for the disk.

        Args:
            boot_id: of the kernel, 16 bytes.
        """
        with self._changed:
            self._session += 1
            session = Session(boot_id, self._session)
            self._pending.journal.begin_session(session)
            return session

    def offer(self, heard: Heard) -> bool:
        """Take what was heard. Does not wait for the disk.

        Returns:
            False when the queue is full: then the frames are lost, and counted as overrun of the next that is taken.

        Raises:
            ValueError: a frame or tally that cannot be stored; nothing of it was taken.
        """
        fields, packed = self._checked(heard)
        with self._changed:
            if self._stopping or not self._pending.has_room(len(packed)):
                self._pending.shed(heard)
                self._status = replace(self._status, shed_frames=self._status.shed_frames + len(packed))
                return False
            self._pending.take(heard, packed, fields)
            # the thread sleeps until the window of the first frame ends; waking it for each would only cost time
            if self._pending.entries == 1 or self._pending.frames >= self._commit_frames:
                self._changed.notify_all()
            return True

    def reached(self, destination: str, *, up: bool) -> None:
        """Note whether the platform of a destination can be reached: then what is heard now is sealed by its age."""
        sealer = self._engine.sealer
        with self._changed:
            sealer.reached = sealer.reached | {destination} if up else sealer.reached - {destination}
            self._changed.notify_all()

    def receipt(self, receipt: Receipt) -> None:
        """Free what a receipt covers. Its signature has been verified by the caller. Only queues."""
        self._command(receipt)

    def refusal(self, stream_id: bytes, number: int, refusal: Refusal) -> None:
        """Park a batch, or hold its stream, as a refusal demands. The caller has verified its signature. Only queues.

        Args:
            stream_id: of the batch that was refused.
            number: of the batch.
            refusal: may not name the batch itself where the platform could not read it.
        """
        self._command(Refused(stream_id, number, refusal))

    def unreadable(self, stream_id: bytes, number: int) -> None:
        """Withdraw a batch that `SpoolReader.wire` cannot make again. Only queues.

        Its good frames will travel in another batch. So the caller must have asked the platform what it has, after it
        has last sent this batch: otherwise they might arrive twice.
        """
        self._command(Unreadable(stream_id, number))

    def contradicted(self, stream_id: bytes, newest: int) -> None:
        """Begin a new stream: the platform has another history of this one, as after a card was restored. Only queues.

        Args:
            stream_id: 16 bytes.
            newest: highest batch number that the platform has, or may yet have.
        """
        self._command(Contradicted(stream_id, newest))

    def anchor(self, anchor: Anchor) -> None:
        """Keep a clock anchor; it travels in the next batch of each stream. Only queues.

        Raises:
            ValueError: a value that the batch format has no place for.
        """
        try:
            bodies.encode(Body((), anchors=(anchor,)))
        except UnwritableError as error:
            raise ValueError(str(error)) from error
        self._command(anchor)

    def identify(self, gateway_eui: bytes) -> None:
        """Tell the EUI-64 when it was not known at the start. Only queues.

        Raises:
            SpoolError: the spool belongs to another gateway.
        """
        with self._changed:
            found = self._engine.state.gateway_eui
        if found is not None and found != gateway_eui:
            raise SpoolError(
                f"spool of gateway {found.hex()}, this one is {gateway_eui.hex()}",
                where=str(self.path),
                hint="after an exchange of the concentrator set [gateway] eui to the old one, or move the spool aside",
                code="CG-SPL-013",
            )
        self._command(Identify(gateway_eui))

    @property
    def gateway_eui(self) -> bytes | None:
        """The EUI-64 in the batches: as given, or as the spool knows it from an earlier life; None before that."""
        with self._changed:
            return self._engine.state.gateway_eui

    def on_sealed(self, destination: str) -> threading.Event:
        """Return the event that is set after each commit with a batch for a destination; who waits for it clears it."""
        return self._events[destination]

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Commit and seal everything now; False when that takes longer, or the disk refuses."""
        done = threading.Event()
        with self._changed:
            self._flushes.append(done)
            self._changed.notify_all()
        return done.wait(timeout_s)

    def status(self) -> WriterStatus:
        """Say how it is."""
        now = time.monotonic()
        with self._changed:
            known = self._status
            waits_s = 0.0 if self._busy_since is None else now - self._busy_since
            if known.state is WriterState.OK and waits_s > SLOW_S:
                known = replace(known, state=WriterState.SLOW, detail=slow_detail(waits_s, self.path))
            elif known.state is WriterState.OK and self._incurable is not None:
                known = replace(known, state=WriterState.DAMAGED, detail=f"{self._incurable}; {INCURABLE} [{DAMAGED}]")
            elif known.state is WriterState.OK and self._unbalanced:
                known = replace(known, state=WriterState.UNBALANCED, detail="; ".join(self._unbalanced))
            return replace(
                known,
                queued_frames=self._pending.frames,
                oldest_s=self._pending.oldest_s(now),
                commit_window_s=self._pending.window.seconds(now),
                longest_commit_s=max(known.longest_commit_s, waits_s),
                journal_failures=self._pending.journal.failures,
                sealing=self._engine.sealer.problem,
                crowded=self._ballast.crowded,
            )

    def reader(self) -> SpoolReader:
        """Open a read-only view for the calling thread.

        Raises:
            SpoolError: the spool cannot be read.
        """
        return SpoolReader(self.path)

    def stop(self, timeout_s: float = STOP_S) -> bool:
        """Commit and seal what there is, and end the thread; False when the disk refuses until the end.

        What is not committed then stays in the journal.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._audit.stop(1.0)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        with self._changed:
            left = self._pending.frames
            self._pending.journal.close()
            self._status = replace(self._status, state=WriterState.STOPPED)
        self._abandon()
        return left == 0

    # ------------------------------------------------------------------ intake

    def _checked(self, heard: Heard) -> tuple[tuple[Fields, ...], tuple[bytes, ...]]:
        if len(heard.tallies) != len(self.destinations):
            raise ValueError(f"{len(heard.tallies)} tallies for {len(self.destinations)} destinations")
        for index, tally in enumerate(heard.tallies):
            routed = sum(frame.route >> index & 1 for frame in heard.frames)
            if routed != tally.spooled or not tally.balanced or tally.evicted or tally.expired or tally.quarantined:
                raise ValueError(f"tally {tally} does not fit {routed} frames for {self.destinations[index]}")
        for frame in heard.frames:
            if not 0 < frame.route <= self._routes:
                raise ValueError(f"route {frame.route:#x} among {len(self.destinations)} destinations")
        return prepared(heard)

    def _command(self, order: Order) -> None:
        with self._changed:
            if len(self._orders) >= QUEUE_ORDERS:
                return  # receipts come again, anchors and refusals too
            self._orders.append(order)
            if not isinstance(order, Anchor):
                self._changed.notify_all()

    # ------------------------------------------------------------------ thread "spool"

    def _run(self) -> None:
        more = True  # look once for batches that are due since the last run
        failures = 0
        while True:
            with self._changed:
                while not more and not self._ready():
                    self._renew_standings()
                    patience_s = self._patience_s()
                    self._beat(ORDINARY_S)
                    self._changed.wait(LOOK_S if patience_s is None else min(patience_s, LOOK_S))
                stopping = self._stopping
                flushes, self._flushes = self._flushes, []
                entries, orders = self._group(failing=failures > 0)
                begin_s = self._busy_since = time.monotonic()
                self._beat(SALVAGE_LIMIT_S if failures else COMMIT_LIMIT_S)
            try:
                if failures:
                    self._reopen()
                self._check_place()
                self._check_trust()
                if not failures or self._status.state is WriterState.FULL:
                    self._ballast.look(failures)
                    self._engine.book.let_grow(self._ballast.growth_bytes)
                outcome = self._engine.apply(entries, orders, time.monotonic(), flush=bool(flushes) or stopping)
            except sqlite3.Error as error:
                problem: AgentError | None = store.database_error(error, self.path)
            except AgentError as error:
                problem = error
            except OSError as error:
                problem = store.file_error(error, self.path)
            except Exception as error:
                # a defect must not silence a gateway for good: it is said with its trace, and the next try may do
                log.exception("event=spool_defect")
                problem = SpoolError(
                    f"{type(error).__name__}: {error}",
                    where=str(self.path),
                    hint="report it with the log",
                    code="CG-SPL-015",
                    retryable=True,
                )
            else:
                problem = None
            if problem is not None:
                more = True
                with self._changed:
                    self._flushes = flushes + self._flushes
                    if not self._failed(problem, RETRY_S[min(failures, len(RETRY_S) - 1)], last=stopping):
                        return
                failures += 1
                continue
            failures = 0
            self._moved = True
            self._renew_standings()
            used_bytes, room_bytes = self._used_and_room(begin_s)
            with self._changed:
                self._done(entries, orders, time.monotonic() - begin_s)
                self._status = replace(self._status, used_bytes=used_bytes, room_bytes=room_bytes)
                more = outcome.more
                rest = more or bool(self._pending.entries or self._orders)
                if rest and (flushes or stopping):
                    more = True
                    self._flushes = flushes + self._flushes
                else:
                    for done in flushes:
                        done.set()
            for name in outcome.sealed | outcome.changed:
                if name in self._events:
                    self._events[name].set()
            if stopping and not rest:
                return

    def _ready(self) -> bool:
        if self._stopping or self._distrust or self._flushes or self._pending.frames >= self._commit_frames:
            return True
        if any(not isinstance(order, Anchor) for order in self._orders):
            return True
        return self._patience_s() == 0.0

    def _patience_s(self) -> float | None:
        """Return how long nothing has to be done; None: until something comes."""
        now = time.monotonic()
        moments = (self._pending.due_s(now), self._engine.sealer.next_seal_s())
        due = [moment for moment in moments if moment is not None]
        return max(min(due) - now, 0.0) if due else None

    def _group(self, *, failing: bool) -> tuple[list[Entry], list[Order]]:
        """Look up the next group; it stays in the queue until it is committed."""
        orders = list(self._orders)
        if failing and any(isinstance(order, Receipt) for order in orders):
            return [], orders  # on a full disk a receipt may be what makes room; nothing else goes with it
        return self._pending.group(), orders

    def _failed(self, problem: AgentError, pause_s: float, *, last: bool) -> bool:
        """Give the state its name and wait; False when the writer stops and has tried once more."""
        self._busy_since = None
        self._problem = problem.what
        state = state_of(problem.code)
        if state is not self._status.state:
            log.error("event=spool_%s detail=%s", state.value.replace("-", "_"), problem)
        self._status = replace(
            self._status,
            state=state,
            detail=f"{problem}; {problem.hint} [{problem.code}]",
            failures=self._status.failures + 1,
        )
        self._changed.wait_for(lambda: self._stopping, pause_s)
        return not last

    def _check_trust(self) -> None:
        """Take the audit's word for it that the file is damaged.

        Raises:
            SpoolError: it is.
        """
        with self._changed:
            distrust, self._distrust = self._distrust, None
        if distrust is not None:
            raise distrust

    def _check_place(self) -> None:
        """Make sure that what is written can be found again: an open file outlives its name, and its mount.

        Raises:
            SpoolError: the path leads to another file or to none.
        """
        if store.identity(self.path) != self._file:
            raise SpoolError(
                "another file has taken its place",
                where=str(self.path),
                hint="put the right one back; the agent goes on with it by itself",
                code="CG-SPL-001",
                retryable=True,
            )

    def _reopen(self) -> None:
        """Begin anew with the file: after an error the old connection is not trusted."""
        self._connection.close()
        again = self._status.state is WriterState.DAMAGED and self._salvages < MOST_SALVAGES
        if again:
            self._salvages += 1
            self._salvaged_for.add(self._problem)
            self.salvaged = salvage(self.path, self.destinations, self._engine.state.spool_id)
        self._connection = store.open_writer(self.path, self._policy.quota_bytes, create=False)
        self._file = store.identity(self.path)
        self._engine.reattach(self._connection)
        if again:
            self._engine.book.know_searched()
            self._audit.look()  # whether that was the cure

    def _renew_standings(self) -> None:
        """Sum up for those who look, now and then."""
        now = time.monotonic()
        if self._moved and now - self._standings_at_s >= STANDINGS_EVERY_S:
            self._moved, self._standings_at_s = False, now
            self.standings = tuple(standings(self._engine.state))

    def _used_and_room(self, now_s: float) -> tuple[int | None, int | None]:
        """Look now and then how much of the file is in use, and how much room is left; bytes."""
        if self._room_at_s is None or now_s - self._room_at_s >= ROOM_EVERY_S:
            self._room_at_s = now_s
            with contextlib.suppress(sqlite3.Error, OSError):
                connection, limit = self._connection, self._engine.book.limit_pages
                page, pages, free = (
                    store.scalar(connection, f"PRAGMA {name}", int)
                    for name in ("page_size", "page_count", "freelist_count")
                )
                disk = os.statvfs(self.path.parent)
                room = free * page + min(max(limit - pages, 0) * page, disk.f_bavail * disk.f_frsize)
                return (pages - free) * page, room
        return self._status.used_bytes, self._status.room_bytes

    def _done(self, entries: Sequence[Entry], orders: Sequence[Order], took_s: float) -> None:
        self._busy_since = None
        frames = sum(len(entry.packed) for entry in entries)
        size = sum(WEIGHT_BYTES * len(entry.packed) + sum(map(len, entry.packed)) for entry in entries)
        slow = took_s > SLOW_S
        if slow:
            log.warning("event=spool_slow seconds=%.1f frames=%d", took_s, frames)
        for _ in orders:
            self._orders.popleft()
        self._pending.committed(entries)
        if self._status.state is not WriterState.OK:
            log.info("event=spool_ok failures=%d", self._status.failures)
        self._status = replace(
            self._status,
            state=WriterState.OK,
            detail="",
            committed_frames=self._status.committed_frames + frames,
            slow_commits=self._status.slow_commits + slow,
            longest_commit_s=max(self._status.longest_commit_s, took_s),
            frame_bytes=self._status.frame_bytes + size,
            commits=self._status.commits + bool(entries or orders),
        )


def check(path: Path) -> list[str]:
    """Return what does not add up in the spool at `path`, one sentence each (see `agent.spool.state.check`).

    Raises:
        SpoolError: the spool cannot be read.
    """
    with SpoolReader(path) as reader:
        return reader.check()
