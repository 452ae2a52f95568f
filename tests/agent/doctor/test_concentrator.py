# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The right line for each fault of a concentrator that no agent uses; and none without a fault."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from agent.doctor import context
from drivers.emulator import AirPacket
from drivers.emulator.firmware import synthetic_agc, synthetic_arb
from drivers.emulator.gnss import NEVER_S, GnssPort, GnssSettings
from tests.agent.doctor.scene import Scene
from tests.drivers.bench import Bench

Capsys = pytest.CaptureFixture[str]
STOPPED = {"agent": "CG-DOC-010", "platform": "CG-DOC-631"}
"""What is always said of these gateways: no agent runs, and there is no platform."""


def test_a_healthy_concentrator(scene: Scene, capsys: Capsys) -> None:
    scene.tables["concentrator"] = (
        f'bus = "emulator:{scene.spi}"\nsx1261 = "emulator:{scene.spi}"\nboard = "semtech_corecell_eu868"'
    )
    look = scene.look(capsys)
    assert look.bad() == STOPPED
    for check in ("config", "bus", "firmware", "chip", "reset", "radios", "reception", "noise", "disk", "key", "clock"):
        assert look.one(check)["verdict"] == "ok", look.one(check)
    assert look.one("chip")["values"]["eui"] == "0016c001ff123456" == look.said["gateway"]["eui"]
    assert look.one("noise")["values"]["noise_868100000_dbm"] == -120
    assert look.said["simulated"] is True
    assert scene.emulator is not None
    stats = scene.emulator.stats()
    assert not stats.running, "left stopped"
    assert stats.complaints == 0
    assert scene.emulator.txlog() == []


@pytest.mark.parametrize(
    ("kind", "parameters", "check", "code", "word"),
    [
        ("miso", {"value": 0}, "chip", "CG-DOC-301", "0x00"),
        ("miso", {"value": 255}, "chip", "CG-DOC-302", "0xFF"),
        ("version", {"value": 0x21}, "chip", "CG-DOC-304", "0x21"),
        ("bus_error", {"times": 0}, "chip", "CG-DOC-208", "CG-"),
        ("radio_missing", {"radio": 0}, "radios", "CG-DOC-321", "radio A: no answer"),
        ("radio_missing", {"radio": 1}, "radios", "CG-DOC-321", "radio B: no answer"),
        ("image_calibration", {"radio": 1}, "reception", "CG-DOC-322", "calibration"),
        ("agc_stuck", {"status": 1}, "reception", "CG-DOC-342", "AGC"),
        ("silent", {"mcu": "agc"}, "reception", "CG-DOC-342", "AGC"),
        ("silent", {"mcu": "arb"}, "reception", "CG-DOC-342", "ARB"),
        ("readback", {"address": 17, "bit": 3}, "reception", "CG-DOC-341", "AGC"),
        ("tx_stuck", {}, "reception", "CG-DOC-344", "transmitter"),
    ],
)
def test_each_fault_has_its_line(
    scene: Scene, capsys: Capsys, kind: str, parameters: dict[str, int | str], check: str, code: str, word: str
) -> None:
    assert scene.emulator is not None
    scene.emulator.fault(kind, **parameters)
    look = scene.look(capsys)
    assert look.bad() == {**STOPPED, check: code}
    finding = look.one(check)
    assert word in finding["evidence"]
    assert finding["cause"]
    assert finding["next"]
    assert look.code == 3


@pytest.mark.parametrize("kind", ["torn_counter", "torn_fill", "stall"])
def test_what_the_driver_puts_right_is_no_matter(scene: Scene, capsys: Capsys, kind: str) -> None:
    assert scene.emulator is not None
    scene.emulator.fault(kind)
    assert scene.look(capsys).bad() == STOPPED


def test_a_chip_that_restarts_while_it_is_listened_to(scene: Scene, capsys: Capsys) -> None:
    emulator = scene.emulator
    assert emulator is not None
    scene.tables["gnss"] = 'device = "/nowhere/ttyGNSS"'  # listens for some seconds

    def brown_out() -> None:
        deadline = time.monotonic() + 60
        while not emulator.stats().running and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.5)
        emulator.fault("brown_out")

    thread = threading.Thread(target=brown_out)
    thread.start()
    look = scene.look(capsys)
    thread.join()
    assert look.one("reception")["code"] == "CG-DOC-311"


def test_frames_that_arrive_damaged(scene: Scene, capsys: Capsys) -> None:
    emulator = scene.emulator
    assert emulator is not None
    scene.tables["gnss"] = 'device = "/nowhere/ttyGNSS"'  # listens for some seconds
    emulator.fault("damage", how="checksum", times=0)

    def send() -> None:
        deadline = time.monotonic() + 60
        while not emulator.stats().running and time.monotonic() < deadline:
            time.sleep(0.01)
        for number in range(20):
            emulator.inject(AirPacket(freq_hz=868_100_000, sf=7, payload=bytes((0x80, number)) + bytes(20)))
            time.sleep(0.02)

    thread = threading.Thread(target=send)
    thread.start()
    look = scene.look(capsys)
    thread.join()
    assert look.one("reception")["code"] == "CG-DOC-346"
    assert "checksum" in look.one("reception")["evidence"]


