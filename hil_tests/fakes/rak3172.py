# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A RAK3172 as its driver meets it. Not modelled: joining, flash, sleep, the time that a packet takes on the air."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hil_tests.bench.roles import RadioSettings
from hil_tests.fakes.device import Air, FakeModule

NEW_FIRMWARE = "RUI_4.0.6_RAK3172-E"
OLD_FIRMWARE = "V1.0.4"
REBOOT_S = 0.05
_BANDWIDTHS = {0: 125_000, 1: 250_000, 2: 500_000}


class FakeRak3172(FakeModule):
    """The module.

    Args:
        link: of its port.
        air: where it sends and hears.
        firmware: its version; up to 1.0.4 it takes the bandwidth in kHz and answers with the value alone.
        lorawan: it comes up in LoRaWAN mode, as from the factory.
        busy: so many transmissions are answered with AT_BUSY_ERROR first.
        early_events: the event of a transmission comes before the OK of its command.
        chatter: an event that nobody asked for before each answer.
        deaf: it never says that a packet is sent.
    """

    def __init__(
        self,
        link: Path,
        air: Air,
        *,
        firmware: str = NEW_FIRMWARE,
        lorawan: bool = True,
        busy: int = 0,
        early_events: bool = False,
        chatter: bool = False,
        deaf: bool = False,
    ) -> None:
        super().__init__(link)
        self._air = air
        self._firmware = firmware
        self._old = firmware == OLD_FIRMWARE
        self._lorawan = lorawan
        self._busy = busy
        self._early = early_events
        self._chatter = chatter
        self._deaf = deaf
        # Some come up receiving, and refuse parameters until that is ended.
        self._receiving = not lorawan
        self._settings = RadioSettings(868_000_000, 7, public=False)

    def idle(self) -> None:
        """Tell what is heard."""
        if self._receiving and (heard := self._air.heard(0.0)) is not None:
            self.say(f"+EVT:RXP2P:{round(heard.rssi_dbm)}:{round(heard.snr_db)}:{heard.payload.hex().upper()}")

    def carry_out(self, command: str) -> None:
        """Do what a line says."""
        if self._chatter:
            self.say("+EVT:SOMETHING NEW")
        name, _, value = command.partition("=")
        match name, value:
            case "AT", "":
                self.say("OK")
            case "AT+VER" | "AT+SN" | "AT+NWM", "?":
                said = {"AT+VER": self._firmware, "AT+SN": "AC1F09FFFE0012AB", "AT+NWM": str(int(self._lorawan))}[name]
                self.say(said if self._old else f"{name}={said}", "OK")
            case "AT+NWM", ("0" | "1"):
                self._lorawan, self._receiving = value == "1", value == "0"
                self.wait(REBOOT_S)
                self.say("RAKwireless RAK3172-E", f"Current Work Mode: LoRa {'P2P' if value == '0' else 'WAN'}.")
            case _ if self._lorawan:
                self.say("AT_ERROR")
            case "AT+PRECV", _:
                self._receive(value)
            case (("AT+P2P" | "AT+SYNCWORD" | "AT+IQINVER" | "AT+PSEND"), _) if self._receiving:
                self.say("P2P_RX_ON already, please disable P2P RX before setting.", "AT_BUSY_ERROR")
            case "AT+P2P", _:
                self._set(value)
            case "AT+SYNCWORD", _ if len(value) == 4:
                self._settings = replace(self._settings, public=value == "3444")
                self.say("OK")
            case "AT+IQINVER", ("0" | "1"):
                self._settings = replace(self._settings, inverted=value == "1")
                self.say("OK")
            case "AT+PSEND", _:
                self._send(value)
            case _:
                self.say("AT_ERROR")

    def _receive(self, value: str) -> None:
        if not value.isdigit() or not 0 <= int(value) <= 65535:
            self.say("AT_PARAM_ERROR")
        elif self._receiving and value != "0":
            self.say("AT_BUSY_ERROR")
        else:
            self._receiving = value != "0"
            if self._receiving:
                self._air.configure(self._settings)
                self._air.listen()
            self.say("OK")

    def _set(self, value: str) -> None:
        try:
            frequency_hz, sf, bandwidth, rate, preamble, power_dbm = map(int, value.split(":"))
            bandwidth_hz = bandwidth * 1000 if self._old else _BANDWIDTHS[bandwidth]
        except (ValueError, KeyError):
            self.say("AT_PARAM_ERROR")
            return
        if bandwidth_hz not in _BANDWIDTHS.values() or not (5 <= power_dbm <= 22 and 5 <= sf <= 12 and 0 <= rate <= 3):
            self.say("AT_PARAM_ERROR")
            return
        self._settings = replace(
            self._settings,
            frequency_hz=frequency_hz,
            sf=sf,
            bandwidth_hz=bandwidth_hz,
            coding_rate=rate + 1,
            preamble_symbols=preamble,
            power_dbm=power_dbm,
        )
        self.say("OK")

    def _send(self, value: str) -> None:
        try:
            payload = bytes.fromhex(value)
        except ValueError:
            payload = b""
        if not payload or len(payload) > 255:
            self.say("AT_PARAM_ERROR")
            return
        if self._busy:
            self._busy -= 1
            self.say("AT_BUSY_ERROR")
            return
        self._air.configure(self._settings)
        self._air.transmit(payload)
        lines = ["+EVT:TXP2P DONE", "OK"] if self._early else ["OK", "+EVT:TXP2P DONE"]
        self.say(*(line for line in lines if not (self._deaf and line.startswith("+EVT"))))
