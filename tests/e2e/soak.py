# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Kill the agent (SIGKILL) at random moments, many times, and audit the whole path from outside. A program.

    python -m tests.e2e.soak --kills 200 --out build/soak.json

Emulator, agent and receiver are processes of their own, joined by TLS. Frames come at random and do not wait for the
agent. A kill may fall anywhere: into the start of the interpreter, the replay of the journal, the rescue of what the
chip still holds, reception, sealing, sending, also while the link is away. What a dead agent leaves lies in the chip's
4096 bytes of receive memory: the next kill waits until the chip has room for another restart. That is the limit within
which nothing may be lost.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.demo.air import Air, Control
from agent.demo.audit import Verdict, audit
from agent.demo.stage import Stage
from agent.demo.traffic import play
from agent.errors import SpoolError
from agent.spool.reader import SpoolReader
from agent.spool.writer import check

ENDLESS = 1 << 30
LOOK_S = 0.01
LIMIT_S = 300.0
ROOM_BYTES = 1024
"""Unread bytes in the chip above which it is not killed again: what comes during the next start must fit as well."""
EARLY_SHARE, EARLY_S = 0.3, 1.5
"""Share of the kills that fall into the first moments of a life, whatever it does then."""
LATE_MEAN_S = 3.0
"""After that share, how long a life receives before it ends."""
OUTAGE_SHARE = 0.25
"""Share of the lives that begin with the link away."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the loop did, and what came of it.

    Attributes:
        kills: SIGKILLs that hit a running agent.
        while_starting: of these, before the concentrator received.
        while_receiving: of these, after that.
        without_link: of these, while the link was away.
        rate_hz: frames per second on the air, on average.
        most_pending_bytes: in the chip at the moment when it was read again; it holds 4096.
        seconds: the whole run.
        chain_ok: whether everything verifies at the receiver.
        spool_wrong: what does not add up in the spool at the end, one sentence each.
        verdict: what became of every frame.
    """

    kills: int
    while_starting: int
    while_receiving: int
    without_link: int
    rate_hz: float
    most_pending_bytes: int
    seconds: float
    chain_ok: bool
    spool_wrong: tuple[str, ...]
    verdict: Verdict

    @property
    def good(self) -> bool:
        """Whether every frame is where it has to be."""
        found = self.verdict
        whole = found.lost == found.duplicated == 0 < found.heard and found.delivered == found.spooled
        return whole and self.chain_ok and not self.spool_wrong


