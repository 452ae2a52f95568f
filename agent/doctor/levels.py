# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How loud are the channels when nobody of ours sends?

A receiver with a noise figure of 6 dB hears -117 dBm in 125 kHz where there is nothing (-174 dBm/Hz and 51 dB for the
bandwidth). Each 6 dB more halve the distance at which a device is heard in the open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.doctor.causes import found
from agent.doctor.finding import Finding, Value, ok, skipped

LOUD_DBM: Final = -105.0
"""12 dB above the receiver's own noise."""
OWN_NOISE_DBM: Final = -114.0
"""What a receiver hears of itself, and some tolerance: levels below tell of no antenna, or of a quiet place."""
ALIKE_DB: Final = 1.0


def judge(noise_dbm: Mapping[int, float]) -> Finding:
    """Judge the noise of channels.

    Args:
        noise_dbm: median level by frequency in hertz.
    """
    if not noise_dbm:
        return skipped("noise", "no channel could be measured")
    values: dict[str, Value] = {f"noise_{hertz}_dbm": round(level, 1) for hertz, level in sorted(noise_dbm.items())}
    low, high = min(noise_dbm.values()), max(noise_dbm.values())
    said = f"{low:.0f} dBm" if round(low) == round(high) else f"{low:.0f} to {high:.0f} dBm"
    loud = sorted(hertz for hertz, level in noise_dbm.items() if level > LOUD_DBM)
    if not loud:
        return ok("noise", f"{said} on {len(noise_dbm)} channels", values)
    if len(loud) == len(noise_dbm):
        return found("noisy-site", "noise", f"{said} on all {len(noise_dbm)} channels", values)
    names = ", ".join(f"{hertz / 1e6:.1f} MHz {noise_dbm[hertz]:.0f} dBm" for hertz in loud)
    return found("noisy-channel", "noise", f"{names}; the quietest has {low:.0f} dBm", values)


def only_itself(noise_dbm: Mapping[int, float]) -> bool:
    """Say whether all channels are as quiet and as alike as without an antenna."""
    if len(noise_dbm) < 4:
        return False
    low, high = min(noise_dbm.values()), max(noise_dbm.values())
    return high <= OWN_NOISE_DBM and high - low <= ALIKE_DB
