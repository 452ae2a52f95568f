# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What was heard in the last hour, what that says of the antenna, and what the filters make of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agent.doctor import asked, levels
from agent.doctor.causes import found
from agent.doctor.finding import Finding, Value, ok, skipped
from agent.doctor.wording import span

if TYPE_CHECKING:
    from agent.config import Destination
    from agent.doctor.context import Context
    from agent.filter import FilterRules, Span
    from agent.spool.reader import SpoolStatus, StreamStatus

HOUR_US: Final = 3_600_000_000
QUIET_S: Final = 900
"""So long the air may be quiet at any place."""
MISSED_FRAMES: Final = 5
DEAF_FRAMES: Final = 20
"""So many frames should have come meanwhile, at the rate of before: the first may be chance, the second is none."""
ENOUGH_FRAMES: Final = 20
"""Fewer tell nothing."""
WEAK_DBM: Final = -112.0
DAMAGED_SHARE: Final = 0.5
LARGEST_NETWORK: Final = 1 << 25
"""Addresses of one NetID of the largest type [LoRaWAN Backend Interfaces 1.0, NetID type 0: 25 bits of NwkAddr]."""
LARGEST_MAKER: Final = 1 << 40
"""EUIs of one maker with the largest block [IEEE, MA-L: 24 bits of prefix]."""


@dataclass(frozen=True, slots=True)
class Hour:
    """The account of the last hour or so, all destinations alike.

    Attributes:
        heard: receptions.
        bad_crc: of them damaged.
        span_s: how long that was.
    """

    heard: int
    bad_crc: int
    span_s: int


