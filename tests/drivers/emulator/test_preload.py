# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The real C extensions, and other programs, on the emulator's devices.

Each test runs a small program of its own, since only a program's start can preload a library.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drivers.emulator import preload
from drivers.errors import BusError

ROOT = Path(__file__).parents[3]
RUN = """
import argparse, sys
from agent.cli import emulate
parser = argparse.ArgumentParser()
emulate.add_parser(parser.add_subparsers())
args = parser.parse_args(sys.argv[1:])
sys.exit(args.func(args))
"""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


class Runner:
    """Runs programs under `civigate emulate`."""

    def __init__(self, cache: Path, folder: Path) -> None:
        self._environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT), "LG_WD": str(folder)}
        self._folder = folder

    def start(self, *command: str, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, "emulate", *options, "--", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env=self._environment,
        )

    def shell(self, *command: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
        with self.start(*command, options=options) as process:
            out, err = process.communicate(timeout=240)
        return process.returncode, out + err

    def python(self, program: str, options: tuple[str, ...] = ()) -> None:
        code, said = self.shell(sys.executable, "-c", program, options=options)
        assert code == 0, said


@pytest.fixture
def runner(cache: Path, tmp_path: Path) -> Runner:
    return Runner(cache, tmp_path)


def test_spidev(runner: Runner) -> None:
    runner.python(
        """
import spidev
spi = spidev.SpiDev()
spi.open(0, 0)
spi.mode = 0
spi.max_speed_hz = 2_000_000
assert (spi.mode, spi.max_speed_hz, spi.bits_per_word) == (0, 2_000_000, 8)
READ_VERSION, VERSION = (0x00, 0x56, 0x06, 0x00, 0x00), [0, 0, 0, 0, 0x10]
assert list(spi.xfer(READ_VERSION)) == VERSION
assert list(spi.xfer2(READ_VERSION)) == VERSION
assert list(spi.xfer2(bytes(READ_VERSION))) == VERSION
spi.writebytes([0x00, 0xD8, 0x00, 0x15])
assert list(spi.xfer2([0x00, 0x58, 0x00, 0x00, 0x00]))[4] == 0x15
spi.writebytes2(bytes([0x00, 0xD8, 0x00, 0x0A]))
assert list(spi.xfer2([0x00, 0x58, 0x00, 0x00, 0x00]))[4] == 0x0A
assert spi.readbytes(4) == [0, 0, 0, 0]
assert len(spi.xfer2([0x00, 0x40, 0x00, 0x00] + [0] * 4092)) == 4096
second = spidev.SpiDev()
second.open(0, 1)
assert list(second.xfer2([0xC0, 0x00])) == [0, 0], "nothing is behind the second chip select"
for bus, device in ((1, 0), (0, 2)):
    try:
        spidev.SpiDev().open(bus, device)
    except FileNotFoundError:
        continue
    raise AssertionError((bus, device))
spi.close()
"""
    )


def test_a_message_of_two_transfers_is_one_chip_select(runner: Runner) -> None:
    # as the vendor's software reads a burst: header and body apart
    runner.python(
        """
import ctypes, errno, fcntl, os, struct
fd = os.open("/dev/spidev0.0", os.O_RDWR)
header, body = ctypes.create_string_buffer(b"\\0\\x56\\x06\\0", 4), ctypes.create_string_buffer(1)
def transfer(tx, rx, length, cs_change=0):
    return struct.pack("=QQIIHBBBBBB", tx, rx, length, 0, 0, 8, cs_change, 0, 0, 0, 0)
def message(*transfers):
    data = b"".join(transfers)
    return fcntl.ioctl(fd, 0x40006B00 | len(data) << 16, data)
address = ctypes.addressof
message(transfer(address(header), 0, 4), transfer(0, address(body), 1))
assert body.raw == b"\\x10", body.raw
message(transfer(address(header), 0, 4, cs_change=1), transfer(0, address(body), 1))
assert body.raw == b"\\0", "the second frame is one of its own"
big = ctypes.create_string_buffer(4097)
for lengths in ((4097,), (4000, 97)):
    try:
        message(*(transfer(address(big), 0, length) for length in lengths))
    except OSError as error:
        assert error.errno == errno.EMSGSIZE
    else:
        raise AssertionError(lengths)
try:
    fcntl.ioctl(fd, 0x5401, b"\\0" * 64)
except OSError as error:
    assert error.errno == errno.ENOTTY
"""
    )


def test_lgpio_and_our_own_bus_and_line(runner: Runner) -> None:
    runner.python(
        """
import lgpio
from drivers.boards import GpioLine
from drivers.linux.gpio import HeaderLine
from drivers.linux.spi import SpidevBus
bus = SpidevBus("/dev/spidev0.0", 2_000_000)
READ_VERSION = bytes((0, 0x56, 0x06, 0, 0))
assert bus.transfer(READ_VERSION)[4] == 0x10
chip = lgpio.gpiochip_open(0)
assert lgpio.gpio_get_chip_info(chip)[1:] == [54, "gpiochip0", "pinctrl-bcm2711"]
lgpio.gpio_claim_output(chip, 23, 1)
assert lgpio.gpio_read(chip, 23) == 1
assert bus.transfer(READ_VERSION) == bytes(5), "held in reset"
other = lgpio.gpiochip_open(0)
try:
    lgpio.gpio_claim_output(other, 23, 0)
except lgpio.error as error:
    assert "busy" in str(error)
else:
    raise AssertionError("claimed twice")
lgpio.gpio_write(chip, 23, 0)
assert bus.transfer(READ_VERSION)[4] == 0x10
lgpio.gpio_free(chip, 23)
lgpio.gpio_claim_input(chip, 5)
assert lgpio.gpio_read(chip, 5) == 0
line = HeaderLine(GpioLine(23, active_high=True))
line.set(active=True)
assert bus.transfer(READ_VERSION) == bytes(5)
line.set(active=False)
assert bus.transfer(READ_VERSION)[4] == 0x10
line.close()
power = HeaderLine(GpioLine(18, active_high=True))
power.set(active=False)
assert bus.transfer(READ_VERSION) == bytes(5)
"""
    )


I2C = """
import array, ctypes, errno, fcntl, os, struct
fd = os.open("/dev/i2c-1", os.O_RDWR)
def read_register(address, register):
    out, back = ctypes.create_string_buffer(bytes((register,)), 1), ctypes.create_string_buffer(1)
    message = struct.Struct("@HHHP")
    messages = ctypes.create_string_buffer(
        message.pack(address, 0, 1, ctypes.addressof(out)) + message.pack(address, 1, 1, ctypes.addressof(back))
    )
    fcntl.ioctl(fd, 0x0707, struct.pack("@PI", ctypes.addressof(messages), 2))
    return back.raw[0]
"""


def test_i2c_reaches_the_temperature_sensor(runner: Runner) -> None:
    runner.python(
        I2C
        + """
assert [read_register(0x39, register) for register in (0xFD, 0xFE, 0xFF)] == [0x00, 0x53, 0x01]
assert (read_register(0x39, 0x00), read_register(0x39, 0x02)) == (0xF6, 0x80), "-9.5 degrees"
try:
    read_register(0x38, 0)
except OSError as error:
    assert error.errno == errno.EREMOTEIO
else:
    raise AssertionError("nobody is at 0x38")
fcntl.ioctl(fd, 0x0703, 0x39)
os.write(fd, bytes((0x03, 0x8C)))
os.write(fd, bytes((0x03,)))
assert os.read(fd, 1) == bytes((0x8C,))
""",
        options=("--i2c-temp", "-9.5"),
    )


def test_a_board_without_sensor_does_not_acknowledge(runner: Runner) -> None:
    runner.python(
        I2C
        + """
try:
    read_register(0x39, 0)
except OSError as error:
    assert error.errno == errno.EREMOTEIO
else:
    raise AssertionError("a sensor answered")
""",
        options=("--i2c-temp", "none"),
    )


def test_our_line_without_lgpio(runner: Runner) -> None:
    """Debian's archive has no lgpio: a gateway there must reset its chip all the same."""
    runner.python(
        """
import importlib.util, sys
sys.modules["lgpio"] = None
importlib.util.find_spec = lambda name: None
from drivers.boards import GpioLine
from drivers.errors import BusError
from drivers.linux.gpio import HeaderLine
from drivers.linux.spi import SpidevBus
bus = SpidevBus("/dev/spidev0.0", 2_000_000)
version = bytes([0, 0x56, 6, 0, 0])
line = HeaderLine(GpioLine(23, active_high=True))
line.set(active=True)
assert bus.transfer(version)[4] == 0x00, "held in reset"
try:
    HeaderLine(GpioLine(23, active_high=True)).set(active=True)
except BusError as error:
    assert error.code == "CG-GPIO-003", error.code
else:
    raise AssertionError("a line was taken twice")
line.set(active=False)
assert bus.transfer(version)[4] == 0x10
line.let_go()
line.set(active=True)
assert bus.transfer(version)[4] == 0x00
line.close()
line.close()
try:
    HeaderLine(GpioLine(3, active_high=True, controller="somewhere-else")).set(active=True)
except BusError as error:
    assert "gpiochip0 (pinctrl-bcm2711)" in error.hint, error.hint
else:
    raise AssertionError("a controller was made up")
"""
    )


def test_a_board_profile_says_which_line_resets(runner: Runner) -> None:
    runner.python(
        """
import lgpio, spidev
spi = spidev.SpiDev()
spi.open(0, 0)
chip = lgpio.gpiochip_open(0)
lgpio.gpio_claim_output(chip, 23, 1)
assert list(spi.xfer2([0, 0x56, 6, 0, 0]))[4] == 0x10
lgpio.gpio_claim_output(chip, 17, 1)
assert list(spi.xfer2([0, 0x56, 6, 0, 0]))[4] == 0x00
""",
        options=("--board", "rak_2287"),
    )


needs_gpiod = pytest.mark.skipif(shutil.which("gpioset") is None, reason="needs the Debian package gpiod")
needs_i2c_tools = pytest.mark.skipif(not Path("/usr/sbin/i2cget").exists(), reason="needs the Debian package i2c-tools")


@needs_gpiod
def test_libgpiod_1_as_reset_scripts_use_it(runner: Runner) -> None:
    code, said = runner.shell("gpiodetect")
    assert (code, said) == (0, "gpiochip0 [pinctrl-bcm2711] (54 lines)\n")
    code, said = runner.shell("gpioinfo", "gpiochip0")
    assert code == 0
    assert [line.split() for line in said.splitlines()][24] == [
        "line",
        "23:",
        '"GPIO23"',
        "unused",
        "input",
        "active-high",
    ]
    script = """
import spidev, subprocess, sys
spi = spidev.SpiDev()
spi.open(0, 0)
version = lambda: list(spi.xfer2([0, 0x56, 6, 0, 0]))[4]
gpio = lambda *command: subprocess.run(command, check=True, capture_output=True, text=True).stdout
assert version() == 0x10
gpio("gpioset", "gpiochip0", "23=1")
assert version() == 0x00
assert gpio("gpioget", "gpiochip0", "23", "24") == "1 0\\n"
gpio("gpioset", "--active-low", "gpiochip0", "23=1")
assert version() == 0x10
assert gpio("gpiofind", "GPIO23") == "gpiochip0 23\\n"
assert subprocess.run(("gpioset", "gpiochip0", "54=1"), capture_output=True).returncode == 1
"""
    runner.python(script)


def test_libgpiod_2_takes_the_device_for_a_gpio_chip(runner: Runner) -> None:
    runner.python(
        """
import ctypes, os
device = os.stat("/dev/gpiochip0").st_rdev
path = f"/sys/dev/char/{os.major(device)}:{os.minor(device)}/subsystem".encode()
libc = ctypes.CDLL(None)
libc.realpath.restype = ctypes.c_char_p
assert libc.realpath(path, None) == b"/sys/bus/gpio"
assert libc.realpath(b"/usr/..", None) == b"/"
libc.ioctl.argtypes = (ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
chip, info = os.open("/dev/gpiochip0", os.O_RDWR), ctypes.create_string_buffer(bytes(64) + bytes((23,)), 256)
assert libc.ioctl(chip, 0xC100B405 - (1 << 32), info) == 0, "the kernel looks at the low 32 bits alone"
assert info.raw[:6] == b"GPIO23"
# as its binary wheel calls it, which is built for older systems
version, status = 0 if os.uname().machine == "aarch64" else 1, ctypes.create_string_buffer(1024)
for old in (libc.__xstat, libc.__lxstat, libc.__xstat64, libc.__lxstat64):
    assert [old(version, name, status) for name in (b"/dev/gpiochip0", b"/dev/gpiochip9", b"/dev/null")] == [0, -1, 0]
"""
    )


@needs_i2c_tools
def test_smbus_as_i2c_tools_speak_it(runner: Runner) -> None:
    def ask(*command: str) -> tuple[int, str]:
        return runner.shell("/usr/sbin/" + command[0], "-y", "1", *command[1:], options=("--i2c-temp", "-9.5"))

    assert ask("i2cget", "0x39", "0xfe") == (0, "0x53\n")
    assert ask("i2cget", "0x39", "0xfd", "w") == (0, "0x5300\n")
    assert ask("i2cget", "0x39", "0x00", "i", "3") == (0, "0xf6 0x00 0x80\n")
    assert ask("i2cset", "0x39", "0x03", "0x8c") == (0, "")
    assert ask("i2ctransfer", "w1@0x39", "0x00", "r1") == (0, "0xf6\n")
    assert ask("i2cget", "0x38", "0x00")[0] == 2
    code, said = ask("i2cdetect")
    assert code == 0
    assert [word for word in said.split() if word.isalnum() and len(word) == 2 and word in {"38", "39", "3b"}] == ["39"]


def test_programs_see_the_devices(runner: Runner) -> None:
    code, said = runner.shell("sh", "-c", "ls /dev/spidev* /dev/i2c-* /dev/gpiochip*; test -c /dev/spidev0.0")
    assert (code, said.split()) == (0, ["/dev/gpiochip0", "/dev/i2c-1", "/dev/spidev0.0", "/dev/spidev0.1"])


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_code_is_passed_on(runner: Runner, code: int) -> None:
    assert runner.shell("sh", "-c", f"exit {code}") == (code, "")


def test_a_program_that_is_not_there_is_said(runner: Runner) -> None:
    code, said = runner.shell("no-such-program")
    assert code == 127
    assert "no-such-program: is not there" in said


def test_signals_reach_the_program(runner: Runner) -> None:
    with runner.start(
        "sh", "-c", "trap 'echo stopped; exit 5' TERM; echo started; while :; do sleep 0.02; done"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 5
        assert process.stdout.read() == "stopped\n"
    assert runner.shell("sh", "-c", "kill -9 $$")[0] == 128 + 9


def test_the_library_is_built_once_and_a_missing_compiler_is_explained(cache: Path, tmp_path: Path) -> None:
    path = preload.library(cache)
    built_ns = path.stat().st_mtime_ns
    assert preload.library(cache) == path
    assert path.stat().st_mtime_ns == built_ns
    with pytest.raises(BusError, match="no C compiler") as error:
        preload.library(cache, compiler="no-such-compiler")
    assert "apt install gcc" in error.value.hint
    with pytest.raises(BusError, match="compiler says"):
        preload.library(tmp_path, compiler="false")
    assert list(tmp_path.iterdir()) == []
    broken = tmp_path / "file"
    broken.touch()
    with pytest.raises(BusError, match=r"Not a directory|File exists"):
        preload.library(broken)
