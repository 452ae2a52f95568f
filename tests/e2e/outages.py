# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Bad backhauls and hard kills, with the whole path as it is: what is delivered, and how soon after the link's return.

    python -m tests.e2e.outages --out build/outages.json
    python -m tests.e2e.outages --mqtt --only "silent 30 s" "lossy"
    python -m tests.e2e.outages --mqtt --only --rounds 100

The gateway lives in a network namespace of its own, joined to the platform by `tests.e2e.link`; what happens to it is
in `tests.e2e.scenarios`. Each trouble has to be survived, named in status, and borne without hammering anybody. With
`--rounds`, agent, receiver and broker are then killed at random moments, so many times, some of them while the link is
away.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from agent.demo.air import Air, Control
from agent.demo.audit import Verdict, audit
from agent.demo.stage import Stage
from agent.demo.traffic import play
from agent.errors import SpoolError
from agent.report import FILE_NAME
from agent.spool.reader import SpoolReader
from tests.e2e.ledgers import Ledger, ledger_of
from tests.e2e.link import FAR, NEAR, Link, inside
from tests.e2e.names import HOST, Names
from tests.e2e.obstacles import Front
from tests.e2e.scenarios import SCENARIOS, Saying, Scenario, Scene

ENDLESS = 1 << 30
LOOK_S = 0.02
LIMIT_S = 300.0
WARM_FRAMES = 5
STORM_HZ = 8.0
AWAY_SHARE = 0.4
"""Of the kills, those that happen while the link is away."""
ROOM_BYTES = 1024
MOST_TRIES_AT_ONCE, MOST_TRIES_HZ = 10, 1.0
"""How often a gateway may try to reach a platform that it cannot: so often at first, then per second on average."""
INSIDE = "CIVIGATE_OUTAGES_INSIDE"
"""Set in the process that has its own network namespace."""
SHORT_CONNECT_S, SHORT_ANSWER_S = 2, 8
STORMS = ("refused 5 s", "silent 5 s")


