# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Is the supply strong enough, and the processor cool? What a real Pi answers, only hardware can show."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from agent.doctor import host
from agent.doctor.causes import found
from agent.doctor.finding import Finding, ok, skipped

if TYPE_CHECKING:
    from pathlib import Path

    from agent.doctor.context import Context

THROTTLED: Final = "sys/devices/platform/soc/soc:firmware/get_throttled"
UNDERVOLTAGE, CAPPED, THROTTLED_NOW, SOFT_LIMIT = 1 << 0, 1 << 1, 1 << 2, 1 << 3
PAST: Final = 16
"""The same bits, so much higher: it was so since the boot [Raspberry Pi documentation, vcgencmd get_throttled]."""
SLOWED: Final = CAPPED | THROTTLED_NOW | SOFT_LIMIT
HOT_MILLICELSIUS: Final = 80_000
"""From here on a Pi slows down."""
COMMAND_LIMIT_S: Final = 3.0


def power(context: Context) -> Iterator[Finding]:
    """Ask the firmware of a Raspberry Pi for undervoltage and throttling."""
    model = host.model(context.root)
    flags = _flags(context.root)
    celsius = _celsius(context.root)
    warm = "" if celsius is None else f", processor {celsius:.0f} °C"
    if flags is None:
        alarm = _alarm(context.root)
        if alarm is None:
            yield skipped("power", f"{model or 'this machine'} does not tell how its supply is{warm}")
            return
        flags = UNDERVOLTAGE << PAST if alarm else 0
    values: dict[str, int | float | str | bool | None] = {"throttled": flags, "processor_celsius": celsius}
    said = f"{model or 'Raspberry Pi'}: get_throttled 0x{flags:x}{warm}"
    weak = flags & (UNDERVOLTAGE | UNDERVOLTAGE << PAST)
    if flags & UNDERVOLTAGE:
        yield found("undervoltage-now", "power", f"{said}: less than 4.63 V right now", values)
    elif weak:
        yield found("undervoltage-past", "power", f"{said}: the voltage was too low since the last boot", values)
    heat = SOFT_LIMIT if weak else SLOWED  # a weak supply slows down, too
    if flags & heat or (celsius or 0) * 1000 >= HOT_MILLICELSIUS:
        yield found("hot", "power", f"{said}: slowed down right now", values)
    elif flags & heat << PAST:
        yield found("was-hot", "power", f"{said}: slowed down since the last boot", values)
    elif not weak:
        yield ok("power", f"{model or 'Raspberry Pi'}: voltage steady since the boot{warm}", values)


def _flags(root: Path) -> int | None:
    told = host.number(root / THROTTLED, 16)
    if told is not None:
        return told
    program = shutil.which("vcgencmd")
    if program is None or not (root / "dev/vcio").exists():
        return None
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        done = subprocess.run(
            [program, "get_throttled"], capture_output=True, text=True, check=True, timeout=COMMAND_LIMIT_S
        )
        return int(done.stdout.strip().split("=")[1], 16)
    return None


def _alarm(root: Path) -> bool | None:
    """Return what the kernel's monitor of the 5 V rail says, where there is one: too low since the boot."""
    for name in (root / "sys/class/hwmon").glob("hwmon*/name"):
        if host.text(name) == "rpi_volt":
            told = host.number(name.with_name("in0_lcrit_alarm"))
            return None if told is None else bool(told)
    return None


def _celsius(root: Path) -> float | None:
    told = host.number(root / "sys/class/thermal/thermal_zone0/temp")
    return None if told is None else told / 1000
