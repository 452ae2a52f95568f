# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the drivers raise.

One root, `DriverError`; each leaf also descends from the built-in it resembles, so that code which knows nothing of
us can still catch it. Every error names the operation, the place (register, path, pin), the cause, and the next step
for the person at the gateway.
"""

from __future__ import annotations


class DriverError(Exception):
    """A fault in the hardware or on the way to it.

    Args:
        what: what went wrong, one clause, with the value that was found.
        op: the operation that failed, e.g. "start", "receive", "transfer".
        where: the thing it failed on: a register name, a device path, a pin.
        hint: one sentence for a technician: what to check or do next.
        code: stable identifier, e.g. "CG-SPI-002".
        retryable: whether the same call may succeed later without anybody doing anything.
    """

    exit_code = 3
    """Of a command that ends with it: hardware."""

    def __init__(self, what: str, *, op: str, where: str, hint: str, code: str, retryable: bool = False) -> None:
        super().__init__(f"{op}: {where}: {what}")
        self.what = what
        self.op = op
        self.where = where
        self.hint = hint
        self.code = code
        self.retryable = retryable


class BusError(DriverError, OSError):
    """The bus itself failed: no device, no permission, a transfer that did not complete."""


class ChipError(DriverError, RuntimeError):
    """The chip answered, but not as the SX1302/SX1250 of the reference does."""


class HandshakeTimeoutError(ChipError, TimeoutError):
    """A microcontroller or radio did not reach the expected state within its limit."""


class FirmwareError(DriverError, ValueError):
    """A firmware image is missing, damaged, or not the one the chip needs."""


class ProfileError(DriverError, ValueError):
    """A board profile, channel plan or scenario cannot be used as it is written."""

    exit_code = 2


class ForbiddenTransmissionError(DriverError, PermissionError):
    """A transmission outside what board and regulation allow; the chip was not touched."""
