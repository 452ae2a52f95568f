# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A report as a person reads it on a terminal: every part of it is a few lines; shared by `status` and `top`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from agent.local.remarks import Remark

MOST_FINDINGS = 5
SPREADING_FACTORS = (7, 8, 9, 10, 11, 12)
_UNKNOWN = "not known yet"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_NOTHING = "·"
_ODD = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
"""What a report of another release may raise: then that part of it is not shown."""
_LEVELS = {"fault": ("✗", "bold red"), "note": ("!", "yellow")}
_RADIO = {"receiving": "green", "starting": "yellow", "off": "yellow", "fault": "bold red"}
_VERDICTS = {"ok": "nothing wrong", "warn": "works, with reservations", "fail": "something is wrong"}
_PHASES = {
    "online": ("online, all is delivered", "green"),
    "draining": ("online, delivering", "green"),
    "connecting": ("connecting", "yellow"),
    "offline": ("not started yet", "yellow"),
    "backoff": ("not reachable", "bold red"),
    "refused": ("refused", "bold red"),
}


def printable(said: Any) -> Any:
    """Return what JSON gave without control characters: a platform's words shall not speak to the terminal."""
    match said:
        case str():
            return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", said)
        case dict():
            return {str(printable(name)): printable(value) for name, value in said.items()}
        case list():
            return [printable(value) for value in said]
    return said


