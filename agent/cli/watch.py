# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The picture of `civigate top`, and the terminal it is drawn on.

Only lines that have changed are sent, once a second at most: over a slow SSH line a picture costs some hundred bytes.
"""

from __future__ import annotations

import io
import os
import select
import shutil
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent.cli.screen import Screen, printable
from agent.errors import AgentError
from agent.local.client import Connection
from agent.local.remarks import remarks

if TYPE_CHECKING:
    from typing import TextIO

KEPT = 200
AGAIN_S = 2.0
"""Until an agent that is gone is looked for again."""
MOST_KEYS = 32
_FATES = {"kept": ("own", "green"), "filtered": ("other", "dim"), "bad_crc": ("bad CRC", "yellow")}


class Picture:
    """What is shown.

    Args:
        own: only frames that a destination keeps.
    """

    def __init__(self, *, own: bool = False) -> None:
        self.own = own
        self.said: dict[str, Any] | None = None
        """The newest report."""
        self.problem = ""
        """Why nothing new comes."""
        self._seen: deque[tuple[datetime, dict[str, Any]]] = deque(maxlen=KEPT)
        self._missed = 0

    def take(self, said: Mapping[str, Any]) -> None:
        """Take a message of the agent."""
        if "reception" in said:
            one = said["reception"]
            self._seen.append((_moment(one), one))
        elif "status" in said:
            self.said = printable(said["status"]["report"]) or self.said
        elif "missed" in said:
            self._missed += said["missed"]

    def render(self, height: int, keys: str = "") -> RenderableType:
        """Return the picture.

        Args:
            height: of the terminal.
            keys: what can be pressed.
        """
        parts: list[RenderableType] = []
        if self.problem:
            parts.append(Text(f"✗ {self.problem}", "bold red"))
        if self.said is not None:
            found = remarks(self.said)
            screen = Screen(self.said, found)
            parts += [screen.head(), *(Text(f"{_sign(one.level)} {one.text}") for one in found[:3]), screen.rows()]
        above = 10 + len(parts)
        parts += [Text(), self._receptions(max(height - above, 5))]
        if keys:
            parts.append(Text(keys, "dim"))
        return Group(*parts)

    def _receptions(self, most: int) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for name in ("UTC", "", "sensor", "MHz", "rate", "RSSI", "SNR", "bytes", "counter"):
            table.add_column(name, justify="left" if name in {"", "sensor"} else "right", no_wrap=True)
        shown = [item for item in self._seen if not self.own or item[1]["fate"] == "kept"]
        for at, one in reversed(shown[-most:]):
            word, style = _FATES.get(one["fate"], (one["fate"], ""))
            table.add_row(
                f"{at:%H:%M:%S}",
                Text(word, style),
                one.get("device") or one.get("kind") or "",
                f"{one['frequency_hz'] / 1e6:.3f}",
                rate(one),
                f"{one['rssi_dbm']:.0f}",
                "" if one.get("snr_db") is None else f"{one['snr_db']:.1f}",
                str(one.get("size_bytes", "")),
                str(one.get("f_cnt", "")),
            )
        return table


class Watch:
    """A terminal that shows a running gateway.

    Args:
        folder: runtime_dir of the agent.
        interval_s: between two pictures.
        own: only frames that a destination keeps.
        out: where it is drawn.
    """

    def __init__(self, folder: Path, *, interval_s: float, own: bool, out: TextIO = sys.stdout) -> None:
        self._folder = folder
        self._interval_s = interval_s
        self._picture = Picture(own=own)
        self._out = out
        self._agent: Connection | None = None
        self._again_s = 0.0
        self._paused = False
        self._lines: list[str] = []
        self._size = (0, 0)

    def run(self) -> int:
        """Watch until q is pressed.

        Raises:
            AgentError: at the beginning nobody answers, or this user may not ask.
        """
        self._connect()
        keyboard = sys.stdin.fileno()
        before = termios.tcgetattr(keyboard)
        self._out.write("\x1b[?1049h\x1b[?25l")
        try:
            tty.setcbreak(keyboard)
            self._watch(keyboard)
        finally:
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
            self._out.write("\x1b[?25h\x1b[?1049l")
            self._out.flush()
            self._hang_up()
        return 0

    def _watch(self, keyboard: int) -> None:
        due_s = 0.0
        while True:
            now_s = time.monotonic()
            if now_s >= due_s:
                due_s = now_s + self._interval_s
                if not self._paused:
                    self._draw()
            if self._agent is None and now_s >= self._again_s:
                self._reconnect()
            sources = [keyboard] if self._agent is None else [keyboard, self._agent.fileno()]
            ready, _, _ = select.select(sources, [], [], max(due_s - now_s, 0.05))
            if keyboard in ready:
                # By the descriptor: what a buffer of our own keeps, select does not see.
                keys = os.read(keyboard, MOST_KEYS)
                if not keys or any(key in b"qQ\x04" for key in keys):
                    return
                self._paused ^= keys.count(b" ") % 2 == 1
                self._picture.own ^= keys.count(b"o") % 2 == 1
                due_s = min(due_s, now_s + 0.1)
            if self._agent is not None and self._agent.fileno() in ready:
                self._listen(self._agent)

    def _listen(self, agent: Connection) -> None:
        try:
            for said in agent.news():
                self._picture.take(said)
        except AgentError as error:
            self._picture.problem = f"{error}; waiting for it to come back"
            self._hang_up()
            self._again_s = time.monotonic() + AGAIN_S

    def _connect(self) -> None:
        self._agent = Connection(self._folder)
        self._agent.send({"follow": ["receptions", "status"], "history": 0 if self._picture.said else 100})
        self._picture.problem = ""

    def _reconnect(self) -> None:
        self._again_s = time.monotonic() + AGAIN_S
        with suppress(AgentError):
            self._connect()

    def _hang_up(self) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def _draw(self) -> None:
        """Send the lines that differ from those on the screen."""
        size = shutil.get_terminal_size()
        if size != self._size:
            self._size, self._lines = size, []
            self._out.write("\x1b[2J")
        drawn = io.StringIO()
        console = Console(file=drawn, force_terminal=True, width=size.columns, height=size.lines, highlight=False)
        keys = "q quits  space pauses  o own only" + ("  PAUSED" if self._paused else "")
        console.print(self._picture.render(size.lines, keys))
        lines = [line.rstrip() for line in drawn.getvalue().splitlines()[: size.lines]]
        before = [*self._lines, *[""] * (len(lines) - len(self._lines))]
        after = [*lines, *[""] * (len(before) - len(lines))]
        for at, (old, new) in enumerate(zip(before, after, strict=True), 1):
            if old != new:
                self._out.write(f"\x1b[{at};1H{new}\x1b[0m\x1b[K")
        self._lines = lines
        self._out.flush()


def as_line(one: Mapping[str, Any]) -> str:
    """Return a reception as a line of text; the time is the host's."""
    own = f"{one.get('device') or ''} {one.get('kind')}" if one["fate"] == "kept" else ""
    snr = "" if one.get("snr_db") is None else f"{one['snr_db']:6.1f} dB"
    more = "" if one.get("size_bytes") is None else f"  {one['size_bytes']} bytes"
    counter = "" if one.get("f_cnt") is None else f"  counter {one['f_cnt']}"
    word = _FATES.get(one["fate"], (one["fate"], ""))[0]
    what = f"{one['frequency_hz'] / 1e6:.3f} {rate(one):<5} {one['rssi_dbm']:6.1f} dBm {snr}"
    return f"{_moment(one):%Y-%m-%dT%H:%M:%SZ} {word:<7} {own:<22} {what}{more}{counter}"


def rate(one: Mapping[str, Any]) -> str:
    """Return the data rate of a reception in words."""
    return f"SF{one['datarate']}" if one["modulation"] == "lora" else "FSK"


def _moment(one: Mapping[str, Any]) -> datetime:
    """Return when a reception was that has just been told, by the host's clock."""
    return datetime.now(UTC) - timedelta(seconds=one["age_s"])


def _sign(level: str) -> str:
    return "✗" if level == "fault" else "!"
