# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A RAK3172 with RUI3 firmware as reference node, in its point-to-point mode.

An event may land between a command and its `OK`, so lines are told apart by their prefix and never by their order.
Firmware up to 1.0.4 takes the bandwidth in kHz [RAK, RUI3 AT command manual; public drivers that agree on words].
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from drivers.bus import SerialPort
from hil_tests.bench.roles import BenchError, NodeIdentity, NodeReception, RadioSettings, TxReport
from hil_tests.nodes.dialogue import Dialogue

BAUD: Final = 115_200
ANSWER_S: Final = 5.0
REBOOT_S: Final = 20.0
SENT_S: Final = 15.0
"""The longest packet, SF12 and 255 bytes, is 9 s on the air."""
BUSY_TRIES: Final = 20
BUSY_PAUSE_S: Final = 0.1
BANNER: Final = "Current Work Mode"
FOREVER: Final = 65_534
PUBLIC, PRIVATE = "3444", "1424"
"""Sync words as the SX126x has them; what LoRaWAN calls 0x34 and 0x12."""
_BANDWIDTHS: Final = {125_000: (0, 125), 250_000: (1, 250), 500_000: (2, 500)}
_RECEPTION: Final = re.compile(r"\+EVT:RXP2P:(-?\d+):(-?\d+):([0-9A-Fa-f]*)$")


class Rak3172:
    """The module on a port.

    Args:
        open_port: opens it, at 115200 baud.
    """

    powers_dbm = range(5, 23)

    def __init__(self, open_port: Callable[[], SerialPort]) -> None:
        self._talk = Dialogue(open_port, "node")
        self._events: deque[tuple[str, int]] = deque(maxlen=1000)
        self._settings: RadioSettings | None = None
        self._identity: NodeIdentity | None = None
        self._listening = True  # it may have been left so

    def identify(self) -> NodeIdentity:
        """Ask for version and serial number.

        Raises:
            BenchError: it does not answer as this module does.
        """
        if self._identity is None:
            self._identity = NodeIdentity("RAK3172", self._ask("AT+SN=?"), self._ask("AT+VER=?"))
        return self._identity

    def configure(self, settings: RadioSettings) -> None:
        """Go to point-to-point mode and set all parameters.

        Raises:
            BenchError: it refuses one.
        """
        if self._ask("AT+NWM=?") != "0":
            self._talk.say("AT+NWM=0")
            self._reboot()
            self._listening = True  # it may receive from the start
        self._quiet()
        index, khz = _BANDWIDTHS[settings.bandwidth_hz]
        bandwidth = khz if self._is_old() else index
        self._order(
            f"AT+P2P={settings.frequency_hz}:{settings.sf}:{bandwidth}:{settings.coding_rate - 1}"
            f":{settings.preamble_symbols}:{settings.power_dbm}"
        )
        self._order(f"AT+SYNCWORD={PUBLIC if settings.public else PRIVATE}")
        self._order(f"AT+IQINVER={int(settings.inverted)}")
        self._settings = settings

    def transmit(self, payload: bytes) -> TxReport:
        """Send one packet and wait for the event that it is sent.

        Raises:
            BenchError: it does not say so in time, or refuses.
        """
        settings = self._settings
        if settings is None:
            raise BenchError("transmits before it was configured", role="node", hint="configure it first")
        self._quiet()
        self._order(f"AT+PSEND={payload.hex().upper()}")
        done = self._event("+EVT:TXP2P", time.monotonic() + SENT_S)
        if done is None:
            raise BenchError(f"does not say within {SENT_S:g} s that it has sent", role="node", hint="reset the node")
        return TxReport(payload, settings, done[1])

    def listen(self) -> None:
        """Receive until told otherwise.

        Raises:
            BenchError: it refuses.
        """
        self._quiet()
        self._events.clear()
        self._listening = True
        self._order(f"AT+PRECV={FOREVER}")

    def heard(self, within_s: float) -> NodeReception | None:
        """Return the next packet that it reports."""
        deadline = time.monotonic() + within_s
        while (event := self._event("+EVT:RXP2P", deadline)) is not None:
            found = _RECEPTION.match(event[0])
            if found is not None:
                rssi, snr, data = found.groups()
                return NodeReception(bytes.fromhex(data), float(rssi), float(snr), event[1])
        return None

    def close(self) -> None:
        """Release the port."""
        self._talk.close()

    def _is_old(self) -> bool:
        found = re.search(r"(\d+)\.(\d+)\.(\d+)", self.identify().firmware)
        if found is None:
            hint = "see what AT+VER=? says on its port"
            raise BenchError(f"unknown firmware {self.identify().firmware!r}", role="node", hint=hint)
        return tuple(map(int, found.groups())) <= (1, 0, 4)

    def _quiet(self) -> None:
        """End reception; parameters are refused meanwhile."""
        if self._listening:
            self._order("AT+PRECV=0")
            self._listening = False

    def _ask(self, command: str) -> str:
        """Return the value that a command answers with; newer firmware repeats the command before it."""
        value = self._order(command)
        return value.removeprefix(command.removesuffix("?")).strip()

    def _order(self, command: str) -> str:
        """Carry out a command; return the value that came before its OK, "" without.

        Raises:
            BenchError: it refuses, stays busy, or does not answer.
        """
        status = ""
        for _ in range(BUSY_TRIES):
            for late in self._talk.settle():
                self._note(late)
            self._talk.say(command)
            status, value = self._answer(command)
            if status == "OK":
                return value
            if status != "AT_BUSY_ERROR" or command.startswith("AT+PRECV=0"):
                break
            time.sleep(BUSY_PAUSE_S)
        what = command.split("=", maxsplit=1)[0]
        raise BenchError(f"{what}: {status}", role="node", hint="see what the node is doing")

    def _answer(self, command: str) -> tuple[str, str]:
        deadline = time.monotonic() + ANSWER_S
        value = ""
        while (line := self._talk.hear(deadline)) is not None:
            if line == "OK" or line.startswith("AT_"):
                return line, value
            if line.startswith("+EVT:"):
                self._note(line)
            elif line != command:  # not its echo
                value = line
        return "no answer", value

    def _note(self, line: str) -> None:
        if line.startswith("+EVT:"):
            self._events.append((line, time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)))

    def _event(self, prefix: str, deadline: float) -> tuple[str, int] | None:
        while True:
            while self._events:
                event = self._events.popleft()
                if event[0].startswith(prefix):
                    return event
            line = self._talk.hear(deadline)
            if line is None:
                return None
            self._note(line)

    def _reboot(self) -> None:
        deadline = time.monotonic() + REBOOT_S
        while (line := self._talk.hear(deadline)) is not None:
            if line.startswith(BANNER):
                return
        raise BenchError(f"no banner within {REBOOT_S:g} s of a change of mode", role="node", hint="reset the node")
