# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""From civigate.toml to an enrolled gateway, across power cuts and weeks without a network.

Each step may be repeated, and is, after an interruption: the copy of the request on the desk says that it is not done.
What there is to know is written back into civigate.toml each time it changes.
"""

from __future__ import annotations

import logging
import random
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent import report
from agent.clock import HostClock
from agent.enrolment.client import NotEnrolledError, Trust
from agent.enrolment.enrolling import enrol
from agent.errors import AgentError, ConfigError
from agent.lorawan import parse_eui
from agent.notify import Notifier
from agent.provisioning import card, checkup, led, network, preparation
from agent.provisioning.outcome import OVER, Outcome, Stage, explain, not_kept, write
from agent.provisioning.preparation import Located, ManyBoardsError, NoConcentratorError
from agent.uplink.machine import LINKED
from agent.uplink.port import LinkError
from drivers.errors import DriverError

if TYPE_CHECKING:
    from agent.config import GatewayConfig
    from agent.provisioning.boot import BootPartition
    from agent.provisioning.desk import Desk
    from agent.provisioning.request import Request

log = logging.getLogger(__name__)

SHORTEST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
"""Between two tries to enrol, and to find a concentrator: a network that returns is used within minutes."""
ONLINE_LIMIT_S = 600.0
"""How long the first signature is looked for closely; then the doctor is asked what is the matter."""
LOOK_S = 2.0
SELDOM_S = 30.0
"""The same afterwards, for as long as it takes."""
SERVICE: Final = "civigate.service"
_LINKED: Final = frozenset(phase.value for phase in LINKED)
_COMMAND_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything is.

    Attributes:
        boot: the partition with civigate.toml.
        desk: the request in work.
        config: gateway.toml.
        root: of the system that is set up.
    """

    boot: BootPartition
    desk: Desk
    config: Path
    root: Path = Path("/")


