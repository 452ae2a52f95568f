# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the demonstration shows: a live panel on a terminal, plain lines elsewhere, the account at the end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

PLAIN_INTERVAL_S = 2.0
NEWS_LINES = 8


@dataclass(frozen=True, slots=True)
class Scene:
    """One look at everything.

    Attributes:
        progress: frames done, of those asked for.
        heard: frames the radio received.
        frames_per_s: heard in the last second.
        backlog: frames in the spool that are not yet receipted.
        delivered: frames in the receiver's ledger.
        batches: in the receiver's ledger.
        receipted: batches that a receipt has reached the gateway for.
        wire_bytes: on the backhaul, both directions.
        link_up: whether the backhaul is there.
        receiving: whether the concentrator receives; not while the agent starts it.
    """

    progress: int
    heard: int
    frames_per_s: float
    backlog: int
    delivered: int
    batches: int
    receipted: int
    wire_bytes: int
    link_up: bool
    receiving: bool


class Screen(Protocol):
    """Where the demonstration shows itself."""

    def show(self, scene: Scene) -> None:
        """Show the present state; called several times a second."""

    def tell(self, what: str) -> None:
        """Tell one event."""

    def close(self) -> None:
        """Leave the last state standing."""


class LiveScreen:
    """A panel that is redrawn in place."""

    def __init__(self, console: Console, frames: int) -> None:
        self._bar = Progress(
            TextColumn("frames on the air"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._task = self._bar.add_task("", total=frames)
        self._news: list[Text] = []
        self._started = time.monotonic()
        self._live = Live(console=console, refresh_per_second=8)
        self._live.start()

    def show(self, scene: Scene) -> None:
        """Redraw."""
        self._bar.update(self._task, completed=scene.progress)
        table = Table.grid(padding=(0, 3))
        radio = Text("receives", "green") if scene.receiving else Text("does not receive", "yellow")
        table.add_row("concentrator", radio, f"{scene.heard} frames heard, {scene.frames_per_s:.0f}/s")
        table.add_row("spool", "", f"{scene.backlog} frames wait for a receipt")
        link = Text("up", "green") if scene.link_up else Text("DOWN", "bold red")
        table.add_row("backhaul", link, f"{scene.wire_bytes / 1000:.1f} kB")
        table.add_row(
            "receiver",
            "",
            f"{scene.delivered} frames in {scene.batches} batches, {scene.receipted} receipts back",
        )
        self._live.update(Group(*self._news[-NEWS_LINES:], "", table, "", self._bar))

    def tell(self, what: str) -> None:
        """Add a line above the panel."""
        self._news.append(Text(f"{time.monotonic() - self._started:6.1f} s  {what}", "cyan"))

    def close(self) -> None:
        """Stop redrawing."""
        self._live.stop()


class PlainScreen:
    """Lines, for logs and pipes."""

    def __init__(self, console: Console, frames: int) -> None:
        self._console = console
        self._frames = frames
        self._started = time.monotonic()
        self._next = 0.0

    def show(self, scene: Scene) -> None:
        """Print a line every two seconds."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PLAIN_INTERVAL_S
        self.tell(
            f"{scene.progress}/{self._frames} frames on the air, "
            f"heard {scene.heard} ({scene.frames_per_s:.0f}/s), "
            f"concentrator {'receives' if scene.receiving else 'does not receive'}, "
            f"link {'up' if scene.link_up else 'DOWN'}, backlog {scene.backlog}, "
            f"delivered {scene.delivered} in {scene.batches} batches, {scene.receipted} receipts back, "
            f"{scene.wire_bytes} bytes"
        )

    def tell(self, what: str) -> None:
        """Print one line."""
        self._console.print(f"{time.monotonic() - self._started:6.1f} s  {what}", highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing to leave."""
