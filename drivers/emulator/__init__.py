# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A virtual SX1302/SX1303 concentrator at register level.

Software that drives the chip runs on it unchanged: in process through `Emulator.bus()`, or in a process of its own
(`drivers.emulator.remote`), where it survives its user's death as real hardware does.
"""

from drivers.emulator.air import AirPacket
from drivers.emulator.chip import Model
from drivers.emulator.emulator import Emulator

__all__ = ["AirPacket", "Emulator", "Model"]
