# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Each fault shows on the bus as users of the chip have seen it, and goes away when it is cleared."""

from __future__ import annotations

import errno
import json

import pytest

from drivers.emulator import Emulator, control
from drivers.emulator.faults import KINDS, FaultError, clear_faults, set_fault
from drivers.emulator.firmware import synthetic_agc, synthetic_arb
from drivers.emulator.header import Stts751
from drivers.errors import BusError
from tests.drivers.emulator.bench import Bench, uplink
from tests.drivers.emulator.test_mcu import AGC, ARB, clocked, load, parity_error, status

READ_VERSION = bytes.fromhex("0056060000")


def break_it(bench: Bench, kind: str, **parameters: int | str) -> None:
    set_fault(bench.chip, None, bench.now_ns, kind, parameters)


def repair(bench: Bench) -> None:
    clear_faults(bench.chip, None, bench.now_ns)
    assert bench.chip.faults.names == set()


@pytest.mark.parametrize("level", [0x00, 0xFF])
def test_a_dead_data_line(receiving: Bench, level: int) -> None:
    break_it(receiving, "miso", value=level)
    assert receiving.transfer(READ_VERSION) == bytes((level,)) * 5
    repair(receiving)
    assert receiving.transfer(READ_VERSION)[4] == 0x10


def test_a_bus_that_fails_for_a_while(receiving: Bench) -> None:
    break_it(receiving, "bus_error", errno=errno.ENODEV, times=2)
    for _ in range(2):
        with pytest.raises(OSError, match="No such device") as error:
            receiving.transfer(READ_VERSION)
        assert error.value.errno == errno.ENODEV
    assert receiving.transfer(READ_VERSION)[4] == 0x10
    break_it(receiving, "bus_error", times=0)
    for _ in range(100):
        with pytest.raises(OSError, match="Input/output error"):
            receiving.transfer(READ_VERSION)
    repair(receiving)


def test_no_link_by_the_version(receiving: Bench) -> None:
    break_it(receiving, "version", value=0)
    assert receiving.read(0x5606) == b"\0"


def test_an_agc_that_hangs(bench: Bench) -> None:
    break_it(bench, "agc_stuck", status=3)
    load(clocked(bench), AGC, synthetic_agc())
    assert status(bench, AGC) == 3
    repair(bench)
    assert status(bench, AGC) == 1


@pytest.mark.parametrize(("name", "control", "image"), [("agc", AGC, synthetic_agc()), ("arb", ARB, synthetic_arb())])
def test_a_silent_microcontroller(bench: Bench, name: str, control: int, image: bytes) -> None:
    break_it(bench, "silent", mcu=name)
    load(clocked(bench), control, image)
    assert status(bench, control) == 0
    assert not parity_error(bench, control)
    repair(bench)
    load(bench, control, image)
    assert status(bench, control) == 1


def test_a_silent_receive_stall_ends_with_a_reset(receiving: Bench) -> None:
    # the signature of the field: status 0x14, both parity flags, everything else looks healthy
    break_it(receiving, "stall")
    assert status(receiving, AGC) == 0x14
    assert parity_error(receiving, AGC)
    assert parity_error(receiving, ARB)
    assert receiving.read(0x5605) == b"\x0f"
    before = receiving.counter()
    receiving.wait_us(1000)
    assert receiving.counter() == before + 32_000
    assert "stalled" in receiving.hear(uplink()).outcome
    clear_faults(receiving.chip, None, receiving.now_ns)
    assert receiving.chip.faults.stalled, "clearing does not revive it"
    receiving.chip.drive_reset(receiving.now_ns, active=True)
    receiving.chip.drive_reset(receiving.now_ns, active=False)
    assert "stall" not in receiving.chip.faults.names
    receiving.start()
    assert receiving.hear(uplink()).outcome == "fifo"
    assert status(receiving, AGC) == 0


