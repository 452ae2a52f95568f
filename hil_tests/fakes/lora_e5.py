# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A LoRa-E5 as its driver meets it. Not modelled: joining, sleep, the time that a packet takes on the air."""

from __future__ import annotations

from pathlib import Path

from hil_tests.bench.roles import RadioSettings
from hil_tests.fakes.device import Air, FakeModule

VERSION = "4.0.11"
DEV_EUI = "2C:F7:F1:20:32:50:12:AB"


class FakeLoraE5(FakeModule):
    """The module.

    Args:
        link: of its port.
        air: where it sends and hears.
        busy: so many transmissions are refused first, since it is still at the last one.
        deaf: it never says that a packet is sent.
        rounds: an old firmware that takes the frequency to a whole MHz, and says so.
    """

    def __init__(self, link: Path, air: Air, *, busy: int = 0, deaf: bool = False, rounds: bool = False) -> None:
        super().__init__(link)
        self._air = air
        self._busy = busy
        self._deaf = deaf
        self._rounds = rounds
        self._test_mode = False
        self._receiving = False

    def idle(self) -> None:
        """Tell what is heard."""
        if self._receiving and (heard := self._air.heard(0.0)) is not None:
            measured = f"+TEST: LEN:{len(heard.payload)}, RSSI:{round(heard.rssi_dbm)}, SNR:{round(heard.snr_db)}"
            self.say(measured, f'+TEST: RX "{heard.payload.hex().upper()}"')

    def carry_out(self, command: str) -> None:
        """Do what a line says."""
        name, _, value = command.partition("=")
        match name, value:
            case "AT", "":
                self.say("+AT: OK")
            case "AT+VER", "":
                self.say(f"+VER: {VERSION}")
            case "AT+ID", "DevEui":
                self.say(f"+ID: DevEui, {DEV_EUI}")
            case "AT+MODE", ("TEST" | "LWOTAA" | "LWABP"):
                self._test_mode = value == "TEST"
                self.say(f"+MODE: {value}")
            case "AT+TEST", _ if not self._test_mode:
                self.say("+TEST: ERROR(-12)")
            case "AT+TEST", _ if value.startswith("RFCFG,"):
                self._set(value.split(",")[1:])
            case "AT+TEST", "RXLRPKT":
                self._receiving = True
                self._air.listen()
                self.say("+TEST: RXLRPKT")
            case "AT+TEST", _ if value.startswith("TXLRPKT,"):
                self._send(value.partition(",")[2].strip().strip('"'))
            case _:
                self.say(f"+{name.removeprefix('AT+') or 'AT'}: ERROR(-10)")

    def _set(self, fields: list[str]) -> None:
        try:
            mhz, sf, khz, preamble, heard_preamble, power_dbm, crc, inverted, public = fields
            frequency_hz = int(float(mhz)) * 1_000_000 if self._rounds else round(float(mhz) * 1e6)
            settings = RadioSettings(
                frequency_hz,
                int(sf.removeprefix("SF")),
                int(khz) * 1000,
                1,
                int(power_dbm),
                int(preamble),
                inverted == "ON",
                public == "ON",
            )
        except ValueError:
            self.say("+TEST: ERROR(-1)")
            return
        self._receiving = False
        self._air.configure(settings)
        self.say(
            f"+TEST: RFCFG F:{frequency_hz}, {sf}, BW{khz}K, TXPR:{preamble}, RXPR:{heard_preamble}, "
            f"POW:{power_dbm}dBm, CRC:{crc}, IQ:{inverted}, NET:{public}"
        )

    def _send(self, value: str) -> None:
        try:
            payload = bytes.fromhex(value)
        except ValueError:
            payload = b""
        if not payload or len(payload) > 255:
            self.say("+TEST: ERROR(-1)")
            return
        if self._busy:
            self._busy -= 1
            self.say("+TEST: LoRa modem is busy")
            return
        self._receiving = False
        self.say(f'+TEST: TXLRPKT "{value}"')
        self._air.transmit(payload)
        if not self._deaf:
            self.say("+TEST: TX DONE")
