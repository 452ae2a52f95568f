# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a u-blox receiver is asked for: GPS time every second, and nothing that only fills the line.

Generations 4 to 9 take CFG-MSG; from generation 10 on there is only CFG-VALSET [u-blox 8 / M8 receiver description,
u-blox M10 SPG 5.10 interface description]. Both change what the receiver does until it loses its supply, and nothing
in its memory. A receiver of another make ignores them.
"""

from __future__ import annotations

from typing import Final

from pyubx2 import SET, UBXMessage

CFG_MSG: Final = (0x06, 0x01)
CFG_VALSET: Final = (0x06, 0x8A)

_NMEA: Final = 0xF0
_WANTED: Final = ((0x01, 0x20, 1), (_NMEA, 0x04, 1), (_NMEA, 0x00, 1))
"""NAV-TIMEGPS, RMC, GGA."""
_UNWANTED: Final = ((_NMEA, 0x01, 0), (_NMEA, 0x03, 0), (_NMEA, 0x05, 0))
"""GLL, GSV, VTG: at 9600 baud, with several systems in view, they alone can keep the line busy for a second."""
_KEYS: Final = (
    ("UBX_NAV_TIMEGPS", 1),
    ("NMEA_ID_RMC", 1),
    ("NMEA_ID_GGA", 1),
    ("NMEA_ID_GLL", 0),
    ("NMEA_ID_GSV", 0),
    ("NMEA_ID_VTG", 0),
)
_RAM: Final = 1
_NO_TRANSACTION: Final = 0


def ask_by_message() -> bytes:
    """Return settings for generations 4 to 9, for the port that they come by; the first is the one that counts."""
    return b"".join(
        UBXMessage("CFG", "CFG-MSG", SET, payload=bytes(setting)).serialize() for setting in (*_WANTED, *_UNWANTED)
    )


def ask_by_key(*, usb: bool) -> bytes:
    """Return the same for generations 9 and 10.

    Args:
        usb: the receiver's own USB port is the one that shall speak, not its first serial port.
    """
    port = "USB" if usb else "UART1"
    keys = [(f"CFG_MSGOUT_{name}_{port}", value) for name, value in _KEYS]
    message: bytes = UBXMessage.config_set(_RAM, _NO_TRANSACTION, keys).serialize()
    return message