class Soak:
    """One run over a stage that is set.

    Args:
        stage: the programs, the agent not started.
        kills: how many.
        rate_hz: frames per second.
        seed: of traffic and moments.
        tell: takes a line for a person, now and then.
    """

    def __init__(self, stage: Stage, kills: int, rate_hz: float, seed: int, tell: Callable[[str], None]) -> None:
        self._stage = stage
        self._wanted = kills
        self._rate_hz = rate_hz
        self._chance = random.Random(seed)
        self._tell = tell
        self._control = Control(stage.control_socket)
        self._air = Air(stage.control_socket, play(seed), ENDLESS, rate_hz, seed)
        self._away = False
        self._most_pending = 0
        self._starting = self._receiving = self._without_link = 0

    def run(self) -> Report:
        """Kill until it is enough, let everything drain, and draw up the account."""
        begin = time.monotonic()
        self._stage.start_agent()
        self._until("the concentrator to receive", self._runs)
        self._air.start()
        for number in range(1, self._wanted + 1):
            self._one_life()
            if number % 20 == 0:
                self._tell(f"{number} of {self._wanted} kills, {time.monotonic() - begin:.0f} s")
        self._link(away=False)
        self._until("the agent to listen", self._stage.agent_listens)
        self._air.stop()
        self._until("the air to end", lambda: not self._air.is_alive())
        self._until("the spool to drain", self._drained)
        self._stage.stop_agent()
        return Report(
            kills=self._wanted,
            while_starting=self._starting,
            while_receiving=self._receiving,
            without_link=self._without_link,
            rate_hz=self._rate_hz,
            most_pending_bytes=self._most_pending,
            seconds=round(time.monotonic() - begin, 1),
            chain_ok=bool(self._stage.receiver_status()["ok"]),
            spool_wrong=tuple(check(self._stage.spool)),
            verdict=audit(self._air.log(), self._stage.ledger),
        )

    def close(self) -> None:
        """End the air."""
        self._air.stop()
        self._control.close()

    def _one_life(self) -> None:
        self._link(away=self._chance.random() < OUTAGE_SHARE)
        if self._chance.random() < EARLY_SHARE:
            moment = time.monotonic() + self._chance.uniform(0.0, EARLY_S)
        else:
            self._until("the concentrator to receive", self._runs)
            moment = time.monotonic() + self._chance.expovariate(1 / LATE_MEAN_S)
        self._until("the moment", lambda: time.monotonic() >= moment)
        self._until("room in the chip", lambda: self._pending() < ROOM_BYTES)
        runs = self._runs()
        self._stage.kill_agent()
        self._receiving += runs
        self._starting += not runs
        self._without_link += self._away

    def _link(self, *, away: bool) -> None:
        if away and not self._away:
            self._stage.relay.cut()
        elif self._away and not away:
            self._stage.relay.restore()
        self._away = away

    def _until(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {LIMIT_S:.0f} s for {what}"
            if self._air.failure:
                raise self._air.failure
            self._stage.check()
            self._pending()
            time.sleep(LOOK_S)

    def _runs(self) -> bool:
        return bool(self._control.ask({"cmd": "stats"})["running"])

    def _pending(self) -> int:
        pending = int(self._control.ask({"cmd": "stats"})["pending_bytes"])
        self._most_pending = max(self._most_pending, pending)
        return pending

    def _drained(self) -> bool:
        if self._pending():
            return False
        with suppress(SpoolError), SpoolReader(self._stage.spool) as reader:
            return all(stream.unsealed + stream.sealed == 0 for stream in reader.status().streams)
        return False


def soak(
    folder: Path, *, kills: int, rate_hz: float, seed: int, mqtt: bool = False, tell: Callable[[str], None]
) -> Report:
    """Set a stage in an empty folder, run, and return the report."""
    with Stage(folder, mqtt=mqtt) as stage:
        stage.set()
        loop = Soak(stage, kills, rate_hz, seed, tell)
        try:
            return loop.run()
        finally:
            loop.close()


def main() -> int:
    """Run it as asked for."""
    parser = argparse.ArgumentParser(description="Kill the agent again and again, and audit the whole path.")
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs (200)")
    parser.add_argument("--rate", type=float, default=8.0, help="frames per second (8)")
    parser.add_argument("--seed", type=int, default=1, help="of traffic and moments (1)")
    parser.add_argument("--mqtt", action="store_true", help="batches over mosquitto instead of HTTPS")
    parser.add_argument("--keep", type=Path, help="leave spool, ledger and logs in this empty folder")
    parser.add_argument("--out", type=Path, default=Path("build/soak.json"), help="where the report goes")
    args = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        # by default these would end this process alone, and leave the programs that it has started
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    options = {"kills": args.kills, "rate_hz": args.rate, "seed": args.seed, "mqtt": args.mqtt}
    if args.keep is None:
        with tempfile.TemporaryDirectory(prefix="civigate-soak-") as folder:
            report = soak(Path(folder), tell=print, **options)
    else:
        args.keep.mkdir(parents=True, exist_ok=True)
        report = soak(args.keep.resolve(), tell=print, **options)
    text = json.dumps(asdict(report) | {"good": report.good}, indent=1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text + "\n")
    print(text)
    return 0 if report.good else 4


if __name__ == "__main__":
    sys.exit(main())