def test_a_flipped_bit_in_the_readback_of_firmware(bench: Bench) -> None:
    load(clocked(bench), AGC, synthetic_agc())
    break_it(bench, "readback", address=0x0123, bit=3)
    assert bench.read(0x0122, 3)[1] == synthetic_agc()[0x0123] ^ 8
    assert bench.read(0x0124) == synthetic_agc()[0x0124:0x0125]


@pytest.mark.parametrize("radio", [0, 1])
def test_a_missing_radio(receiving: Bench, radio: int) -> None:
    break_it(receiving, "radio_missing", radio=radio)
    assert f"radio {'AB'[radio]}" in receiving.hear(uplink(freq_hz=(867_100_000, 868_100_000)[radio])).outcome
    assert receiving.chip.counter.running is (radio == 1), "radio A clocks the chip"
    receiving.chip.drive_reset(receiving.now_ns, active=True)
    receiving.chip.drive_reset(receiving.now_ns, active=False)
    receiving.write(0x5783 + radio, 0x04)
    receiving.write(0x5783 + radio, 0x0C)
    assert receiving.transfer(bytes((1 + radio, 0xC0, 0x00))) == bytes(3)


def test_a_failed_image_calibration(bench: Bench) -> None:
    bench.write(0x5783, 0x0C)
    break_it(bench, "image_calibration", radio=0)
    bench.transfer("0198d7db")
    assert bench.transfer("0117000000")[4] == 0x10
    repair(bench)
    bench.transfer("0198d7db")
    assert bench.transfer("0117000000")[4] == 0x00


def test_a_torn_fill_level_is_too_small_once(receiving: Bench) -> None:
    receiving.hear(uplink(payload=bytes(250)))
    break_it(receiving, "torn_fill")
    assert int.from_bytes(receiving.read(0x58C8, 2), "big") == 273 - 256
    assert int.from_bytes(receiving.read(0x58C8, 2), "big") == 273


def test_a_torn_counter_shows_in_its_highest_byte(receiving: Bench) -> None:
    break_it(receiving, "torn_counter")
    torn, whole = receiving.counter(), receiving.counter()
    assert torn ^ whole == 0x01000000


@pytest.mark.parametrize("how", ["garbage", "checksum", "truncated", "crc16", "range"])
def test_damaged_frames(receiving: Bench, how: str) -> None:
    receiving.hear(uplink())
    whole = receiving.fetch()
    break_it(receiving, "damage", how=how)
    reception = receiving.hear(uplink())
    assert reception.outcome == f"damaged: {how}"
    damaged = receiving.fetch()
    assert reception.read
    assert receiving.hear(uplink()).outcome == "fifo"
    sums_up = sum(damaged[:-1]) & 0xFF == damaged[-1]
    if how == "garbage":
        assert damaged[-36:][:5] == whole[:5]
        assert len(damaged) > 36
    elif how == "checksum":
        assert damaged[:5] == whole[:5]
        assert not sums_up
    elif how == "truncated":
        assert len(damaged) == 36 - 5
    elif how == "crc16":
        assert sums_up
        assert damaged[9:22] == whole[9:22]
        assert damaged[32] ^ whole[32] == 1
    else:
        assert sums_up
        assert damaged[5] > 17


def test_an_overflow_on_demand(receiving: Bench) -> None:
    break_it(receiving, "overflow", times=2)
    assert [receiving.hear(uplink()).outcome for _ in range(3)] == ["overflow", "overflow", "fifo"]


def test_a_stuck_transmitter(receiving: Bench) -> None:
    break_it(receiving, "tx_stuck", chain=0, status=0x42)
    assert (receiving.read(0x5211), receiving.read(0x5411)) == (b"\x42", b"\x80")