def test_noise_on_all_channels(scene: Scene, capsys: Capsys) -> None:
    scene.tables["concentrator"] = (
        f'bus = "emulator:{scene.spi}"\nsx1261 = "emulator:{scene.spi}"\nboard = "semtech_corecell_eu868"'
    )
    assert scene.emulator is not None
    scene.emulator.set_channel(-92)
    look = scene.look(capsys)
    assert look.bad() == {**STOPPED, "noise": "CG-DOC-372"}
    assert "-92 dBm on all" in look.one("noise")["evidence"]


def test_an_sx1261_that_is_not_there(scene: Scene, capsys: Capsys) -> None:
    scene.tables["concentrator"] = (
        f'bus = "emulator:{scene.spi}"\nsx1261 = "emulator:/nowhere/spi.sock"\nboard = "semtech_corecell_eu868"'
    )
    look = scene.look(capsys)
    assert look.bad() == {**STOPPED, "noise": "CG-DOC-361"}
    assert look.one("reception")["verdict"] == "ok"


@pytest.mark.parametrize(
    ("agc", "arb", "code"),
    [
        (synthetic_arb(), synthetic_agc(), "CG-DOC-333"),
        (synthetic_agc()[:-2], synthetic_arb(), "CG-DOC-332"),
        (b"\xff" * 8192, synthetic_arb(), "CG-DOC-332"),
    ],
)
def test_swapped_and_damaged_firmware(scene: Scene, capsys: Capsys, agc: bytes, arb: bytes, code: str) -> None:
    firmware = scene.folder / "state/firmware"
    firmware.mkdir()
    (firmware / "agc.bin").write_bytes(agc)
    (firmware / "arb.bin").write_bytes(arb)
    look = scene.look(capsys)
    assert look.one("firmware")["code"] == code
    assert look.one("chip")["verdict"] == "ok", "the chip itself is all right"


def test_what_a_killed_agent_left_in_the_chip_is_not_touched(scene: Scene, capsys: Capsys) -> None:
    bench = Bench()
    bench.started()
    (scene.folder / "other").mkdir()
    with Scene(scene.folder / "other", bench.emulator) as other:
        bench.emulator.inject(AirPacket(freq_hz=868_100_000, sf=7, payload=bytes(20)))
        before = bench.emulator.stats()
        look = other.look(capsys)
        after = bench.emulator.stats()
    assert (look.one("chip")["code"], look.one("chip")["verdict"]) == ("CG-DOC-308", "warn")
    assert look.one("reception")["verdict"] == "skipped"
    assert after.running
    assert (after.resets, after.fifo_bytes) == (before.resets, before.fifo_bytes)


def test_hands_off(scene: Scene, capsys: Capsys) -> None:
    assert scene.emulator is not None
    look = scene.look(capsys, "--hands-off")
    assert look.one("chip")["verdict"] == "skipped"
    assert scene.emulator.stats().spi_messages == 0


def test_a_virtual_concentrator_that_is_not_there(scene: Scene, capsys: Capsys) -> None:
    scene.tables["concentrator"] = 'bus = "emulator:/nowhere/spi.sock"\nboard = "semtech_corecell_eu868"'
    look = scene.look(capsys)
    assert look.one("bus")["code"] == "CG-DOC-216"
    assert look.one("chip")["code"] == "CG-DOC-216"


def test_a_receiver_with_its_pulse(scene: Scene, capsys: Capsys) -> None:
    assert scene.emulator is not None
    device = scene.folder / "ttyGNSS"
    scene.tables["gnss"] = f'device = "{device}"'
    scene.emulator.fault("rate", ppb=20_000)
    with GnssPort(scene.emulator, device, GnssSettings()):
        look = scene.look(capsys)
    assert look.one("gnss")["verdict"] == "ok"
    assert "fix with" in look.one("gnss")["evidence"]
    assert look.one("pulse")["code"] == "CG-DOC-381"
    assert look.one("pulse")["values"]["crystal_ppm"] == pytest.approx(20, abs=1.5)


@pytest.mark.parametrize(
    ("settings", "lost", "gnss", "pulse"),
    [
        (GnssSettings(), True, None, "CG-DOC-412"),
        (GnssSettings(fix_after_s=NEVER_S), False, "CG-DOC-403", None),
    ],
)
def test_a_receiver_without_pulse_or_fix(
    scene: Scene, capsys: Capsys, settings: GnssSettings, lost: bool, gnss: str | None, pulse: str | None
) -> None:
    assert scene.emulator is not None
    device = scene.folder / "ttyGNSS"
    scene.tables["gnss"] = f'device = "{device}"'
    if lost:
        scene.emulator.fault("pps_lost")
    with GnssPort(scene.emulator, device, settings):
        look = scene.look(capsys)
    assert look.one("gnss")["code"] == gnss
    assert look.one("pulse")["code"] == pulse


def test_a_receiver_whose_port_is_not_there(scene: Scene, capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "PULSES_LISTEN_S", 0.1)
    scene.tables["gnss"] = 'device = "/nowhere/ttyGNSS"'
    look = scene.look(capsys)
    assert look.one("gnss")["code"] == "CG-DOC-401"


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_look_leaves_the_chip_stopped(scene: Scene, kind: signal.Signals) -> None:
    assert scene.emulator is not None
    scene.tables["gnss"] = 'device = "/nowhere/ttyGNSS"'  # listens for some seconds
    command = [sys.executable, "-m", "agent.cli.main", "doctor", "-c", str(scene.write())]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not scene.emulator.stats().running and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(kind)
        assert process.wait(60) == 130
    assert not scene.emulator.stats().running
    assert scene.emulator.stats().resets > 0
