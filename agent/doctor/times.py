# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Does the gateway know the time: from satellites, from the network, or not at all?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from agent.doctor import host
from agent.doctor.causes import found, of_error
from agent.doctor.finding import Finding, Value, ok, skipped
from agent.doctor.wording import span
from agent.errors import AgentError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.doctor.context import Context

DAEMONS: Final = {
    "systemd-timesyn": "systemd-timesyncd",
    "chronyd": "chrony",
    "ntpd": "ntpd",
    "ntpsec": "ntpsec",
    "openntpd": "openntpd",
    "ptp4l": "ptp4l",
    "phc2sys": "phc2sys",
}
"""Programs that keep a clock, as the kernel names them (15 characters)."""
LISTEN_S: Final = 7.0
"""Two rates of a receiver."""
NO_FIX_S: Final = 3.0
"""What a receiver that speaks has said by then."""
FIRST_PULSE_S = 6.0
PAUSE_S: Final = 0.5
"""The agent says something new every two seconds, and latches are looked at once a second."""
STALE_PULSE_S: Final = 5.0
"""Pulses come every second."""
SETTLES_S: Final = 120.0
CRYSTAL_LIMIT_PPB: Final = 10_000


def clock(context: Context) -> Iterator[Finding]:
    """Say whether the host's clock can be believed, and who keeps it."""
    from agent.trusted_time import MADE

    now = datetime.fromtimestamp(time.time(), UTC)
    said = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    daemon = _daemon(context.root)
    try:
        anchor = context.clock.anchor()
    except AgentError as error:
        yield of_error("clock", error)
        return
    floor = max([MADE, *_floors(context)])
    if now < floor:
        evidence = f"{said}, but it is {floor:%Y-%m-%d %H:%M} at least"
        yield found("clock-impossible", "clock", evidence, {"synchronised": anchor is not None})
    elif anchor is not None:
        bound_ms = anchor.uncertainty_us / 1000
        keeper = f", kept by {daemon}" if daemon else ""
        values: dict[str, Value] = {"synchronised": True, "uncertainty_ms": round(bound_ms, 1)}
        yield ok("clock", f"{said}, right to {bound_ms:,.0f} ms{keeper}", values)
    elif (context.said("gnss") or {}).get("time_age_s") is not None:
        yield ok("clock", f"{said}, free-running; frames have their time from GNSS", {"synchronised": False})
    elif daemon is None:
        yield found("clock-unkept", "clock", f"{said}, free-running; no program keeps it", {"synchronised": False})
    else:
        yield found("clock-free", "clock", f"{said}, free-running; {daemon} has no time yet", {"synchronised": False})


def _floors(context: Context) -> Iterator[datetime]:
    """Yield the latest moments that platforms have signed, as far as they were kept."""
    from agent.enrolment.enrolling import folder_of
    from agent.trusted_time import FILE_NAME, LATEST_BELIEVED

    if context.config is None:
        return
    for destination in context.config.destination:
        folder = folder_of(context.config, destination.name)
        kept_us = host.number(folder / FILE_NAME)
        if kept_us is not None and kept_us <= LATEST_BELIEVED.timestamp() * 1e6:  # else it is damaged
            yield datetime.fromtimestamp(max(0, kept_us) / 1e6, UTC)


def _daemon(root: Path) -> str | None:
    names = {host.text(comm) for comm in (root / "proc").glob("[0-9]*/comm")}
    return next((DAEMONS[name] for name in sorted(filter(None, names)) if name in DAEMONS), None)


def gnss(context: Context) -> Iterator[Finding]:
    """Say how the GNSS receiver is, and its pulse."""
    device = None if context.config is None else context.config.gnss.device
    if device is None:
        if context.config is not None:
            yield skipped("gnss", "no receiver in [gnss]")
        return
    said = context.said("gnss")
    if said is not None:
        yield from _asked(context, _with_pulse(context, said))
        return
    if context.hands_off and (context.agent.value != "stopped" or context.forwarder is not None):
        yield skipped("gnss", f"not listened to: {context.hands_off}")
        return
    try:
        yield _receiver(_listen(context), device)
    except ImportError as error:
        yield found("gnss-library", "gnss", str(error))