def test_a_brown_out_resets_the_chip_unasked(receiving: Bench) -> None:
    receiving.hear(uplink())
    break_it(receiving, "brown_out")
    assert receiving.chip.faults.names == set()
    assert receiving.read(0x5605) == b"\0"
    assert receiving.read(0x58C8, 2) == bytes(2)
    assert receiving.counter() == 0
    assert receiving.chip.resets == 0


def test_a_crystal_that_is_off(receiving: Bench) -> None:
    break_it(receiving, "rate", ppb=20_000)
    before = receiving.counter()
    receiving.wait_us(1_000_000)
    assert receiving.counter() - before == 32_000_000 + 640


def test_a_lost_pps(receiving: Bench) -> None:
    receiving.wait_us(2_000_000)
    break_it(receiving, "pps_lost")
    last = receiving.read(0x6101, 4)
    receiving.wait_us(5_000_000)
    assert receiving.read(0x6101, 4) == last
    repair(receiving)
    receiving.wait_us(2_000_000)
    assert receiving.read(0x6101, 4) != last


def test_a_temperature_sensor_that_dies(bench: Bench) -> None:
    sensor = Stts751(25.0)
    set_fault(bench.chip, sensor, 0, "i2c", {})
    failing = [sensor.failing]
    clear_faults(bench.chip, sensor, 0)
    assert [*failing, sensor.failing] == [True, False]
    with pytest.raises(FaultError, match="no temperature sensor"):
        break_it(bench, "i2c")


@pytest.mark.parametrize(
    ("kind", "parameters", "said"),
    [
        ("explode", {}, "unknown fault 'explode'; known: agc_stuck"),
        ("pps_lost", {"hard": 1}, "takes none"),
        ("stall", {"hard": 1}, "takes cure"),
        ("stall", {"cure": "luck"}, "expected one of reset, reload"),
        ("miso", {"value": 256}, "outside 0 to 255"),
        ("miso", {"value": "ff"}, "expected like 0"),
        ("miso", {"value": True}, "expected like 0"),
        ("damage", {"how": "badly"}, "garbage, checksum"),
        ("silent", {"mcu": "both"}, "'agc' or 'arb'"),
        ("bus_error", {"times": -1}, "outside 0"),
        ("radio_missing", {"radio": 2}, "outside 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused(bench: Bench, kind: str, parameters: dict[str, int | str], said: str) -> None:
    with pytest.raises(FaultError, match=said):
        set_fault(bench.chip, None, 0, kind, parameters)
    assert bench.chip.faults.names == set()


def ask(emulator: Emulator, **request: object) -> dict[str, object]:
    answer = json.loads(control.answer(emulator, json.dumps(request).encode()))
    assert isinstance(answer, dict)
    return answer


def test_every_fault_can_be_asked_for_and_cleared_over_the_control_channel() -> None:
    emulator = Emulator()
    assert ask(emulator, cmd="fault", kind="brown_out") == {"ok": True, "faults": []}
    for kind in set(KINDS) - {"brown_out"}:
        assert ask(emulator, cmd="fault", kind=kind)["ok"], kind
    active = ask(emulator, cmd="fault")["faults"]
    assert active == sorted(set(KINDS) - {"brown_out"})
    assert ask(emulator, cmd="fault", kind="none") == {"ok": True, "faults": ["stall"]}
    assert "unknown fault" in str(ask(emulator, cmd="fault", kind="x")["error"])
    assert ask(emulator, cmd="fault", kind="miso", value=255)["faults"] == ["miso", "stall"]
    assert not ask(emulator, cmd="fault", kind=7)["ok"]
    assert not ask(emulator, cmd="fault", kind="none", value=1)["ok"]


def test_a_failing_bus_is_a_driver_error_in_process() -> None:
    emulator = Emulator()
    bus = emulator.bus()
    emulator.fault("bus_error", errno=errno.ENODEV)
    with pytest.raises(BusError, match="No such device") as error:
        bus.transfer(READ_VERSION)
    assert error.value.retryable
    assert bus.transfer(READ_VERSION)[4] == 0x10
