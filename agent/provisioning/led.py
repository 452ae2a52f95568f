# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The green light of a Raspberry Pi says how far provisioning is, for who stands below the mast.

The kernel blinks by itself once told how [Linux Documentation/leds/leds-class.rst]; nothing here wakes up for it.
Hardware only: whether a person sees it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent.provisioning.outcome import Stage

LEDS: Final = (Path("/sys/class/leds/ACT"), Path("/sys/class/leds/led0"))
"""As Raspberry Pi OS calls it since bookworm, and before."""
_SLOW: Final = ("timer", 1000, 1000)
_DOUBLE: Final = ("heartbeat", 0, 0)
_SOLID: Final = ("default-on", 0, 0)
_FAST: Final = ("timer", 100, 100)
_PATTERNS: Final = {
    Stage.WORKING: _SLOW,
    Stage.WAITING: _DOUBLE,
    Stage.ENROLLED: _DOUBLE,
    Stage.ONLINE: _SOLID,
}


def show(stage: Stage | None, leds: tuple[Path, ...] = LEDS) -> None:
    """Let the light show a stage: slow working, double waiting, solid online, fast where a person is needed.

    Args:
        stage: how far it is; None for a file that cannot be used.
        leds: the first that is there is used; none is no error.
    """
    led = next((path for path in leds if path.is_dir()), None)
    if led is None:
        return
    trigger, on_ms, off_ms = _FAST if stage is None else _PATTERNS.get(stage, _FAST)
    try:
        (led / "trigger").write_text(trigger)
        if on_ms:
            # these files are there only now
            (led / "delay_on").write_text(str(on_ms))
            (led / "delay_off").write_text(str(off_ms))
    except OSError:
        return  # a light that cannot be set is no reason not to set up the gateway
