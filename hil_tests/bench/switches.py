# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Power switches on serial ports: a relay board, or a modem line that drives a transistor.

Opening the port must switch nothing. The kernel raises DTR and RTS when it opens a port; they are told what they shall
be before, and for how short a time they are not is a matter of the adapter (only hardware can show): a relay board that
takes bytes does not look at them, which is why it is the better choice.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import serial  # type: ignore[import-untyped]  # it has no types, and its stubs are no dependency of ours

from hil_tests.bench.roles import BenchError

RELAY_BAUD: Final = 9600
_START: Final = 0xA0
_WRITE_LIMIT_S: Final = 2.0


def relay_order(channel: int, *, energised: bool) -> bytes:
    """Return the four bytes that switch a relay: A0, channel, state, and the sum of these."""
    order = bytes([_START, channel, int(energised)])
    return order + bytes([sum(order) & 0xFF])


class RelayPower:
    """Power by a relay board.

    Args:
        device: its port.
        channel: of the relay, from 1.
        on_when_energised: how the supply is wired: through the contact that closes when the relay is energised, or
            through the one that opens.

    The board does not say how it stands; the supply is taken to be on until it is switched.
    """

    def __init__(self, device: str, channel: int = 1, *, on_when_energised: bool = False) -> None:
        self._port = _opened(device, dtr=None, rts=None)
        self._channel = channel
        self._on_when_energised = on_when_energised
        self._on = True

    def on(self) -> None:
        """Give the supply."""
        self._switch(on=True)

    def off(self) -> None:
        """Cut it."""
        self._switch(on=False)

    def is_on(self) -> bool:
        """Say how it was left."""
        return self._on

    def close(self) -> None:
        """Release the port; the relay stays as it is."""
        with suppress(OSError):
            self._port.close()

    def _switch(self, *, on: bool) -> None:
        order = relay_order(self._channel, energised=on is self._on_when_energised)
        try:
            self._port.write(order)
            self._port.flush()
        except (OSError, serial.SerialException) as error:
            raise BenchError(f"the relay is gone: {error}", role="power", hint="check its plug") from error
        self._on = on


class LinePower:
    """Power by the DTR or RTS line of a USB serial adapter.

    Args:
        device: its port.
        line: "dtr" or "rts".
        on_when_set: whether the supply is on when the line is set.
        port: makes the port; another one in tests.
    """

    def __init__(
        self,
        device: str,
        line: str = "rts",
        *,
        on_when_set: bool = False,
        port: Callable[[], serial.Serial] = serial.Serial,
    ) -> None:
        self._line = line
        self._on_when_set = on_when_set
        self._on = True
        # Both lines are told what they shall be before the port is opened.
        self._port = _opened(device, port=port, dtr=on_when_set, rts=on_when_set)

    def on(self) -> None:
        """Give the supply."""
        self._switch(on=True)

    def off(self) -> None:
        """Cut it."""
        self._switch(on=False)

    def is_on(self) -> bool:
        """Say how it was left."""
        return self._on

    def close(self) -> None:
        """Release the port."""
        with suppress(OSError):
            self._port.close()

    def _switch(self, *, on: bool) -> None:
        try:
            setattr(self._port, self._line, on is self._on_when_set)
        except (OSError, serial.SerialException) as error:
            raise BenchError(f"the adapter is gone: {error}", role="power", hint="check its plug") from error
        self._on = on


def _opened(
    device: str, *, dtr: bool | None, rts: bool | None, port: Callable[[], serial.Serial] = serial.Serial
) -> serial.Serial:
    opened = port()
    opened.port, opened.baudrate, opened.exclusive = device, RELAY_BAUD, True
    opened.write_timeout = _WRITE_LIMIT_S
    if dtr is not None:
        opened.dtr = dtr
    if rts is not None:
        opened.rts = rts
    try:
        opened.open()
    except (OSError, serial.SerialException) as error:
        raise BenchError(f"cannot be opened: {error}", role="power", hint=f"check {device} and its plug") from error
    return opened
