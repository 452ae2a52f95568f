# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What happens in the demonstration, and when: traffic, an outage, hard kills, the return of the link, the account."""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.demo.air import Air, Control
from agent.demo.audit import Verdict, audit
from agent.demo.screen import Scene, Screen
from agent.demo.stage import Stage
from agent.demo.traffic import play
from agent.errors import AgentError, SpoolError
from agent.spool.reader import SpoolReader

LOOK_INTERVAL_S = 0.1
FREE_RUN = 0.04
"""Share of the frames that the unpaced air may run ahead of an event which is due."""
OUTAGE_AT, FIRST_KILL_AT, LINK_BACK_AT = 0.2, 0.35, 0.55
"""Shares of the frames."""
START_LIMIT_S = 60.0
DRAIN_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the user asked for.

    Attributes:
        frames: to send.
        rate_hz: frames per second, 0 for as fast as the path takes.
        outage_s: how long the backhaul is away, 0 for not at all.
        kills: how often the agent is killed.
        seed: of traffic and arrival times.
    """

    frames: int
    rate_hz: float
    outage_s: float
    kills: int
    seed: int


@dataclass(frozen=True, slots=True)
class Result:
    """The account.

    Attributes:
        verdict: what became of every frame.
        wire_bytes: on the backhaul, both directions, as TCP carries them.
        chain_ok: whether every stream's numbers, hashes, signatures and sums verify at the receiver.
        kills: SIGKILLs that hit a running agent.
        outage_s: how long the backhaul was away, measured.
        seconds: the whole run.
        path_seconds: from the first frame on the air to the last receipt.
        agent_peak_mb: most memory the agent (the last one started) held, MB resident.
    """

    verdict: Verdict
    wire_bytes: int
    chain_ok: bool
    kills: int
    outage_s: float
    seconds: float
    path_seconds: float
    agent_peak_mb: float

    @property
    def good(self) -> bool:
        """Whether nothing was lost, doubled, or left unproven."""
        found = self.verdict
        return found.lost == found.duplicated == 0 < found.heard and found.delivered == found.spooled and self.chain_ok

    def as_json(self) -> dict[str, Any]:
        """Return the account as one flat object."""
        delivered = self.verdict.delivered
        return asdict(self.verdict) | {
            "wire_bytes": self.wire_bytes,
            "bytes_per_frame": round(self.wire_bytes / delivered, 1) if delivered else None,
            "payload_per_frame": round(self.verdict.payload_bytes / delivered, 1) if delivered else None,
            "chain_ok": self.chain_ok,
            "kills": self.kills,
            "outage_s": round(self.outage_s, 1),
            "seconds": round(self.seconds, 1),
            "frames_per_s": round(self.verdict.heard / self.path_seconds, 1),
            "agent_peak_mb": round(self.agent_peak_mb, 1),
        }


class Story:
    """One run.

    Args:
        plan: what the user asked for.
        stage: the programs; set, with the agent not started yet.
        screen: where it is shown.
    """

    def __init__(self, plan: Plan, stage: Stage, screen: Screen) -> None:
        self._plan = plan
        self._stage = stage
        self._screen = screen
        self._control = Control(stage.control_socket)
        self._air = Air(stage.control_socket, play(plan.seed), plan.frames, plan.rate_hz, plan.seed)
        self._heard: deque[tuple[float, int]] = deque()
        self._cut_at: float | None = None
        self._outage_s = 0.0
        self._kills = 0
        self._spool = (0, 0)

    def run(self) -> Result:
        """Play it to the end and draw up the account.

        Raises:
            AgentError: a program ended that should not, or something did not happen within its limit.
        """
        started = time.monotonic()
        self._screen.tell("the agent starts and brings up the concentrator")
        self._stage.start_agent()
        self._wait("the concentrator to receive", self._receiving, START_LIMIT_S)
        self._screen.tell("recorded traffic is on the air")
        on_air = time.monotonic()
        self._air.start()
        for share, event in self._events():
            self._play_until(share)
            event()
        self._play_until(1.0)
        self._wait("the air to end", lambda: not self._air.is_alive(), START_LIMIT_S)
        self._wait("the link to return", lambda: self._cut_at is None, self._plan.outage_s + START_LIMIT_S)
        self._screen.tell("the air is quiet; what is left drains")
        self._wait("the agent to listen again", self._stage.agent_listens, START_LIMIT_S)
        self._wait("the spool to drain", lambda: self._look().backlog == 0, DRAIN_LIMIT_S)
        path_seconds, peak_mb = time.monotonic() - on_air, self._stage.agent_peak_mb()
        self._stage.stop_agent()
        self._screen.show(self._look())
        return Result(
            verdict=audit(self._air.log(), self._stage.ledger),
            wire_bytes=self._stage.relay.wire_bytes,
            chain_ok=bool(self._stage.receiver_status()["ok"]),
            kills=self._kills,
            outage_s=self._outage_s,
            seconds=time.monotonic() - started,
            path_seconds=path_seconds,
            agent_peak_mb=peak_mb,
        )

    def close(self) -> None:
        """End the air."""
        self._air.stop()
        self._control.close()

    def _events(self) -> list[tuple[float, Callable[[], None]]]:
        """Return what happens at which share of the frames: half of the kills fall into the outage, half behind it."""
        kills = self._plan.kills
        early = [FIRST_KILL_AT + (LINK_BACK_AT - FIRST_KILL_AT) * i / kills for i in range((kills + 1) // 2)]
        late = [LINK_BACK_AT + (1 - LINK_BACK_AT) * (i + 1) / (kills + 1) for i in range(kills // 2)]
        events: list[tuple[float, Callable[[], None]]] = [(share, self._kill) for share in early + late]
        if self._plan.outage_s:
            events.append((OUTAGE_AT, self._cut))
            events.append((LINK_BACK_AT, self._await_link))
        return sorted(events, key=lambda event: event[0])

    def _cut(self) -> None:
        self._stage.relay.cut()
        self._cut_at = time.monotonic()
        self._screen.tell(f"the backhaul is gone, for {self._plan.outage_s:g} s")

    def _await_link(self) -> None:
        """Let the unpaced air, which could be through by now, wait for the link; at a given rate life goes on."""
        if not self._plan.rate_hz:
            self._wait("the link to return", lambda: self._cut_at is None, self._plan.outage_s + START_LIMIT_S)

    def _kill(self) -> None:
        self._wait("the concentrator to receive again", self._receiving, START_LIMIT_S)
        self._stage.kill_agent()
        self._kills += 1
        self._screen.tell(f"SIGKILL to the agent ({self._kills} of {self._plan.kills}); it is started again")

    def _play_until(self, share: float) -> None:
        """Let the air play up to a share of the frames; it may run ahead a little, so that events hit it flowing."""
        due = int(share * self._plan.frames)
        self._air.hold_at(min(self._plan.frames, int((share + FREE_RUN) * self._plan.frames)))
        # no limit of its own: how long the air takes is the user's choice of rate; a dead program ends it
        self._wait("the air", lambda: self._air.progress >= due, None)

    def _wait(self, what: str, condition: Callable[[], bool], limit_s: float | None) -> None:
        deadline = None if limit_s is None else time.monotonic() + limit_s
        while not condition():
            if deadline is not None and time.monotonic() > deadline:
                raise AgentError(
                    f"waited {limit_s:.0f} s for {what}",
                    where="demonstration",
                    hint=f"see {self._stage.log_of('agent')} (--keep keeps it)",
                    code="CG-DEMO-005",
                )
            if self._air.failure:
                raise self._air.failure
            self._stage.check()
            self._restore_when_due()
            self._screen.show(self._look())
            time.sleep(LOOK_INTERVAL_S)

    def _restore_when_due(self) -> None:
        if self._cut_at is not None and time.monotonic() >= self._cut_at + self._plan.outage_s:
            self._outage_s += time.monotonic() - self._cut_at
            self._cut_at = None
            self._stage.relay.restore()
            self._screen.tell("the backhaul is back")

    def _receiving(self) -> bool:
        return bool(self._control.ask({"cmd": "stats"})["running"])

    def _look(self) -> Scene:
        now, heard = time.monotonic(), self._air.received
        self._heard.append((now, heard))
        while now - self._heard[0][0] > 1.0:
            self._heard.popleft()
        since, before = self._heard[0]
        with suppress(SpoolError):  # not there yet, or just being made: the last figures stand
            self._spool = _spool_figures(self._stage.spool)
        backlog, receipted = self._spool
        delivered, batches = _ledger_figures(self._stage.ledger)
        return Scene(
            progress=self._air.progress,
            heard=heard,
            frames_per_s=(heard - before) / (now - since) if now > since else 0.0,
            backlog=backlog,
            delivered=delivered,
            batches=batches,
            receipted=receipted,
            wire_bytes=self._stage.relay.wire_bytes,
            link_up=self._cut_at is None,
            receiving=self._receiving(),
        )


def _spool_figures(spool: Path) -> tuple[int, int]:
    """Return the frames that wait for a receipt, and the batches that have one."""
    with SpoolReader(spool) as reader:
        streams = reader.status().streams
    return sum(stream.unsealed + stream.sealed for stream in streams), sum(stream.through for stream in streams)


def _ledger_figures(ledger: Path) -> tuple[int, int]:
    """Return the frames and the batches that the receiver has."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as db:
        frames, batches = db.execute(
            "SELECT coalesce(sum(frames), 0), (SELECT count(*) FROM batch) FROM stream"
        ).fetchone()
    return frames, batches
