# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What every check may know before it looks: the configuration, whether an agent runs, and what that says of itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Final

from agent.errors import AgentError

if TYPE_CHECKING:
    from agent.clock import HostClock
    from agent.config import GatewayConfig
    from agent.report import Report
    from agent.spool.reader import SpoolStatus

SERVICE_USER: Final = "civigate"
"""Who the agent is on an installed gateway."""
FORWARDERS: Final = {
    "lora_pkt_fwd": "lora_pkt_fwd",
    "mp_pkt_fwd": "mp_pkt_fwd",
    "poly_pkt_fwd": "poly_pkt_fwd",
    "chirpstack-conc": "chirpstack-concentratord",
    "station": "basicstation",
}
"""Other programs that drive a concentrator, as the kernel names them (15 characters), and their usual services."""

LISTEN_S: Final = 1.0
PULSES_LISTEN_S: Final = 3.4
"""The concentrator is asked once a second, the first answer says nothing, and two pulses tell the crystal's error."""


class AgentState(StrEnum):
    """Whether an agent runs with this configuration."""

    RUNNING = "running"
    STOPPED = "stopped"
    DIED = "died"
    """Its last report is there, it is not."""
    HANGS = "hangs"
    """It is there, but says nothing any more."""
    MUTE = "mute"
    """It is there, and has not said anything yet."""
    UNKNOWN = "unknown"
    """This user may not know, or there is no configuration that says where to look."""


@dataclass(frozen=True, slots=True)
class Context:
    """What is known before anything is looked at.

    Attributes:
        root: of the file system that the host's files are read from.
        path: of the configuration.
        config: what it says; None when it cannot be used.
        problem: why not; None when it can.
        clock: of this host.
        agent: whether one runs.
        report: the agent's last one; None when there is none that this user may read.
        forwarder: another program that drives a concentrator, by the name of its service; None for none.
        may_start: whether the concentrator may be reset and started, if no agent uses it.
        listen_s: how long to listen then.
        spool_status: what the spool said when it was read, if it was: a large one takes its time.
        stop: set when nobody waits for the findings any more: what is running is to be left in order, soon.
    """

    root: Path
    path: Path
    config: GatewayConfig | None
    problem: AgentError | None
    clock: HostClock
    agent: AgentState
    report: Report | None
    forwarder: str | None = None
    may_start: bool = True
    listen_s: float = LISTEN_S
    spool_status: list[SpoolStatus] = field(default_factory=list)
    stop: Event = field(default_factory=Event)

    @property
    def hands_off(self) -> str:
        """Why the concentrator is not to be touched; empty when it may be."""
        if self.agent is AgentState.UNKNOWN:
            return "whether an agent uses the concentrator is not known to this user (sudo civigate doctor knows)"
        if self.agent not in {AgentState.STOPPED, AgentState.DIED}:
            return "an agent uses the concentrator and says nothing of it"
        if self.forwarder is not None:
            return f"{self.forwarder} uses the concentrator"
        return "" if self.may_start else "not asked to start the concentrator (--hands-off)"

    def said(self, part: str) -> Mapping[str, Any] | None:
        """Return a part of the running agent's report; None without a running agent, or where it says nothing of it."""
        if self.agent is not AgentState.RUNNING or self.report is None:
            return None
        told = self.report.said.get(part)
        return told if isinstance(told, Mapping) else None

    @property
    def uptime_s(self) -> int | None:
        """How long the agent runs; None when it does not, or does not say."""
        if self.agent is not AgentState.RUNNING or self.report is None:
            return None
        told = self.report.said.get("uptime_s")
        return told if isinstance(told, int) else None

    @property
    def installed(self) -> bool:
        """Whether the agent is a service with a user of its own."""
        return has_user(SERVICE_USER)

    @property
    def who(self) -> str:
        """The user whose rights matter: the service's where it is installed, else the one who asks."""
        return SERVICE_USER if self.installed else user_name()


def gather(path: Path, clock: HostClock, *, may_start: bool, root: Path = Path("/")) -> Context:
    """Find out what is known before anything is looked at; takes no longer than reading some files."""
    from agent import config as configuration

    config: GatewayConfig | None = None
    problem: AgentError | None = None
    try:
        config = configuration.load(path)
    except AgentError as error:
        problem = error
    state, report = (AgentState.UNKNOWN, None) if config is None else _agent(config, path, clock)
    with_pulses = config is not None and config.gnss.device is not None
    listen_s = PULSES_LISTEN_S if with_pulses else LISTEN_S
    return Context(root, path, config, problem, clock, state, report, _forwarder(root), may_start, listen_s)


def user_name() -> str:
    """Return who asks."""
    import pwd

    with suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return str(os.geteuid())


def has_user(name: str) -> bool:
    """Say whether there is such a user."""
    import pwd

    with suppress(KeyError):
        pwd.getpwnam(name)
        return True
    return False


def _agent(config: GatewayConfig, path: Path, clock: HostClock) -> tuple[AgentState, Report | None]:
    from agent import report as reports

    folder = config.gateway.runtime_dir
    try:
        newest = reports.read(folder, clock.boot_id, clock.boottime_us())
    except AgentError as error:
        cause = error.__cause__
        if isinstance(cause, PermissionError):
            return AgentState.UNKNOWN, None
        newest = None
    if newest is not None and newest.current:
        return AgentState.RUNNING, newest
    if newest is not None and newest.alive:
        return AgentState.HANGS, newest
    if _writes(config.spool_path) or _runs(path):
        return AgentState.MUTE, newest
    return (AgentState.STOPPED if newest is None or newest.age_s is None else AgentState.DIED), newest


def _writes(spool: Path) -> bool:
    """Say whether a process holds the spool's lock; by the kernel's list, since trying it might get into its way."""
    with suppress(OSError):
        lock = spool.with_name(spool.name + ".lock").stat()
        name = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
        return any(name in line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines())
    return False


def _runs(path: Path) -> bool:
    """Say whether a process runs `civigate run` with this configuration."""
    with suppress(OSError):
        wanted = os.fsencode(path.resolve())
        return any(
            b"run" in words
            and any(word == wanted for word in words)
            and any(b"civigate" in word or b"agent.cli" in word for word in words)
            for words in _commands()
        )
    return False


def _commands() -> Iterator[list[bytes]]:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield entry.read_bytes().split(b"\0")


def _forwarder(root: Path) -> str | None:
    for entry in (root / "proc").glob("[0-9]*/comm"):
        with suppress(OSError):
            name = entry.read_text(encoding="utf-8", errors="replace").strip()
            if name in FORWARDERS:
                return FORWARDERS[name]
    return None