class Screen:
    """Renders a report.

    Args:
        said: the report.
        remarked: what there is to say about it.
        doctor: the doctor's last sheet, None without.
    """

    def __init__(self, said: Mapping[str, Any], remarked: Sequence[Remark], doctor: object = None) -> None:
        self._said = said
        self._remarked = remarked
        self._doctor = doctor

    def whole(self, problem: str = "", note: str = "") -> RenderableType:
        """Return everything.

        Args:
            problem: why this is not how things are now.
            note: where it comes from.
        """
        return Group(*self._whole(problem, note))

    def _whole(self, problem: str, note: str) -> Iterator[RenderableType]:
        if problem:
            yield Text(f"✗ {problem}", "bold red")
        if note:
            yield Text(f"! {note}", "yellow")
        yield self.head()
        yield from self.notes()
        yield Text()
        yield self.rows()
        heard = self.heard()
        if heard is not None:
            yield Text()
            yield heard

    def head(self) -> Text:
        """Return one line: who this is, and how it is."""
        gateway: Any = self._said.get("gateway")
        name, eui = (gateway.get("name"), gateway.get("eui")) if isinstance(gateway, dict) else (None, None)
        up = self._said.get("uptime_s")
        faults = sum(remark.level == "fault" for remark in self._remarked)
        verdict = ("  all is well", "bold green") if not faults else (f"  {_things(faults)} wrong", "bold red")
        return Text.assemble(
            (str(name or "civigate"), "bold"),
            f"  {eui or 'EUI not known yet'}  up {duration(up) if isinstance(up, (int, float)) else _UNKNOWN}",
            verdict,
        )

    def notes(self) -> Iterator[RenderableType]:
        """Yield what there is to say."""
        for remark in self._remarked:
            sign, style = _LEVELS[remark.level]
            yield Text(f"{sign} {remark.text}", style)
            if remark.detail:
                yield Padding(Text(remark.detail, "dim"), (0, 0, 0, 4))

    def rows(self) -> Table:
        """Return a line for each part of the gateway; one that a report lacks is left out."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        parts = (
            ("radio", self._radio),
            ("spool", self._spool),
            ("", self._buffer),
            ("card", self._card),
            ("time", self._time),
            ("GNSS", self._gnss),
            ("doctor", self._checked),
            ("agent", self._host),
        )
        for name, make in parts:
            with suppress(*_ODD):
                line = make()
                if line is not None:
                    table.add_row(name, line)
        with suppress(*_ODD):
            for name, line in self._destinations():
                table.add_row(name, line)
        return table

    def heard(self) -> RenderableType | None:
        """Return a table of the last hour by channel and spreading factor, None when nothing was heard in a day."""
        with suppress(*_ODD):
            if self._said["heard"]["day"]:
                return self._table(self._said["heard"])
        return None

    def _table(self, heard: Mapping[str, Any]) -> Table:
        table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
        table.add_column("last hour, MHz", no_wrap=True)
        names = (*(f"SF{sf}" for sf in SPREADING_FACTORS), "other", "all", "own", "bad", "24 h", "RSSI", "SNR", "noise")
        rows = tuple(self._channels(heard))
        # What few gateways have takes no room where there is none of it.
        shown = [
            at
            for at, name in enumerate(names, 1)
            if name not in {"other", "noise"} or any(row[at] != _NOTHING for row in rows)
        ]
        for at in shown:
            table.add_column(names[at - 1], justify="right", no_wrap=True)
        for row in rows:
            table.add_row(row[0], *(row[at] for at in shown))
        return table

    def _channels(self, heard: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
        levels: Mapping[str, Any] = ((self._said.get("radio") or {}).get("listened") or {}).get("channels") or {}
        keys = sorted({(one["frequency_hz"], one["if_chain"]) for one in heard["day"]})
        for frequency_hz, if_chain in keys:
            hour = [one for one in heard["hour"] if one["if_chain"] == if_chain and one["frequency_hz"] == frequency_hz]
            day = [one for one in heard["day"] if one["if_chain"] == if_chain and one["frequency_hz"] == frequency_hz]
            by_sf = {sf: _all(one for one in hour if one["datarate"] == sf) for sf in SPREADING_FACTORS}
            level = levels.get(str(if_chain)) or {}
            yield (
                f"{frequency_hz / 1e6:.3f}" if frequency_hz else "others",
                *(_count(by_sf[sf]) for sf in SPREADING_FACTORS),
                _count(_all(hour) - sum(by_sf.values())),
                _count(_all(hour)),
                _count(sum(one["kept"] for one in hour)),
                _count(sum(one["bad_crc"] for one in hour)),
                _count(_all(day)),
                *(_level(level.get(name)) for name in ("rssi_dbm", "snr_db", "noise_dbm")),
            )

    def _radio(self) -> Text | None:
        radio = self._said["radio"]
        if radio is None:
            return None
        last_us = radio["last_heard_us"]
        last = "nothing yet" if last_us is None else f"last {ago((self._said['boottime_us'] - last_us) / 1e6)}"
        lost = f", {radio['lost']:,} lost" if radio["lost"] else ""
        repairs = sum(radio["repairs"].values())
        repaired = f", {repairs:,} repairs" if repairs else ""
        return Text.assemble(
            (str(radio["state"]), _RADIO.get(str(radio["state"]), "")),
            f", {radio['heard']:,} frames heard, {last}{lost}{repaired}",
        )

    def _spool(self) -> Text:
        spool = self._said["spool"]
        state = str(spool["state"])
        used = "" if spool.get("used_bytes") is None else f", {size(spool['used_bytes'])} used"
        return Text.assemble(
            (state, "green" if state == "ok" else "bold red"),
            f"{used}, {spool['committed_frames']:,} frames written, {spool['queued_frames']:,} not yet",
        )

    def _buffer(self) -> str | None:
        room, days = self._said["spool"]["room_bytes"], self._said["outlook"]["buffer_days"]
        if room is None:
            return None
        if days is None:
            return f"room for {size(room)} without a platform"
        return f"room for {days:,.0f} days without a platform ({size(room)})"

    def _destinations(self) -> Iterator[tuple[str, Text]]:
        accounts = {one["destination"]: one for one in self._said.get("accounts", ())}
        for one in self._said["destinations"]:
            words, style = _PHASES.get(one["phase"], (one["phase"], ""))
            traffic = one["traffic"]["up_bytes"] + one["traffic"]["down_bytes"]
            parts = [f", batch {one['through']:,} of {one['newest']:,} delivered"]
            account = accounts.get(one["destination"])
            if account is not None and account["waiting"]:
                parts.append(f", {account['waiting']:,} frames wait")
                if account["oldest_s"] is not None and one["waiting"]:
                    parts.append(f" (up to {duration(account['oldest_s'])})")
            if one["retry_at_us"] is not None:
                wait_s = max(one["retry_at_us"] - self._said["boottime_us"], 0) / 1e6
                parts.append(f", next try in {wait_s:.0f} s")
            if one.get("answer_s") is not None:
                parts.append(f", answers in {bound(one['answer_s'] * 1e6)}")
            parts.append(f", {size(traffic)}")
            yield str(one["destination"]), Text.assemble((words, style), *parts)

    def _card(self) -> str:
        outlook = self._said["outlook"]
        device, daily, years = outlook["device"], outlook["daily_bytes"], outlook["card_years"]
        if device is None:
            return "the spool is on no card that the kernel names"
        if daily is None:
            return f"{device}, its wear is {_UNKNOWN}"
        used = (
            "" if outlook["life_used"] is None else f", says that up to {outlook['life_used']:.0%} of its life is used"
        )
        return f"{device}, {size(daily)} written a day, lasts {years:,.1f} years at this rate{used}"

    def _time(self) -> str:
        clock = self._said["clock"]
        if clock["utc_us"] is None:
            return "not known: nobody has told it yet"
        told = datetime.fromtimestamp(clock["utc_us"] / 1e6, UTC)
        return f"{told:%Y-%m-%d %H:%M:%S} UTC ± {bound(clock['error_us'])} ({clock['source'] or 'several sources'})"

    def _gnss(self) -> str | None:
        gnss = self._said["gnss"]
        if gnss is None:
            return None
        receiver = gnss["receiver"]
        sight = receiver["sight"]
        age = gnss["time_age_s"]
        exact = "no exact time" if age is None else f"exact time {ago(age)}"
        return f"{str(receiver['state']).replace('_', ' ')}, {sight['satellites']} satellites, {exact}"

    def _checked(self) -> str:
        sheet = self._doctor
        if not isinstance(sheet, dict):
            return "was not here yet: sudo civigate doctor"
        told = [f"{one['check']}: {one['evidence']}" for one in sheet["findings"] if one["verdict"] in {"warn", "fail"}]
        age = "before this boot"
        if sheet["boot_id"] == self._said["boot_id"]:
            age = ago(max(self._said["boottime_us"] - sheet["boottime_us"], 0) / 1e6)
        return "\n".join((f"{_VERDICTS.get(sheet['verdict'], sheet['verdict'])}, {age}", *told[:MOST_FINDINGS]))

    def _host(self) -> str:
        host = self._said["host"]
        memory = "" if host["resident_bytes"] is None else f"{size(host['resident_bytes'])} of memory, "
        share = host["cpu_s"] / max(self._said["uptime_s"], 1)
        warm = "" if host["temperature_celsius"] is None else f", processor at {host['temperature_celsius']:.0f} °C"
        return f"{memory}{share:.1%} of a processor{warm}"


def _all(counts: Iterable[Mapping[str, Any]]) -> int:
    return sum(one["kept"] + one["filtered"] + one["bad_crc"] for one in counts)


def _count(number: int) -> str:
    return f"{number:,}" if number else _NOTHING


def _level(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.0f}"


def _things(number: int) -> str:
    return "one thing is" if number == 1 else f"{number} things are"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    rest = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def ago(seconds: float) -> str:
    """Say how long ago something was."""
    return "just now" if seconds < 1 else f"{duration(seconds)} ago"


def size(count: float) -> str:
    """Return a number of bytes in a unit that suits it."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def bound(microseconds: float) -> str:
    """Return an error bound in a unit that suits it."""
    if microseconds < 1000:
        return f"{microseconds:.0f} µs"
    return f"{microseconds / 1000:.0f} ms" if microseconds < 1_000_000 else f"{microseconds / 1e6:.1f} s"
