# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The SX1261 takes its patch, listens before the concentrator talks, and scans."""

from __future__ import annotations

import json
import lzma

import pytest

from drivers.emulator import Emulator
from drivers.emulator.chip import Chip
from drivers.emulator.sx1261 import PATCH_WORDS, Sx1261
from tests.drivers.emulator.bench import EUI, Bench, Row, rows
from tests.drivers.emulator.test_emulator import ManualClock
from tests.drivers.emulator.test_tx import BASES, program
from tests.drivers.recorded import FOLDER

VERSION = bytes.fromhex("1d0320") + bytes(16)
BLOCKED_PHASE = "tx 868.1 SF9, channel rssi -50 dBm, LBT threshold -70"


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def radio(clock: Clock) -> Sx1261:
    radio = Sx1261(clock)
    radio.drive(supplied=True, running=True)
    return radio


def patch(radio: Sx1261, words: int = PATCH_WORDS) -> None:
    radio.transfer(bytes.fromhex("0d061010"))
    for word in range(words):
        radio.transfer(b"\x0d" + (0x8000 + 4 * word).to_bytes(2, "big") + bytes(4))
    radio.transfer(bytes.fromhex("0d061000"))
    radio.transfer(b"\xd9")


TIMED_REGISTERS = {"6101", "5211", "58c8"}
AGC_STATUS = "5781"
"""While a packet waits, the moment of the decision shows in it, which the record puts 1.5 ms earlier."""


class Replay:
    """The record of a run with listen before talk, played into a chip."""

    def __init__(self, counter_start_us: int) -> None:
        self.chip = Chip(eui=EUI, counter_start_us=counter_start_us)
        self.chip.sx1261_fitted = True
        self.differences: list[tuple[int, str, str]] = []
        self.lag_us = 0
        text = lzma.decompress((FOLDER / "hal_trace_pktfwd_lbt_sx1261.jsonl.xz").read_bytes()).decode()
        frames = {row.number: row for row in rows("pktfwd_lbt_sx1261")}
        for row in map(json.loads, text.splitlines()):
            if row.get("mark") == BLOCKED_PHASE:
                self.chip.sx1261.channel_dbm = -50
            if row.get("n") in frames:
                self._concentrator(frames[row["n"]])
            elif row.get("dev") == "spidev0.1":
                mosi = bytes.fromhex(row["mosi"]) + bytes(row.get("body_len", 0))
                answer = self.chip.transfer_sx1261(mosi, row["t_us"] * 1000).hex()
                if answer != row.get("miso", answer):
                    self.differences.append((row["n"], answer, row["miso"]))

    def _concentrator(self, row: Row) -> None:
        answer = self.chip.transfer(row.mosi, row.at_us * 1000)
        timed = TIMED_REGISTERS | ({AGC_STATUS} if self.chip.tx[0].emission else set())
        if row.miso not in {None, answer} and row.mosi[1:3].hex() not in timed:
            self.differences.append((row.number, row.mosi.hex(), answer.hex()))
        if row.mosi.startswith(b"\0\x61\x01") and not self.lag_us and row.miso:
            self.lag_us = (int.from_bytes(row.miso[-4:], "big") - int.from_bytes(answer[-4:], "big")) // 32


def test_a_recorded_run_with_one_packet_sent_and_one_blocked() -> None:
    # a second time with the counter in step, so that packets leave when they did
    replay = Replay(Replay(0).lag_us)
    assert replay.differences == []
    assert [emission.outcome for emission in replay.chip.emissions] == ["sent", "blocked"]
    assert not replay.chip.complaints


@pytest.mark.parametrize(
    ("chain", "channel_dbm", "outcome", "status"),
    [(0, -120.0, "sent", 0x01), (0, -50.0, "blocked", 0x41), (1, -120.0, "sent", 0x02), (1, -50.0, "blocked", 0x82)],
)
def test_the_agc_decides_shortly_before_departure_and_is_acknowledged(
    receiving: Bench, chain: int, channel_dbm: float, outcome: str, status: int
) -> None:
    chip, base = receiving.chip, BASES[chain]
    chip.agc.lbt = True  # as its handshake would have asked for
    chip.sx1261_fitted = True
    patch(chip.sx1261)
    chip.sx1261.transfer(bytes.fromhex("82ffffff"))
    chip.sx1261.transfer(bytes.fromhex("9a0b00188c01"))
    chip.sx1261.channel_dbm = channel_dbm
    program(receiving, base)
    leave = receiving.counter() + 10_000 * 32
    receiving.write(base + 1, *(leave - 47413).to_bytes(4, "big"))
    receiving.write(base, 2)
    receiving.wait_us(8_400)
    assert receiving.read(0x5781) == b"\0"
    receiving.wait_us(200)
    assert receiving.read(0x5781)[0] == status
    receiving.write(0x578C, 0xFF)
    assert receiving.read(0x5781) == b"\0"
    receiving.write(0x578C, 0)
    receiving.wait_us(200_000)
    assert chip.emissions[0].outcome == outcome
    assert receiving.read(base + 0x11) == b"\x80"


