# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the running agent says of its concentrator, judged. The chip is not touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import log10
from typing import TYPE_CHECKING, Any, Final

from agent.doctor import levels
from agent.doctor.causes import code_in, found, of_detail
from agent.doctor.finding import Finding, ok, skipped

if TYPE_CHECKING:
    from agent.doctor.context import Context

DAY_S: Final = 86_400
HARMLESS_SHARE: Final = 0.001
"""One damaged frame in a thousand happens."""
HARMLESS_FRAMES: Final = 3
"""And so many at any time."""
AGAIN: Final = 2.0
"""What happened once since the start does not happen again and again."""
FULL: Final = "full"
TEMPERATURE: Final = "temperature"
SUSPICIOUS: Final = "suspicious_looks"
STALL_LOOKS: Final = 3
ENOUGH_FRAMES: Final = 20
FAILED_READINGS: Final = 3
TRUE_SNR_DB: Final = 3.0
_PARTS: Final = {"CG-RADIO": "radios", "CG-MCU": "reception", "CG-FW": "reception", "CG-GPIO": "reset"}
"""What an error is about, by its code; all others are about the chip and the way to it."""


def concentrator(context: Context) -> Iterator[Finding]:
    """Judge what the agent says of chip, radios and reception."""
    radio = context.said("radio")
    if radio is None:
        yield found("radio-off", "chip", "the agent has not begun to start it")
        return
    state, detail = str(radio.get("state")), str(radio.get("detail") or "")
    if state == "receiving":
        eui = radio.get("eui")
        yield ok("chip", f"EUI {eui}, as the running agent sees it", {"eui": eui})
        yield ok("radios", "both are started")
        yield from _reception(radio, context.uptime_s or 0)
        yield from _temperature(radio)
        yield noise(context)
    elif detail:
        code = code_in(detail)
        finding = of_detail(_PARTS.get(code.rpartition("-")[0], "chip"), detail)
        if code == "CG-CHIP-003":
            finding = of_detail("reset", detail)
        yield finding
        yield skipped("reception", f"the agent tries again and again ({radio.get('failures')} failures so far)")
    else:
        yield found("radio-off", "chip", f"the concentrator is {state}")


def _reception(radio: Mapping[str, Any], uptime_s: int) -> Iterator[Finding]:
    """Judge how well it receives."""
    failures, heard, lost = (int(radio.get(name) or 0) for name in ("failures", "heard", "lost"))
    faults = {kind: int(count) for kind, count in (radio.get("faults") or {}).items()}
    repairs = {kind: int(count) for kind, count in (radio.get("repairs") or {}).items()}
    values: dict[str, int | float | str | bool | None] = {"heard": heard, "lost": lost, "failures": failures}
    said = f"{heard:,} frames since the agent's start"
    ill = True
    troubles = max(failures, sum(repairs.values()))
    often = max(AGAIN, uptime_s / DAY_S)
    if troubles >= often:
        steps = ", ".join(f"{count} x {kind}" for kind, count in sorted(repairs.items())) or "no repair yet"
        last = f": {radio['detail']}" if radio.get("detail") else ""
        yield found("unsteady", "reception", f"{failures} faults since the agent's start ({steps}){last}", values)
    elif faults.get(FULL, 0) >= often:
        yield found("overrun", "reception", f"{said}; the memory of the chip was full {faults[FULL]} times", values)
    elif lost > max(HARMLESS_FRAMES, heard * HARMLESS_SHARE):
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(faults.items()) if kind != TEMPERATURE)
        yield found(
            "damaged-frames", "reception", f"{said}, {lost:,} damaged in the chip or on the way ({kinds})", values
        )
    elif (looks := _suspicious(radio)) >= STALL_LOOKS and not heard:
        yield found("stalled", "reception", f"{said}; {looks} looks at the chip found signs of a stall", values)
    else:
        ill = False
    if not ill:
        yield ok("reception", f"{said}, {troubles} faults" if troubles else said, values)


def _suspicious(radio: Mapping[str, Any]) -> int:
    counters = (radio.get("listened") or {}).get("counters") or {}
    return int(counters.get(SUSPICIOUS) or 0)


def _temperature(radio: Mapping[str, Any]) -> Iterator[Finding]:
    failed = int((radio.get("faults") or {}).get(TEMPERATURE) or 0)
    if failed >= FAILED_READINGS:
        yield found("sensor-failing", "temperature", f"{failed} readings failed since the agent's start")


def noise(context: Context) -> Finding:
    """Judge the noise that the agent's SX1261 has measured, channel by channel."""
    measured = measured_noise(context)
    if measured:
        return levels.judge(measured)
    estimated = _estimated_noise(context)
    if estimated:
        finding = levels.judge(estimated)
        return replace(finding, evidence=f"about {finding.evidence}, by level and SNR of what is heard")
    listens = context.config is not None and context.config.concentrator.sx1261 is not None
    why = "the agent measures a channel each half minute: not yet" if listens else "no SX1261 in [concentrator]"
    return skipped("noise", f"nothing measures it: {why}")


def measured_noise(context: Context) -> dict[int, float]:
    """Return the noise that the agent has measured, by frequency in hertz."""
    from drivers.plans import load_plan
    from drivers.sx1302.survey import channels

    assert context.config is not None
    frequencies = channels(load_plan(context.config.concentrator.plan))
    found_levels: dict[int, float] = {}
    for if_chain, channel in listened(context).items():
        level, hertz = channel.get("noise_dbm"), frequencies.get(int(if_chain))
        if level is not None and hertz is not None:
            found_levels[hertz] = float(level)
    return found_levels


def _estimated_noise(context: Context) -> dict[int, float]:
    """Return the noise under what is heard, by frequency in hertz.

    A channel's level is that of signal and noise together, so that it tells the noise where both are about alike. The
    SNR of stronger signals saturates, and would tell too much noise.
    """
    from drivers.plans import load_plan
    from drivers.sx1302.survey import channels

    assert context.config is not None
    frequencies = channels(load_plan(context.config.concentrator.plan))
    noise_dbm: dict[int, float] = {}
    for if_chain, channel in listened(context).items():
        level, snr, hertz = channel.get("rssi_dbm"), channel.get("snr_db"), frequencies.get(int(if_chain))
        enough = int(channel.get("frames") or 0) >= ENOUGH_FRAMES
        if enough and level is not None and snr is not None and hertz is not None and snr <= TRUE_SNR_DB:
            noise_dbm[hertz] = float(level) - 10 * log10(1 + 10 ** (float(snr) / 10))
    return noise_dbm


def listened(context: Context) -> Mapping[str, Mapping[str, Any]]:
    """Return what the agent says of each channel, by IF chain."""
    radio = context.said("radio") or {}
    channels: Mapping[str, Mapping[str, Any]] = (radio.get("listened") or {}).get("channels") or {}
    return channels
