# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The STTS751 temperature sensor that some concentrator boards carry beside the radios.

It corrects the RSSI by about 1 dB, and nothing else; so a board without it, or one whose sensor fails, receives all
the same. The vendor's software refuses to start without it, and ends when a reading fails [HAL 2.1.0 loragw_stts751].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.errors import ChipError

if TYPE_CHECKING:
    from drivers.bus import Clock, I2cDevice

TEMPERATURE_HIGH: Final = 0x00
TEMPERATURE_LOW: Final = 0x02
CONFIGURATION: Final = 0x03
RATE: Final = 0x04
PRODUCT: Final = 0xFD
MANUFACTURER: Final = 0xFE

PRODUCTS: Final = (0x00, 0x01)
STMICROELECTRONICS: Final = 0x53
TWELVE_BITS_NO_EVENT: Final = 0x8C
ONCE_PER_SECOND: Final = 4
AGE_LIMIT_NS: Final = 10_000_000_000
"""A reading serves for ten seconds: a board warms up over minutes."""


def answers(device: I2cDevice) -> bool:
    """Say whether an STTS751 is at an address; changes nothing.

    Raises:
        BusError: nobody is.
    """
    return device.read(MANUFACTURER) == STMICROELECTRONICS and device.read(PRODUCT) in PRODUCTS


class Stts751:
    """A sensor that answered as an STTS751 does.

    Args:
        device: the sensor on its bus.
        clock: host time.

    Raises:
        BusError: nothing acknowledges.
        ChipError: something else does.
    """

    def __init__(self, device: I2cDevice, clock: Clock) -> None:
        self._device = device
        self._clock = clock
        self._celsius = 0.0
        self._read_ns: int | None = None
        product, manufacturer = (device.read(register) for register in (PRODUCT, MANUFACTURER))
        if product not in PRODUCTS or manufacturer != STMICROELECTRONICS:
            raise ChipError(
                f"answers as product 0x{product:02X} of manufacturer 0x{manufacturer:02X}, not as an STTS751",
                op="start",
                where="temperature sensor",
                hint="check [temperature] in the board profile; the board works without it as well",
                code="CG-TEMP-001",
            )
        device.write(CONFIGURATION, TWELVE_BITS_NO_EVENT)
        device.write(RATE, ONCE_PER_SECOND)

    def celsius(self) -> float:
        """Return the temperature in degrees Celsius, not older than ten seconds.

        Raises:
            BusError: the sensor does not acknowledge.
        """
        now_ns = self._clock.monotonic_ns()
        if self._read_ns is None or now_ns - self._read_ns >= AGE_LIMIT_NS:
            low, high = self._device.read(TEMPERATURE_LOW), self._device.read(TEMPERATURE_HIGH)
            self._celsius = int.from_bytes((high, low), "big", signed=True) / 256
            self._read_ns = now_ns
        return self._celsius
