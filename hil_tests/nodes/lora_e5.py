# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A Seeed LoRa-E5 (Wio-E5) as reference node, in its test mode. Every answer begins with +NAME and a colon.

[Seeed, LoRa-E5 AT command specification; the order of RFCFG's fields as public drivers use it.] The coding rate is 4/5
and cannot be changed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from drivers.bus import SerialPort
from hil_tests.bench.roles import BenchError, NodeIdentity, NodeReception, RadioSettings, TxReport
from hil_tests.nodes.dialogue import Dialogue

BAUD: Final = 9600
ANSWER_S: Final = 5.0
SENT_S: Final = 15.0
BUSY_TRIES: Final = 20
BUSY_PAUSE_S: Final = 0.1
_MEASURED: Final = re.compile(r"\+TEST: LEN:(\d+), RSSI:(-?\d+), SNR:(-?\d+)")
_PAYLOAD: Final = re.compile(r'\+TEST: RX "([0-9A-Fa-f ]*)"')
_FAILED: Final = re.compile(r"\+[A-Z]+: ERROR")


class LoraE5:
    """The module on a port.

    Args:
        open_port: opens it, at 9600 baud unless it was changed.
    """

    powers_dbm = range(23)

    def __init__(self, open_port: Callable[[], SerialPort]) -> None:
        self._talk = Dialogue(open_port, "node")
        self._settings: RadioSettings | None = None
        self._identity: NodeIdentity | None = None
        self._in_test_mode = False
        self._measured: tuple[float, float] | None = None
        self._receptions: list[NodeReception] = []

    def identify(self) -> NodeIdentity:
        """Ask for version and DevEUI.

        Raises:
            BenchError: it does not answer as this module does.
        """
        if self._identity is None:
            version = self._order("AT+VER", "+VER:").removeprefix("+VER:").strip()
            eui = self._order("AT+ID=DevEui", "+ID: DevEui").rpartition(",")[2].strip()
            self._identity = NodeIdentity("LoRa-E5", eui, version)
        return self._identity

    def configure(self, settings: RadioSettings) -> None:
        """Go to test mode and set all parameters.

        Raises:
            BenchError: it refuses them, or repeats others than were given.
        """
        if settings.coding_rate != 1:
            raise BenchError("sends with coding rate 4/5 alone", role="node", hint="use another node for this test")
        if not self._in_test_mode:
            self._order("AT+MODE=TEST", "+MODE: TEST")
            self._in_test_mode = True
        khz = settings.bandwidth_hz // 1000
        preamble = settings.preamble_symbols
        said = self._order(
            f"AT+TEST=RFCFG,{settings.frequency_hz / 1e6:.3f},SF{settings.sf},{khz},{preamble},{preamble},"
            f"{settings.power_dbm},ON,{_switch(settings.inverted)},{_switch(settings.public)}",
            "+TEST: RFCFG",
        )
        for word in (f"F:{settings.frequency_hz}", f"SF{settings.sf},", f"BW{khz}K", f"POW:{settings.power_dbm}dBm"):
            if word not in f"{said},":
                raise BenchError(
                    f"took {said!r} for settings without {word!r}", role="node", hint="update its firmware"
                )
        self._settings = settings

    def transmit(self, payload: bytes) -> TxReport:
        """Send one packet and wait until it says that it is sent.

        Raises:
            BenchError: it does not say so in time, or refuses.
        """
        settings = self._settings
        if settings is None:
            raise BenchError("transmits before it was configured", role="node", hint="configure it first")
        self._order(f'AT+TEST=TXLRPKT,"{payload.hex().upper()}"', "+TEST: TX DONE", SENT_S)
        return TxReport(payload, settings, time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW))

    def listen(self) -> None:
        """Receive until the next transmission.

        Raises:
            BenchError: it refuses.
        """
        self._receptions.clear()
        self._order("AT+TEST=RXLRPKT", "+TEST: RXLRPKT")

    def heard(self, within_s: float) -> NodeReception | None:
        """Return the next packet that it reports."""
        deadline = time.monotonic() + within_s
        while not self._receptions:
            line = self._talk.hear(deadline)
            if line is None:
                return None
            self._note(line)
        return self._receptions.pop(0)

    def close(self) -> None:
        """Release the port."""
        self._talk.close()

    def _order(self, command: str, answer: str, within_s: float = ANSWER_S) -> str:
        """Carry out a command; return the line that begins with its answer.

        Raises:
            BenchError: it says ERROR again and again, or nothing of the kind.
        """
        problem = "no answer"
        for _ in range(BUSY_TRIES):
            for late in self._talk.settle():
                self._note(late)
            self._talk.say(command)
            deadline = time.monotonic() + within_s
            while (line := self._talk.hear(deadline)) is not None:
                if line.startswith(answer):
                    return line
                if _FAILED.match(line) or "busy" in line.lower():
                    problem = line
                    break
                self._note(line)
            if line is None or "busy" not in line.lower():
                break
            time.sleep(BUSY_PAUSE_S)
        what = command.split(",", maxsplit=1)[0]
        raise BenchError(f"{what}: {problem}", role="node", hint="see what the node is doing")

    def _note(self, line: str) -> None:
        """Keep what it heard: first how well, then what."""
        measured, payload = _MEASURED.match(line), _PAYLOAD.match(line)
        if measured is not None:
            self._measured = float(measured[2]), float(measured[3])
        elif payload is not None and self._measured is not None:
            at_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
            self._receptions.append(NodeReception(bytes.fromhex(payload[1]), *self._measured, at_ns))
            self._measured = None


def _switch(on: bool) -> str:
    return "ON" if on else "OFF"