def test_the_patch_is_needed_whole(radio: Sx1261) -> None:
    assert radio.transfer(VERSION)[4:] == b"SX1261 V2D 2D02"
    patch(radio, PATCH_WORDS - 1)
    assert radio.transfer(VERSION)[4:] == b"SX1261 V2D 2D02"
    patch(radio)
    assert radio.transfer(VERSION)[4:] == b"SX1261 V2D 2D06"
    radio.drive(supplied=True, running=False)
    radio.drive(supplied=True, running=True)
    assert not radio.patched


def test_it_listens_only_when_patched_and_receiving(radio: Sx1261) -> None:
    listen = bytes.fromhex("9a0b00188c01")
    radio.channel_dbm = -50
    radio.transfer(listen)
    assert not radio.busy()
    patch(radio)
    radio.transfer(listen)
    assert not radio.busy()
    radio.transfer(bytes.fromhex("82ffffff"))
    radio.transfer(listen)
    assert radio.busy()
    radio.channel_dbm = -70.5
    assert [radio.busy()] == [False]
    radio.channel_dbm = -50
    radio.transfer(bytes.fromhex("0d089b00"))
    assert [radio.busy()] == [False]


def read(radio: Sx1261, address: int, length: int) -> bytes:
    return radio.transfer(b"\x1d" + address.to_bytes(2, "big") + bytes(1 + length))[4:]


def test_a_scan_counts_levels(radio: Sx1261, clock: Clock) -> None:
    patch(radio)
    radio.channel_dbm = -100
    radio.transfer(bytes.fromhex("82ffffff"))
    assert read(radio, 0x07CD, 1) == b"\x00"
    radio.transfer(bytes.fromhex("9b03e80b"))
    assert read(radio, 0x07CD, 1) == b"\x0f"
    assert read(radio, 0x0401, 66) == bytes(66)
    clock.now_ns += 8_200_000
    assert read(radio, 0x07CD, 1) == b"\xff"
    results = read(radio, 0x0401, 66)
    counts = [int.from_bytes(results[at : at + 2], "big") for at in range(0, 66, 2)]
    assert sum(counts) == 1000
    assert counts.index(max(counts)) == 25


def test_a_scan_can_be_aborted(radio: Sx1261, clock: Clock) -> None:
    patch(radio)
    radio.transfer(bytes.fromhex("82ffffff"))
    radio.transfer(bytes.fromhex("9bffff0b"))
    radio.transfer(bytes.fromhex("0d089b00"))
    clock.now_ns += 1_000_000_000
    assert read(radio, 0x07CD, 1) == b"\xf0"


@pytest.mark.parametrize(("channel_dbm", "raw"), [(-120, 240), (-70.5, 141), (0, 0), (20, 0), (-200, 255)])
def test_it_tells_the_level_while_it_receives(radio: Sx1261, channel_dbm: float, raw: int) -> None:
    # GetRssiInst, as the vendor's RSSI test sends it: status, then -2 times the level
    radio.channel_dbm = channel_dbm
    radio.transfer(bytes.fromhex("82ffffff"))
    assert radio.transfer(bytes.fromhex("150000"))[1:] == bytes((0x52, raw))
    assert radio.transfer(bytes.fromhex("c000"))[1] == 0x52


def test_it_has_no_level_to_tell_while_it_does_not_receive(radio: Sx1261) -> None:
    radio.channel_dbm = -50
    assert radio.transfer(bytes.fromhex("150000"))[2] == 0x22
    assert radio.transfer(bytes.fromhex("c000"))[1] == 0x28


def test_a_board_has_it_or_not() -> None:
    status = bytes.fromhex("c000")
    assert Emulator(monotonic_ns=ManualClock()).transfer(status, 1) == bytes(2)
    fitted = Emulator(monotonic_ns=ManualClock(), sx1261=True)
    assert fitted.transfer(status, 1) == b"\x22\x22"
    fitted.set_gpio(22, high=False)
    assert fitted.transfer(status, 1) == bytes(2)
    fitted.set_gpio(22, high=True)
    assert fitted.transfer(status, 1) == b"\x22\x22"
    with pytest.raises(ValueError, match="rssi_dbm"):
        fitted.set_channel(100)