class Provisioner:
    """Does what civigate.toml asks for.

    Args:
        places: where everything is.
        stop: set by whoever wants it to end.
        longest_pause_s: between two tries.
    """

    def __init__(self, places: Places, stop: threading.Event, *, longest_pause_s: float = LONGEST_PAUSE_S) -> None:
        self._places = places
        self._stop = stop
        self._longest_pause_s = longest_pause_s
        self._clock = HostClock()
        self._notifier = Notifier()
        self._outcome = Outcome(Stage.WORKING, version=metadata.version("civigate"))
        self._published: Outcome | None = None

    def run(self) -> Outcome | None:
        """Work until all is done, nothing can be done, or `stop` is set.

        Returns:
            What came of it; None when there was nothing to do.

        Raises:
            ConfigError: civigate.toml cannot be used; a note beside it says why, nothing was changed.
        """
        taken = self._take()
        if taken is None:
            if self._stop.is_set():
                return self._outcome
            log.info("event=nothing_to_provision")
            self._notifier.ready()
            return None
        asked, new = taken
        log.info("event=provisioning name=%s platform=%s new=%s", asked.provision.name, asked.provision.platform, new)
        self._tell(asked, stage=Stage.WORKING, detail="", next_step="")
        loaded = self._prepare(asked)
        if loaded is None:
            self._resume()
        else:
            self._service("restart")
            self._notifier.ready()
            if self._enrol(asked, loaded):
                self._await_online(asked, loaded)
        if self._outcome.stage in OVER:
            self._places.desk.clear()
        return self._outcome

    def _take(self) -> tuple[Request, bool] | None:
        """Take the request, as often as it takes; None when there is nothing to do, or when interrupted."""
        pauses = _Pauses(self._longest_pause_s)
        while not self._stop.is_set():
            try:
                return self._places.desk.take(self._places.boot)
            except ConfigError as error:
                log.error("event=request_unfit problem=%s; %s [%s]", error, error.hint, error.code)  # noqa: TRY400 - no defect
                self._leave_note(explain(error))
                led.show(None)
                raise
            except OSError as error:
                log.warning("event=request_not_kept problem=%s", error)
                before = self._outcome
                self._outcome = replace(before, stage=Stage.CARD, detail=str(error), next_step=card.NEXT_STEP)
                if self._outcome != before:
                    self._notifier.status(f"{Stage.CARD.value}: {error}")
                    self._leave_note(not_kept(self._outcome))
                    led.show(Stage.CARD)
            self._resume()
            pauses.wait(self._stop)
        return None

    def _prepare(self, asked: Request) -> GatewayConfig | None:
        """Do what needs no network, as often as it takes; None when it cannot be done, or was interrupted."""
        pauses = _Pauses(self._longest_pause_s)
        while not self._stop.is_set():
            try:
                return self._prepared(asked)
            except (OSError, AgentError, DriverError) as error:
                if not card.refuses(error):
                    raise
                log.warning("event=not_prepared problem=%s", error)
                self._tell(asked, stage=Stage.CARD, detail=str(error), next_step=card.next_step(error))
            self._resume()
            pauses.wait(self._stop)
        return None

    def _prepared(self, asked: Request) -> GatewayConfig | None:
        """Do what needs no network; None when it cannot be done, or was interrupted.

        Raises:
            OSError, AgentError, DriverError: the card does not take a file.
        """
        if asked.network is not None:
            for problem in network.apply(network.plan(asked.network, self._places.root), self._places.root):
                log.warning("event=network_not_told problem=%s", problem)
        located = self._locate(asked)
        if located is None:
            return None
        try:
            loaded = preparation.configure(self._places.config, asked.provision, located)
            source = asked.provision.firmware
            lacking = preparation.bring_firmware(loaded, None if source is None else self._places.boot.folder / source)
            key = preparation.make_key(loaded)
        except (AgentError, DriverError) as error:
            if card.refuses(error):
                raise
            self._tell(asked, stage=Stage.REFUSED, detail=str(error), next_step=error.hint)
            return None
        firmware = f"missing for {', '.join(lacking)}" if lacking else "present"
        self._tell(
            asked,
            stage=Stage.WORKING,
            detail="",
            next_step="",
            eui=located.eui,
            chip=located.chip,
            bus=str(located.bus),
            boards=(located.board,),
            firmware=firmware,
            key=key.hex(),
        )
        return loaded

    def _locate(self, asked: Request) -> Located | None:
        """Find the concentrator, as long as it takes: a USB one may be plugged in later."""
        pauses = _Pauses(self._longest_pause_s)
        while not self._stop.is_set():
            # the agent must not own the chip meanwhile
            self._service("stop")
            try:
                return preparation.locate(asked.provision)
            except ManyBoardsError as error:
                found = error.found
                self._tell(
                    asked,
                    stage=Stage.WHICH_BOARD,
                    detail=str(error),
                    next_step=error.hint,
                    chip=found.chip or "",
                    bus=str(error.bus),
                    boards=found.boards,
                )
                return None
            except NoConcentratorError as error:
                self._tell(asked, stage=Stage.NO_CONCENTRATOR, detail=error.what, next_step=error.hint)
            except (AgentError, DriverError) as error:
                self._tell(asked, stage=Stage.REFUSED, detail=str(error), next_step=error.hint)
                return None
            self._resume()
            pauses.wait(self._stop)
        return None

    def _resume(self) -> None:
        """Let an agent that was set up before go on with what it has."""
        if self._places.config.exists():
            self._service("start")
        self._notifier.ready()

    def _service(self, verb: str) -> bool:
        """Tell the agent's service; not after `stop`: whoever removes the package has stopped both."""
        return not self._stop.is_set() and _systemctl(verb, SERVICE)

    def _enrol(self, asked: Request, loaded: GatewayConfig) -> bool:
        """Enrol, as long as it takes; False when the platform says no, or when interrupted."""
        section = asked.provision
        trust = Trust(self._places.desk.authorities(asked), section.fingerprint)
        eui = parse_eui(self._outcome.eui) if loaded.gateway.eui is None else loaded.gateway.eui
        pauses = _Pauses(self._longest_pause_s)
        while not self._stop.is_set():
            wait_s = 0.0
            try:
                done = enrol(self._places.config, section.platform, claim=section.claim or "", trust=trust, eui=eui)
            except (LinkError, NotEnrolledError) as error:
                if not error.retryable:
                    self._tell(asked, stage=Stage.REFUSED, detail=error.what, next_step=error.hint)
                    return False
                wait_s = error.wait_s if isinstance(error, LinkError) else 0.0
                self._tell(asked, stage=Stage.WAITING, detail=str(error), next_step=error.hint)
            except (AgentError, OSError) as error:
                if isinstance(error, AgentError) and not card.refuses(error):
                    self._tell(asked, stage=Stage.REFUSED, detail=str(error), next_step=error.hint)
                    return False
                log.warning("event=not_enrolled problem=%s", error)
                self._tell(asked, stage=Stage.CARD, detail=str(error), next_step=card.next_step(error))
            else:
                log.info("event=enrolled destination=%s", done.destination)
                self._tell(asked, stage=Stage.ENROLLED, detail="", next_step="", destination=done.destination)
                return True
            pauses.wait(self._stop, wait_s)
        return False

    def _await_online(self, asked: Request, loaded: GatewayConfig) -> None:
        """Start the agent anew, and look at what it says of itself until the platform has answered it."""
        before = self._newest(loaded)
        restarted = self._service("restart")
        old_pid = before.pid if before is not None and restarted else None
        waited_s = 0.0
        while not self._stop.is_set():
            said = self._newest(loaded)
            if said is not None and said.pid != old_pid:
                if said.problem == "" and said.radio == "receiving":
                    silent = "" if said.receipts else "the platform signs when the first frames come"
                    self._tell(asked, stage=Stage.ONLINE, detail=silent, next_step="", radio=said.radio)
                    break
                detail = said.problem or f"the radio: {said.radio}"
                step = "'civigate doctor' on the gateway says what to do; it goes on trying by itself"
                self._tell(asked, stage=Stage.ENROLLED, detail=detail, next_step=step, radio=said.radio)
            pause_s = LOOK_S if waited_s < ONLINE_LIMIT_S else SELDOM_S
            self._stop.wait(pause_s)
            if waited_s < ONLINE_LIMIT_S <= waited_s + pause_s:
                self._check_up(asked)
            waited_s += pause_s
        self._check_up(asked)

    def _check_up(self, asked: Request) -> None:
        """Let the doctor look, and leave what it says on the partition."""
        if self._stop.is_set():
            return
        found = checkup.look(self._places.config, self._clock)
        self._tell(asked, doctor=found.verdict, problems=found.problems)
        if found.page is not None:
            try:
                self._places.boot.leave_sheet(found.page)
            except OSError as error:
                log.warning("event=sheet_not_written where=%s problem=%s", self._places.boot.folder, error)

    def _newest(self, loaded: GatewayConfig) -> _Said | None:
        """Return what the running agent says of itself; None when it is silent."""
        try:
            found = report.read(loaded.gateway.runtime_dir, self._clock.boot_id, self._clock.boottime_us())
            if found is None or not found.current:
                return None
            mine = [one for one in found.said["destinations"] if one["destination"] == self._outcome.destination]
            if not mine or found.said["radio"] is None:
                return None
            radio = found.said["radio"]
            state = str(radio["state"]) if not radio["detail"] else f"{radio['state']}: {radio['detail']}"
            problem = "" if mine[0]["phase"] in _LINKED else str(mine[0]["problem"] or mine[0]["phase"])
            shown = "receiving" if radio["state"] == "receiving" else state
            return _Said(int(found.said["pid"]), problem, shown, int(mine[0]["counts"].get("receipts", 0)))
        except (AgentError, LookupError, TypeError, ValueError):
            return None

    def _tell(self, asked: Request, **known: object) -> None:
        """Take what is known now, and write it into civigate.toml if it is news."""
        self._outcome = replace(self._outcome, **known)  # type: ignore[arg-type] # names and types of Outcome
        if self._outcome == self._published:
            return
        self._published = self._outcome
        stage, detail = self._outcome.stage.value, self._outcome.detail
        log.info("event=provisioning_stage stage=%s detail=%s", stage, detail)
        self._notifier.status(f"{stage}: {detail}" if detail else stage)
        led.show(self._outcome.stage)
        try:
            self._places.boot.publish(write(asked, replace(self._outcome, date=self._date())))
        except OSError as error:
            log.warning("event=outcome_not_written where=%s problem=%s", self._places.boot.folder, error)

    def _date(self) -> str:
        with suppress(AgentError):
            anchor = self._clock.anchor()
            if anchor is not None:
                return datetime.fromtimestamp(anchor.utc_us / 1e6, UTC).isoformat(timespec="seconds")
        return ""

    def _leave_note(self, text: str) -> None:
        try:
            self._places.boot.note(text)
        except OSError as error:
            log.warning("event=note_not_written where=%s problem=%s", self._places.boot.folder, error)


