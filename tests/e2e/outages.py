# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Bad backhauls and hard kills, with the whole path as it is: what is delivered, and how soon after the link's return.

    python -m tests.e2e.outages --out build/outages.json
    python -m tests.e2e.outages --mqtt --only "silent 30 s" "lossy"
    python -m tests.e2e.outages --mqtt --only --rounds 100

The gateway lives in a network namespace of its own, joined to the platform by `tests.e2e.link`. The first five
scenarios are those in which the forwarders of the field lose frames: a port that refuses for 5 and 20 seconds, a
silent link for 5, 30 and 120. With `--rounds`, agent, receiver and broker are then killed at random moments, so many
times, some of them while the link is away.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from agent.demo.air import Air, Control
from agent.demo.audit import Verdict, audit
from agent.demo.stage import Stage
from agent.demo.traffic import play
from agent.errors import SpoolError
from agent.spool.reader import SpoolReader
from tests.e2e.link import NEAR, Link, Weather, inside

ENDLESS = 1 << 30
LOOK_S = 0.02
LIMIT_S = 300.0
WARM_FRAMES = 5
STORM_HZ = 8.0
AWAY_SHARE = 0.4
"""Of the kills, those that happen while the link is away."""
ROOM_BYTES = 1024
INSIDE = "CIVIGATE_OUTAGES_INSIDE"
"""Set in the process that has its own network namespace."""


FAIR = Weather()
SILENT = Weather(silent=True)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What the backhaul does.

    Attributes:
        name: for people.
        seconds: how long the platform is out of reach, or the weather lasts.
        refused: the port refuses; otherwise the weather says what happens.
        weather: of the wire meanwhile.
        rate_hz: frames per second; enough for packets that do not fit through a hole.
    """

    name: str
    seconds: float
    refused: bool = False
    weather: Weather = FAIR
    rate_hz: float = 2.0


SCENARIOS = (
    Scenario("refused 5 s", 5, refused=True),
    Scenario("refused 20 s", 20, refused=True),
    Scenario("silent 5 s", 5, weather=SILENT),
    Scenario("silent 30 s", 30, weather=SILENT),
    Scenario("silent 120 s", 120, weather=SILENT),
    Scenario("lossy", 30, weather=Weather(loss=0.3)),
    Scenario("slow", 30, weather=Weather(delay_s=1.0)),
    Scenario("hole", 30, weather=Weather(hole_bytes=1300), rate_hz=50.0),
)
SHORT = (SCENARIOS[0], SCENARIOS[2])


@dataclass(frozen=True, slots=True)
class Episode:
    """One scenario, as it went.

    Attributes:
        scenario: its name.
        heard: frames received by the radio while it lasted, of the city and of others.
        arrived: frames that reached the ledger while it lasted.
        first_delivery_s: from the link's return to the next frame in the ledger.
        all_s: from the link's return until nothing waited.
    """

    scenario: str
    heard: int
    arrived: int
    first_delivery_s: float
    all_s: float

    def __str__(self) -> str:
        return (
            f"{self.scenario:14} {self.heard:5} heard, {self.arrived:5} arrived meanwhile; "
            f"first after {self.first_delivery_s:4.1f} s, all after {self.all_s:4.1f} s"
        )


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run.

    Attributes:
        episodes: in their order.
        kills: SIGKILLs, by program.
        chain_ok: whether everything verifies at the receiver.
        verdict: what became of every frame.
    """

    episodes: tuple[Episode, ...]
    kills: dict[str, int]
    chain_ok: bool
    verdict: Verdict

    @property
    def good(self) -> bool:
        """Whether every frame arrived exactly once."""
        found = self.verdict
        return self.chain_ok and found.lost == found.duplicated == 0 < found.delivered == found.spooled