def heard(context: Context) -> Iterator[Finding]:
    """Say what was heard in the last hour, and hint at the antenna."""
    radio = context.said("radio")
    if context.config is None:
        return
    if radio is None:
        yield skipped("heard", "only a running agent knows what is heard")
        return
    uptime_s, now_us = context.uptime_s or 0, context.clock.boottime_us()
    last_us, total = radio.get("last_heard_us"), int(radio.get("heard") or 0)
    silent_s = uptime_s if last_us is None else max(0, (now_us - int(last_us)) // 1_000_000)
    hour = _hour(context, total)
    values: dict[str, Value] = {"silent_s": silent_s, "heard_since_start": total}
    if hour is not None:
        values |= {"heard": hour.heard, "bad_crc": hour.bad_crc, "span_s": hour.span_s}
    loud_s = uptime_s - silent_s
    missed = total / max(loud_s, 1) * silent_s
    said = _told(hour, total, uptime_s)
    if radio.get("state") != "receiving":
        yield skipped("heard", f"{said}; the radio does not receive at present")
    elif silent_s > QUIET_S and (not total or missed >= MISSED_FRAMES):
        rated = total >= ENOUGH_FRAMES and loud_s >= min(silent_s, asked.DAY_S)  # else there is no rate
        said = f"nothing for {span(silent_s)}; {said}"
        if rated and missed >= DEAF_FRAMES:
            yield found("deaf", "heard", f"{said}, and about {missed:,.0f} should have come since", values)
        else:
            yield _silence(context, said, values)
    elif hour is not None and hour.heard >= ENOUGH_FRAMES and hour.bad_crc > hour.heard * DAMAGED_SHARE:
        yield found("mostly-damaged", "heard", f"{said}, {hour.bad_crc:,} of them damaged", values)
    elif not total:
        yield skipped("heard", f"{said}: too soon to tell")
    else:
        yield ok("heard", f"{said}, the last one {span(silent_s)} ago", values)
    yield from _antenna(context, total)


def _told(hour: Hour | None, total: int, uptime_s: int) -> str:
    if hour is None:
        return f"{total:,} frames since the agent's start {span(uptime_s)} ago"
    return f"{hour.heard:,} frames in the last {span(hour.span_s)}"


def _silence(context: Context, said: str, values: Mapping[str, Value]) -> Finding:
    if levels.only_itself(asked.measured_noise(context)):
        return found("antenna", "heard", f"{said}; the noise is alike on all channels", values)
    return found("nothing-heard", "heard", said, values)


def _antenna(context: Context, total: int) -> Iterator[Finding]:
    """Judge levels and channels, once enough was heard."""
    channels = {
        int(if_chain): channel
        for if_chain, channel in asked.listened(context).items()
        if int(channel.get("frames") or 0) and channel.get("rssi_dbm") is not None
    }
    if not channels or total < ENOUGH_FRAMES:
        return
    strongest = max(float(channel["rssi_dbm"]) for channel in channels.values())
    said = ", ".join(f"{name}: {float(one['rssi_dbm']):.0f} dBm" for name, one in _by_frequency(context, channels))
    if strongest < WEAK_DBM:
        yield found("weak", "antenna", f"mean levels {said}")
    elif deaf := _deaf_radio(context, channels):
        yield found("one-channel", "antenna", f"nothing on the channels of radio {deaf}; {said}")
    else:
        yield ok("antenna", f"mean levels {said}")


def _by_frequency(
    context: Context, channels: Mapping[int, Mapping[str, Any]]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    from drivers.plans import load_plan
    from drivers.sx1302.survey import channels as frequencies

    assert context.config is not None
    known = frequencies(load_plan(context.config.concentrator.plan))
    for if_chain, channel in sorted(channels.items()):
        hertz = known.get(if_chain)
        yield (f"channel {if_chain}" if hertz is None else f"{hertz / 1e6:.1f}"), channel


def _deaf_radio(context: Context, channels: Mapping[int, Mapping[str, Any]]) -> str:
    """Return the radio on whose channels nothing was heard while much was on the other's; empty for none."""
    from drivers.plans import load_plan

    assert context.config is not None
    plan = load_plan(context.config.concentrator.plan)
    frames = {0: 0, 1: 0}
    has_channels = set()
    for if_chain, channel in enumerate(plan.multi_sf):
        has_channels.add(channel.rf_chain)
        frames[channel.rf_chain] += int(channels.get(if_chain, {}).get("frames") or 0)
    deaf = [radio for radio in has_channels if frames[radio] == 0]
    # Devices of EU868 begin on three channels, all of one radio: it takes many frames on one to suspect the other.
    much = 50 * ENOUGH_FRAMES
    return "AB"[deaf[0]] if len(deaf) == 1 and len(has_channels) > 1 and max(frames.values()) >= much else ""


def _hour(context: Context, total: int) -> Hour | None:
    """Return the account of this hour and the one before, as the spool has it; None when it cannot be read.

    Args:
        context: of an agent that runs.
        total: frames since the agent's start. Where the account has more, some of it is from before that start.
    """
    status = _spool(context)
    if status is None:
        return None
    now_us = context.clock.boottime_us()
    this = now_us // HOUR_US
    open_streams = [stream for stream in status.streams if stream.open]
    if not open_streams:
        return None
    accounts = [
        hour.account
        for hour in open_streams[0].hours
        if hour.boot_id == context.clock.boot_id and hour.hour in {this, this - 1}
    ]
    since_us = max(0, (this - 1) * HOUR_US)
    begun_us = now_us - (context.uptime_s or 0) * 1_000_000
    heard = sum(account.heard for account in accounts)
    span_s = (now_us - (since_us if heard > total else max(since_us, begun_us))) // 1_000_000
    return Hour(heard, sum(account.bad_crc for account in accounts), span_s)


def _spool(context: Context) -> SpoolStatus | None:
    from agent.spool.reader import SpoolReader

    assert context.config is not None
    if not context.spool_status:
        with suppress(OSError), SpoolReader(context.config.spool_path) as reader:
            context.spool_status.append(reader.status())
    return context.spool_status[0] if context.spool_status else None


def filters(context: Context) -> Iterator[Finding]:
    """Say whether each destination's filter takes something, and not everything."""
    if context.config is None or not context.config.destination:
        return
    status = _spool(context)
    streams = {} if status is None else {stream.destination: stream for stream in status.streams if stream.open}
    for destination in context.config.destination:
        yield _filter(context, destination, streams.get(destination.name))


def _filter(context: Context, destination: Destination, stream: StreamStatus | None) -> Finding:
    rules, name = destination.filter, destination.name
    if not _takes_anything(rules):
        return found("filter-empty", "filter", f"{name}: no rule", config=context.path)
    wide = _too_wide(rules)
    if wide:
        return found("filter-all", "filter", f"{name}: {wide}", config=context.path)
    if stream is not None:
        account = stream.account
        sound = account.heard - account.bad_crc - account.duplicate
        said = f"{name}: {account.spooled:,} of {sound:,} sound frames were for it"
        values: dict[str, Value] = {"sound": sound, "kept": account.spooled}
        if sound >= ENOUGH_FRAMES and not account.spooled:
            return found("filter-none", "filter", said, values, config=context.path)
        if sound:
            return ok("filter", said, values)
    return ok("filter", f"{name}: {_counted(rules)}")


def _takes_anything(rules: FilterRules) -> bool:
    lists = (rules.dev_addr, rules.net_ids, rules.join_eui, rules.dev_eui)
    return any(lists) or rules.proprietary or rules.non_lorawan


def _too_wide(rules: FilterRules) -> str:
    if _covered(rules.dev_addr) > LARGEST_NETWORK:
        return "dev_addr takes more addresses than the largest network has"
    if _covered(rules.join_eui) > LARGEST_MAKER:
        return "join_eui takes more than all devices of the largest maker"
    return ""


def _covered(spans: tuple[Span, ...]) -> int:
    return max((span.last - span.first + 1 for span in spans), default=0)


def _counted(rules: FilterRules) -> str:
    kinds = ("dev_addr", "net_ids", "join_eui", "dev_eui", "proprietary", "non_lorawan")
    return "rules for " + ", ".join(kind for kind in kinds if getattr(rules, kind))