@dataclass(frozen=True, slots=True)
class _Said:
    """What the agent says of itself.

    Attributes:
        pid: of its process.
        problem: what keeps it from the platform; empty for nothing.
        radio: "receiving", or its state and why.
        receipts: signed by the platform, since its start.
    """

    pid: int
    problem: str
    radio: str
    receipts: int


class _Pauses:
    """Ever longer pauses, each a little random: fifty gateways that start together do not come together."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._next_s = min(SHORTEST_PAUSE_S, longest_s)

    def wait(self, stop: threading.Event, at_least_s: float = 0.0) -> None:
        pause_s = self._next_s * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        self._next_s = min(self._next_s * 1.5, self._longest_s)
        stop.wait(max(pause_s, at_least_s))


def _systemctl(verb: str, unit: str) -> bool:
    """Tell the service manager; a stop is waited for, a start waits for us. False where none does it."""
    if not Path("/run/systemd/system").is_dir():
        return False
    try:
        done = subprocess.run(
            ["systemctl", verb, unit] if verb == "stop" else ["systemctl", "--no-block", verb, unit],
            capture_output=True,
            text=True,
            timeout=_COMMAND_LIMIT_S,
            check=False,
        )
        problem = "" if done.returncode == 0 else done.stderr.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        log.warning("event=service_not_told verb=%s unit=%s problem=%s", verb, unit, problem)
    return not problem
