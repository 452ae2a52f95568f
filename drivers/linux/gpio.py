# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Output lines on the Raspberry Pi's header, through the GPIO character device.

The header's controller is found by its label: the number of its character device differs between models and
kernels (a Pi 5 had the header on gpiochip4, and has it on gpiochip0 again), and the numbers of the old
sysfs interface are gone for good.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from drivers.errors import BusError
from drivers.linux import gpiochip

if TYPE_CHECKING:
    from drivers.boards import GpioLine

HEADER_LABELS: Final = ("pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1")
"""Labels of the controllers behind the 40-pin header: Pi 0 to 3, Pi 4, Pi 5."""

BUS_LINES: Final = frozenset({0, 1, 2, 3, 7, 8, 9, 10, 11, 14, 15})
"""Lines of the header with a bus on them: I2C, SPI0, UART."""

PLAIN_LINES: Final = frozenset(range(28)) - BUS_LINES
"""Lines of the header that may be tried; those from 28 on lead to flash, card and radio of the Pi itself."""


class HeaderLine:
    """An output on the header.

    The line is claimed when it is first driven, and at once with that level: opening it disturbs nothing,
    so that a chip that is still receiving can be asked for its frames before it is reset.

    Args:
        line: number and polarity.
    """

    def __init__(self, line: GpioLine) -> None:
        self._line = line
        self._chip: int | None = None

    def set(self, *, active: bool) -> None:
        """Drive the line to its active or inactive level.

        Raises:
            BusError: there is no such line, it is used by something else, or this user may not drive it.
        """
        lgpio = _lgpio()
        level = int(active == self._line.active_high)
        try:
            if self._chip is None:
                chip = _open_controller(lgpio, self._line.controller)
                try:
                    lgpio.gpio_claim_output(chip, self._line.number, level)
                except lgpio.error:
                    lgpio.gpiochip_close(chip)
                    raise
                self._chip = chip
            else:
                lgpio.gpio_write(self._chip, self._line.number, level)
        except lgpio.error as error:
            where = f"GPIO{self._line.number}"
            hint = "another program or overlay uses the line (gpioinfo shows which), or the board profile is wrong"
            if self._line.controller is not None:
                where = f"line {self._line.number} of {self._line.controller}"
            raise _error("drive", where, str(error).strip("'"), hint, "CG-GPIO-003") from error

    def let_go(self) -> None:
        """Drive the line inactive, make it an input again, as it was before anybody drove it, and release it."""
        if self._chip is not None:
            lgpio = _lgpio()
            with suppress(lgpio.error):
                lgpio.gpio_write(self._chip, self._line.number, int(not self._line.active_high))
                lgpio.gpio_free(self._chip, self._line.number)
                lgpio.gpio_claim_input(self._chip, self._line.number)
        self.close()

    def close(self) -> None:
        """Release the line; closing twice is harmless. What level it then has is the kernel's choice."""
        if self._chip is not None:
            lgpio = _lgpio()
            with suppress(lgpio.error):
                lgpio.gpio_free(self._chip, self._line.number)
                lgpio.gpiochip_close(self._chip)
            self._chip = None


@cache
def _lgpio() -> Any:
    """Import lgpio; it leaves a FIFO in its working directory, so it is given one to throw away.

    Where it is missing, as in Debian's archive, what little is needed of it is asked of the kernel directly.
    """
    if find_spec("lgpio") is None:
        return gpiochip
    working_directory, setting = Path.cwd(), os.environ.get("LG_WD")
    with TemporaryDirectory(prefix="civigate-lgpio-") as scratch:
        os.environ["LG_WD"] = scratch
        try:
            import lgpio  # noqa: PLC0415 - only here is it known where the FIFO goes
        finally:
            os.chdir(working_directory)
            del os.environ["LG_WD"]
            if setting is not None:
                os.environ["LG_WD"] = setting
    return lgpio


def _open_controller(lgpio: Any, wanted: str | None) -> int:
    """Open the controller of this label, or the header's.

    Raises:
        BusError: this machine has none, or this user may not open it.
    """
    wanted_labels = HEADER_LABELS if wanted is None else (wanted,)
    devices = sorted(Path("/dev").glob("gpiochip*"))
    labels = []
    for device in devices:
        try:
            chip: int = lgpio.gpiochip_open(int(device.name.removeprefix("gpiochip")))
        except lgpio.error as error:
            if not os.access(device, os.R_OK | os.W_OK):
                hint = "add the user that runs this to the group of the device (ls -l shows it, mostly gpio)"
                what = "may not be opened by this user"
                raise _error("open", str(device), what, hint, "CG-GPIO-001") from error
            labels.append(f"{device.name} ({error})")
            continue
        label: str = lgpio.gpio_get_chip_info(chip)[3]
        if label in wanted_labels:
            return chip
        lgpio.gpiochip_close(chip)
        labels.append(f"{device.name} ({label})")
    found = ", ".join(labels) or "none"
    hint = f"expected one of {', '.join(wanted_labels)}; found {found}"
    what = "this machine has no Raspberry Pi header" if wanted is None else "this machine has no such GPIO controller"
    raise _error("open", wanted or "GPIO header", what, hint, "CG-GPIO-002")


def _error(op: str, where: str, what: str, hint: str, code: str) -> BusError:
    return BusError(what, op=op, where=where, hint=hint, code=code)