def _with_pulse(context: Context, said: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the agent says; a little later where it knows of no pulse yet, as just after a start of the chip."""
    from agent import report

    assert context.config is not None
    deadline = time.monotonic() + FIRST_PULSE_S
    while said.get("pulse_age_s") is None and (said.get("receiver") or {}).get("state") == "fix":
        if time.monotonic() >= deadline or context.stop.wait(PAUSE_S):
            break
        try:
            newest = report.read(context.config.gateway.runtime_dir, context.clock.boot_id, context.clock.boottime_us())
        except AgentError:
            break
        told = None if newest is None or not newest.current else newest.said.get("gnss")
        if not isinstance(told, Mapping):
            break
        said = told
    return said


def _asked(context: Context, said: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge what the running agent says."""
    receiver = said.get("receiver") or {}
    assert context.config is not None
    yield _receiver(receiver, context.config.gnss.device)
    if receiver.get("state") != "fix":
        return
    age_s, drift = said.get("pulse_age_s"), said.get("drift_ppb")
    values: dict[str, Value] = {"pulse_age_s": age_s, "drift_ppb": drift, "time_age_s": said.get("time_age_s")}
    drifts = "" if drift is None else f"; the crystal is {drift / 1000:+.1f} ppm off"
    receives = (context.said("radio") or {}).get("state") == "receiving"
    if not receives:
        yield skipped("pulse", "the concentrator, which latches the pulses, does not run")
    elif age_s is None:
        yield found("no-pulse", "pulse", "the concentrator has never latched a pulse", values)
    elif age_s > STALE_PULSE_S:
        yield found("stale-pulse", "pulse", f"the last pulse was {span(age_s)} ago", values)
    elif said.get("disputed"):
        yield found("gnss-disputed", "pulse", "the host's synchronised clock contradicts the receiver", values)
    elif not said.get("settled") and (context.uptime_s or 0) > SETTLES_S:
        evidence = f"pulses come, but after {span(context.uptime_s or 0)} none has its second"
        yield found("gnss-late", "pulse", evidence, values)
    elif drift is not None and abs(drift) > CRYSTAL_LIMIT_PPB:
        yield found("crystal", "pulse", f"pulses come every second{drifts}", values)
    else:
        yield ok("pulse", f"pulses come every second{drifts}", values)


def _receiver(receiver: Mapping[str, Any], device: object) -> Finding:
    """Judge a receiver by its status."""
    state, detail = str(receiver.get("state")), str(receiver.get("detail") or "")
    sight = receiver.get("sight") or {}
    values: dict[str, Value] = {"state": state, "satellites": sight.get("satellites")}
    seen = f"{sight.get('satellites') or 0} satellites"
    match state:
        case "fix":
            at = ""
            if sight.get("latitude_deg") is not None:
                at = f" at {sight['latitude_deg']:.5f}, {sight['longitude_deg']:.5f}"
                values |= {"latitude_deg": sight["latitude_deg"], "longitude_deg": sight["longitude_deg"]}
            return ok("gnss", f"fix with {seen}{at}, {receiver.get('baud')} baud", values)
        case "no_fix":
            return found("gnss-no-fix", "gnss", f"{device}: no fix, {seen}", values)
        case "silent":
            return found("gnss-mute", "gnss", f"{device}: {detail or 'nothing that can be understood'}", values)
        case _:
            return found("gnss-absent", "gnss", detail or f"{device} cannot be opened", values)


def _listen(context: Context) -> Mapping[str, Any]:
    """Listen to the receiver until it has a fix, or for a moment."""
    from functools import partial

    from drivers.gnss.receiver import Receiver, ReceiverState
    from drivers.linux.clock import SystemClock
    from drivers.linux.tty import TtyPort

    assert context.config is not None
    section = context.config.gnss
    receiver = Receiver(partial(TtyPort, str(section.device)), SystemClock(), baud=section.baud)
    begin = time.monotonic()
    marks = 0
    try:
        while (listened := time.monotonic() - begin) < LISTEN_S and not marks:
            marks += len(receiver.look())
            state = receiver.status.state
            if state is ReceiverState.ABSENT and not receiver.is_open:
                break
            if state is ReceiverState.NO_FIX and listened > NO_FIX_S:
                break
        return asdict(receiver.status)
    finally:
        receiver.close()
