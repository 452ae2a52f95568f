# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A stage whose gateway finds a standing backlog, and what its processes cost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from agent import config
from agent.batch.model import Account
from agent.demo.stage import GATEWAY_EUI, Stage
from agent.filter import Filter
from agent.frame import Frame, Session
from agent.identity import signer
from agent.spool import row, store
from agent.spool.engine import Engine
from agent.spool.intake import Heard, RoutedFrame
from agent.spool.orders import Destination, Entry, Policy

GROUP = 1000
"""Frames per commit while the spool is filled."""
SPACING_US = 1_000_000
"""Between frames: 600,000 are seven days."""
_TICKS = os.sysconf("SC_CLK_TCK")


def fill(stage: Stage, sample: Sequence[Frame], count: int) -> None:
    """Put frames into the spool of a stage that is set, as if its agent had heard them and reached nobody.

    Args:
        stage: with the agent not started.
        sample: frames to repeat.
        count: how many.
    """
    settings = config.load(stage.gateway_toml)
    wanted, quota_bytes = Filter(settings.destination[0].filter), settings.spool.quota_mb << 20
    stage.spool.parent.mkdir(parents=True, exist_ok=True)
    connection = store.open_writer(stage.spool, quota_bytes)
    try:
        engine = Engine(
            connection,
            destinations=(Destination(settings.destination[0].name, wanted.digest),),
            policy=Policy(settings.spool.batch_frames, 3600.0, quota_bytes),
            signer=signer(settings),
            gateway_eui=bytes.fromhex(GATEWAY_EUI),
        )
        session = Session(bytes(range(16)), 1)
        for number, start in enumerate(range(0, count, GROUP), 1):
            frames = [
                replace(
                    sample[index % len(sample)],
                    session=session,
                    boottime_us=10_000_000 + index * SPACING_US,
                    counter_us=3_000_000 + index * SPACING_US,
                )
                for index in range(start, min(start + GROUP, count))
            ]
            tally = Account(heard=len(frames), spooled=len(frames))
            heard = Heard(tuple(RoutedFrame(one, 1) for one in frames), (tally,))
            engine.apply([Entry(number, heard, tuple(row.pack(one) for one in frames))], (), 0.0)
        while engine.apply([], (), 0.0, flush=True).more:  # the last batch is not full, and would wait for its age
            pass
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process has taken so far.

    Attributes:
        cpu_s: of processor.
        resident_mb: of memory now.
        peak_mb: the most it has held.
    """

    cpu_s: float
    resident_mb: float
    peak_mb: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """Ask the kernel [proc(5)]."""
        words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        sizes = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        resident, peak = (int(sizes[name].split()[0]) / 1000 for name in ("VmRSS", "VmHWM"))
        return cls((int(words[11]) + int(words[12])) / _TICKS, resident, peak)