@dataclass(frozen=True, slots=True)
class Episode:
    """One scenario, as it went.

    Attributes:
        scenario: its name.
        heard: frames received by the radio while it lasted, of the city and of others.
        arrived: frames that reached the ledger while it lasted.
        first_delivery_s: from the link's return to the next frame in the ledger.
        all_s: from the link's return until nothing waited.
        lasted_s: how long the trouble lasted.
        tries: connections that came to the front, or failures that the agent counted, whichever is more.
        said: what status said of it, "" where nothing was expected.
    """

    scenario: str
    heard: int
    arrived: int
    first_delivery_s: float
    all_s: float
    lasted_s: float
    tries: int
    said: str

    @property
    def calm(self) -> bool:
        """Whether the agent tried no more often than is kind."""
        return self.tries <= MOST_TRIES_AT_ONCE + MOST_TRIES_HZ * self.lasted_s

    def __str__(self) -> str:
        return (
            f"{self.scenario:20} {self.heard:5} heard, {self.arrived:5} arrived meanwhile; "
            f"first after {self.first_delivery_s:4.1f} s, all after {self.all_s:4.1f} s; "
            f"{self.tries} tries in {self.lasted_s:.0f} s\n    {self.said or '-'}"
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
        """Whether every frame arrived exactly once, and nobody was hammered."""
        found = self.verdict
        calm = all(episode.calm for episode in self.episodes)
        return calm and self.chain_ok and found.lost == found.duplicated == 0 < found.delivered == found.spooled


class Show:
    """One stage with its wire and its front, the agent at the far end, frames on the air.

    Args:
        scene: everything that is there.
        ledger: of its receiver.
        transport: "https" or "mqtt".
        seed: of traffic.
    """

    def __init__(self, scene: Scene, ledger: Ledger, transport: str, seed: int) -> None:
        self._scene = scene
        self._ledger = ledger
        self._stage = scene.stage
        self._transport = transport
        self._control = Control(self._stage.control_socket)
        self._air = Air(self._stage.control_socket, play(seed), ENDLESS, STORM_HZ, seed)
        self._kills: dict[str, int] = {}

    def begin(self) -> None:
        """Start the agent and the air, and wait until frames arrive."""
        self._scene.link.far(self._stage.start_agent)
        self.until("the concentrator to receive", self._runs)
        self._air.start()
        self.until("the first frames to arrive", lambda: self.delivered() >= WARM_FRAMES)

    def play(self, scenario: Scenario) -> Episode:
        """Play one scenario to its end."""
        self._air.at_rate(scenario.rate_hz)
        wanted = scenario.says[self._transport]
        failures, accepted = self._failures(), self._scene.front.accepted
        heard, arrived = self._air.received, self.delivered()
        begin = time.monotonic()
        with scenario.trouble(self._scene):
            self.wait(scenario.seconds)
            self.until("a frame to be heard meanwhile", lambda: self._air.received > heard)
            said = "" if wanted is None else self._hear(scenario.name, wanted)
            if scenario.passes:
                before = arrived
                self.until("frames to arrive all the same", lambda: self.delivered() > before)
            heard, arrived = self._air.received - heard, self.delivered() - arrived
            tries = max(self._failures() - failures, self._scene.front.accepted - accepted)
            lasted_s = time.monotonic() - begin
            owed = self.delivered()
        returned = time.monotonic()
        self.until("the first frame after the return", lambda: self.delivered() > owed)
        first_s = time.monotonic() - returned
        self.until("what was heard meanwhile", self._sent)
        all_s = time.monotonic() - returned
        return Episode(
            scenario.name, heard, arrived, round(first_s, 2), round(all_s, 2), round(lasted_s, 1), tries, said
        )

    def _hear(self, name: str, wanted: Saying) -> str:
        """Wait until status names the trouble; return what it says."""
        heard: list[str] = []

        def says() -> bool:
            status = self._status()
            said = str(status.get("problem" if wanted.code else "notice") or "")
            heard[:] = [said]
            return wanted.code in said and wanted.words in said

        try:
            self.until(f"status to name {name}", says)
        except AssertionError as error:
            raise AssertionError(f"{error}: {wanted} is not in {heard}") from None
        return heard[0]

    def _status(self) -> dict[str, Any]:
        """What the agent says of its destination."""
        with suppress(OSError, ValueError, LookupError):
            said: dict[str, Any] = json.loads((self._stage.runtime_dir / FILE_NAME).read_bytes())
            found: dict[str, Any] = said["destinations"][0]
            return found
        return {}

    def _failures(self) -> int:
        return int(self._status().get("counts", {}).get("failures", 0))

    def storm(self, rounds: int, victims: Sequence[str], chance: random.Random, tell: Callable[[str], None]) -> None:
        """Kill programs and take the link away at random moments."""
        begin = time.monotonic()
        self._air.at_rate(STORM_HZ)
        away = [one for one in SCENARIOS if one.name in STORMS]
        for number in range(1, rounds + 1):
            with chance.choice(away).trouble(self._scene) if chance.random() < AWAY_SHARE else nullcontext():
                self.wait(chance.expovariate(1 / 2.0))
                self._kill(chance.choice(list(victims)))
                self.wait(chance.expovariate(1 / 2.0))
            if number % 10 == 0:
                tell(f"{number} of {rounds} rounds, {time.monotonic() - begin:.0f} s, {self.delivered():,} frames")

    def end(self, episodes: Sequence[Episode]) -> Report:
        """End the air, let everything drain, and draw up the account."""
        self.until("the agent to listen", self._stage.agent_listens)
        self._air.stop()
        self.until("the air to end", lambda: not self._air.is_alive())
        self.until("the spool to drain", lambda: self._pending() == 0 and self._sent(all_of_it=True))
        self._stage.stop_agent()
        return Report(
            episodes=tuple(episodes),
            kills=dict(self._kills),
            chain_ok=bool(self._stage.receiver_status()["ok"]),
            verdict=audit(self._air.log(), self._ledger.file()),
        )

    def close(self) -> None:
        """End the air."""
        self._air.stop()
        self._control.close()

    def delivered(self) -> int:
        """Frames in the ledger."""
        return self._ledger.frames()

    def wait(self, seconds: float) -> None:
        """Let time go by, and everything live."""
        end = time.monotonic() + seconds
        self.until("time to go by", lambda: time.monotonic() >= end)

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait for a condition while every program lives."""
        until(self._check, what, condition)

    def _check(self) -> None:
        if self._air.failure:
            raise self._air.failure
        self._stage.check()

    def _kill(self, name: str) -> None:
        if name == "agent":
            self.until("room in the chip", lambda: self._pending() < ROOM_BYTES)
            self._scene.link.far(self._stage.kill_agent)
        elif name == "receiver":
            self._stage.kill_receiver()
        elif name == "postgres":
            self._ledger.kill()
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


def until(check: Callable[[], None], what: str, condition: Callable[[], bool]) -> None:
    """Wait for a condition while a check raises nothing."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {LIMIT_S:.0f} s for {what}"
        check()
        time.sleep(LOOK_S)


@contextmanager
def _show(keep: Path | None, *, mqtt: bool, postgres: bool, short: bool, seed: int) -> Iterator[Show]:
    """Set a new stage and begin; only in a network namespace of its own (`inside`)."""
    with ExitStack() as stack:
        if keep is None:
            keep = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cg-")))
        keep.mkdir(parents=True, exist_ok=True)
        folder = keep.resolve()
        link = stack.enter_context(Link(seed))
        names = stack.enter_context(Names(folder, NEAR, NEAR, FAR))
        stage = stack.enter_context(Stage(folder, mqtt=mqtt, address=NEAR, host=HOST))
        stage.set()
        front = Front(stage.relay.port, NEAR)
        stack.callback(front.cut)
        _configure(stage.gateway_toml, {f":{stage.relay.port}": f":{front.port}"}, short=short)
        scene = Scene(folder, stage, link, front, names, short, partial(until, stage.check))
        ledger = stack.enter_context(ledger_of(stage, postgres=postgres))
        with closing(Show(scene, ledger, "mqtt" if mqtt else "https", seed)) as show:
            show.begin()
            yield show


def _configure(file: Path, changes: dict[str, str], *, short: bool) -> None:
    text = file.read_text()
    if short:
        limits = f"connect_timeout_s = {SHORT_CONNECT_S}\nanswer_timeout_s = {SHORT_ANSWER_S}"
        changes = changes | {'name = "city"': f'name = "city"\n{limits}'}
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text)


def main() -> int:
    """Run it as asked for."""
    parser = argparse.ArgumentParser(description="Bad backhauls and hard kills, with the whole path as it is.")
    parser.add_argument("--only", nargs="*", metavar="NAME", choices=[one.name for one in SCENARIOS], help="of these")
    parser.add_argument("--seconds", type=float, help="how long each scenario lasts, instead of what it says")
    parser.add_argument("--short", action="store_true", help="shorter time-outs, where a scenario waits for them")
    parser.add_argument("--rounds", type=int, default=0, help="kills and outages at random, after the scenarios")
    parser.add_argument("--mqtt", action="store_true", help="batches over mosquitto instead of HTTPS")
    parser.add_argument("--postgres", action="store_true", help="the ledger on a PostgreSQL server, a victim as well")
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
    transport = "mqtt" if args.mqtt else "https"
    chosen = [one for one in SCENARIOS if transport in one.says and (args.only is None or one.name in args.only)]
    victims = ["agent", "receiver", *(["broker"] if args.mqtt else []), *(["postgres"] if args.postgres else [])]
    episodes: list[Episode] = []
    with _show(args.keep, mqtt=args.mqtt, postgres=args.postgres, short=args.short, seed=args.seed) as show:
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