class Show:
    """One stage with its wire, the agent at the far end, frames on the air."""

    def __init__(self, stage: Stage, link: Link, seed: int) -> None:
        self._stage = stage
        self._link = link
        self._control = Control(stage.control_socket)
        self._air = Air(stage.control_socket, play(seed), ENDLESS, STORM_HZ, seed)
        self._kills: dict[str, int] = {}

    def begin(self) -> None:
        """Start the agent and the air, and wait until frames arrive."""
        self._link.far(self._stage.start_agent)
        self.until("the concentrator to receive", self._runs)
        self._air.start()
        self.until("the first frames to arrive", lambda: self.delivered() >= WARM_FRAMES)

    def play(self, scenario: Scenario) -> Episode:
        """Play one scenario to its end."""
        self._air.at_rate(scenario.rate_hz)
        self._set(scenario)
        heard, arrived = self._air.received, self.delivered()
        self.wait(scenario.seconds)
        heard, arrived = self._air.received - heard, self.delivered() - arrived
        self._set(None)
        returned, owed = time.monotonic(), self.delivered()
        self.until("the first frame after the return", lambda: self.delivered() > owed)
        first_s = time.monotonic() - returned
        self.until("what was heard meanwhile", self._sent)
        return Episode(scenario.name, heard, arrived, round(first_s, 2), round(time.monotonic() - returned, 2))

    def storm(self, rounds: int, victims: Sequence[str], chance: random.Random, tell: Callable[[str], None]) -> None:
        """Kill programs and take the link away at random moments."""
        begin = time.monotonic()
        self._air.at_rate(STORM_HZ)
        for number in range(1, rounds + 1):
            if chance.random() < AWAY_SHARE:
                self._set(chance.choice(SHORT))
            self.wait(chance.expovariate(1 / 2.0))
            self._kill(chance.choice(list(victims)))
            self.wait(chance.expovariate(1 / 2.0))
            self._set(None)
            if number % 10 == 0:
                tell(f"{number} of {rounds} rounds, {time.monotonic() - begin:.0f} s, {self.delivered():,} frames")

    def end(self, episodes: Sequence[Episode]) -> Report:
        """End the air, let everything drain, and draw up the account."""
        self.until("the concentrator to receive", self._runs)
        self._air.stop()
        self.until("the air to end", lambda: not self._air.is_alive())
        self.until("the spool to drain", lambda: self._pending() == 0 and self._sent(all_of_it=True))
        self._stage.stop_agent()
        return Report(
            episodes=tuple(episodes),
            kills=dict(self._kills),
            chain_ok=bool(self._stage.receiver_status()["ok"]),
            verdict=audit(self._air.log(), self._stage.ledger),
        )

    def close(self) -> None:
        """End the air."""
        self._air.stop()
        self._control.close()

    def delivered(self) -> int:
        """Frames in the ledger."""
        with closing(sqlite3.connect(f"file:{self._stage.ledger}?mode=ro", uri=True, timeout=30)) as db:
            return int(db.execute("SELECT count(*) FROM frame").fetchone()[0])

    def wait(self, seconds: float) -> None:
        """Let time go by, and everything live."""
        end = time.monotonic() + seconds
        self.until("time to go by", lambda: time.monotonic() >= end)

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait for a condition while every program lives."""
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {LIMIT_S:.0f} s for {what}"
            if self._air.failure:
                raise self._air.failure
            self._stage.check()
            time.sleep(LOOK_S)

    def _set(self, scenario: Scenario | None) -> None:
        self._link.weather = FAIR if scenario is None else scenario.weather
        if scenario is not None and scenario.refused:
            self._stage.relay.cut()
        elif not self._stage.relay.open:
            self._stage.relay.restore()

    def _kill(self, name: str) -> None:
        if name == "agent":
            self.until("room in the chip", lambda: self._pending() < ROOM_BYTES)
            self._link.far(self._stage.kill_agent)
        elif name == "receiver":
            self._stage.kill_receiver()
        else:
            self._stage.kill_broker()
        self._kills[name] = self._kills.get(name, 0) + 1

    def _runs(self) -> bool:
        return bool(self._control.ask({"cmd": "stats"})["running"])

    def _pending(self) -> int:
        return int(self._control.ask({"cmd": "stats"})["pending_bytes"])

    def _sent(self, *, all_of_it: bool = False) -> bool:
        """Whether no batch waits; with `all_of_it`, no frame for its batch either."""
        with suppress(SpoolError), SpoolReader(self._stage.spool) as reader:
            streams = reader.status().streams
            return all(stream.sealed == 0 and not (all_of_it and stream.unsealed) for stream in streams)
        return False


@contextmanager
def _show(keep: Path | None, *, mqtt: bool, seed: int) -> Iterator[Show]:
    """Set a new stage and begin; only in a network namespace of its own (`inside`)."""
    with ExitStack() as stack:
        if keep is None:
            keep = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cg-")))
        keep.mkdir(parents=True, exist_ok=True)
        link = stack.enter_context(Link(seed))
        stage = stack.enter_context(Stage(keep.resolve(), mqtt=mqtt, address=NEAR))
        stage.set()
        with closing(Show(stage, link, seed)) as show:
            show.begin()
            yield show


def main() -> int:
    """Run it as asked for."""
    parser = argparse.ArgumentParser(description="Bad backhauls and hard kills, with the whole path as it is.")
    parser.add_argument("--only", nargs="*", metavar="NAME", choices=[one.name for one in SCENARIOS], help="of these")
    parser.add_argument("--seconds", type=float, help="how long each scenario lasts, instead of what it says")
    parser.add_argument("--rounds", type=int, default=0, help="kills and outages at random, after the scenarios")
    parser.add_argument("--mqtt", action="store_true", help="batches over mosquitto instead of HTTPS")
    parser.add_argument("--seed", type=int, default=1, help="of traffic and moments (1)")
    parser.add_argument("--keep", type=Path, help="leave spool, ledger and logs in this empty folder")
    parser.add_argument("--out", type=Path, default=Path("build/outages.json"), help="where the report goes")
    args = parser.parse_args()
    if not os.environ.get(INSIDE):
        command = inside(sys.executable, "-m", "tests.e2e.outages", *sys.argv[1:])
        if command is None:
            parser.error("needs unshare (util-linux) and /dev/net/tun")
        os.execvpe(command[0], command, os.environ | {INSIDE: "1"})
    for number in (signal.SIGTERM, signal.SIGHUP):
        # by default these would end this process alone, and leave the programs that it has started
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    chosen = [one for one in SCENARIOS if args.only is None or one.name in args.only]
    victims = ("agent", "receiver", "broker") if args.mqtt else ("agent", "receiver")
    episodes: list[Episode] = []
    with _show(args.keep, mqtt=args.mqtt, seed=args.seed) as show:
        for scenario in chosen:
            episodes.append(show.play(replace(scenario, seconds=args.seconds or scenario.seconds)))
            _say(str(episodes[-1]))
        show.storm(args.rounds, victims, random.Random(args.seed), _say)
        report = show.end(episodes)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(asdict(report) | {"good": report.good}, indent=1) + "\n")
    _say(f"kills {report.kills or 'none'}, chain {'verifies' if report.chain_ok else 'BROKEN'}, {report.verdict}")
    return 0 if report.good else 4


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
