# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate emulate`: a virtual concentrator in a process of its own, or under any program."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import TYPE_CHECKING, Final

from agent.notify import Notifier

if TYPE_CHECKING:
    from drivers.boards import Board
    from drivers.emulator import Emulator
    from drivers.emulator.emulator import Pins
    from drivers.emulator.gnss import GnssSettings
    from drivers.emulator.play import Air

_EXAMPLES: Final = """examples:
  civigate emulate --spi-socket /tmp/spi.sock --control /tmp/air.sock
      then, in gateway.toml: bus = "emulator:/tmp/spi.sock"
  echo '{"cmd":"inject","freq_hz":868100000,"sf":7,"payload":"40010203"}' | socat - UNIX-CONNECT:/tmp/air.sock
      lets the gateway hear a frame
  civigate emulate --usb /tmp/ttyACM0 --control /tmp/air.sock
      a board with USB, for programs that open /tmp/ttyACM0
  civigate emulate --control /tmp/air.sock -- ./lora_pkt_fwd -c global_conf.json
      runs somebody else's forwarder: it finds /dev/spidev0.0, /dev/i2c-1 and /dev/gpiochip0
  civigate emulate --cuse --board /etc/board.toml --control /run/air.sock
      in a virtual machine, as root: programs find /dev/spidev0.0 and a gpiochip of the kernel
  civigate emulate --spi-socket /tmp/spi.sock --control /tmp/air.sock --air city.toml --gnss /tmp/ttyGNSS
      with devices around it, and a GNSS receiver for programs that open /tmp/ttyGNSS
"""
_CELSIUS: Final = (-64.0, 127.0)
_NO_SENSOR: Final = "none"
_NOT_STARTED: Final = {126: "may not be executed", 127: "is not there"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "emulate",
        help="run a virtual concentrator, without hardware",
        usage="civigate emulate [OPTIONS] [-- COMMAND ARGS...]",
        description="Run a virtual SX1302 concentrator: until it is interrupted (prints `ready` once it can be used), "
        "or for as long as COMMAND runs on it, whose exit code is passed on.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--spi-socket", type=Path, metavar="PATH", help="Unix socket for the SPI bus")
    parser.add_argument("--control", type=Path, metavar="PATH", help="Unix socket for the air: JSON lines")
    parser.add_argument(
        "--usb", type=Path, metavar="LINK", help="make LINK a serial port with the USB variant of the board behind it"
    )
    parser.add_argument(
        "--cuse",
        action="store_true",
        help="make /dev/spidev0.0 and a gpiochip (cp2112_gpio) of the kernel lead to the board: as root, in a virtual "
        "machine, with its modules cuse, uhid and hid-cp2112",
    )
    parser.add_argument("--model", choices=("sx1302", "sx1303"), default="sx1302", help="the chip (%(default)s)")
    parser.add_argument(
        "--board",
        default="semtech_corecell_eu868",
        metavar="NAME",
        help="the profile that says which GPIO lines lead to the board (%(default)s)",
    )
    parser.add_argument(
        "--eui", type=_eui, metavar="HEX", help="the concentrator's EUI, 16 hexadecimal digits (0016C001FF123456)"
    )
    parser.add_argument(
        "--counter-start",
        type=_counter_start,
        default=0,
        metavar="US",
        help="the counter after each reset, in microseconds below 2^27 (%(default)s)",
    )
    parser.add_argument(
        "--i2c-temp",
        type=_celsius,
        default=25.0,
        metavar="CELSIUS",
        help="what the board's temperature sensor measures, or `none` for a board without (%(default)s)",
    )
    parser.add_argument("--sx1261", action="store_true", help="a board with an SX1261, for listen before talk")
    parser.add_argument("--air", type=Path, metavar="FILE", help="devices around it: a scenario (TOML)")
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="recorded receptions to be heard again (JSON lines, .xz allowed)"
    )
    parser.add_argument(
        "--replay-speed", type=_speed, default=1.0, metavar="FACTOR", help="how much faster than recorded (%(default)g)"
    )
    parser.add_argument("--gnss", type=Path, metavar="LINK", help="make LINK a serial port with a GNSS receiver on it")
    parser.add_argument(
        "--gnss-with",
        type=_gnss_settings,
        default="",
        metavar="NAME=VALUE,...",
        help="what that is like: start, leap, leap-day, fix, rollover, rmc, talker, ubx, noise",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(func=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT, or until the command is done.

    Raises:
        BusError: a socket cannot be made, or the library for virtual devices cannot be built.
        ProfileError: there is no such board, or scenario or recording make no sense.
    """
    from drivers.boards import load_board
    from drivers.emulator import Emulator, Model
    from drivers.emulator.emulator import DEFAULT_EUI, pins_of
    from drivers.emulator.gnss import GnssPort
    from drivers.emulator.play import Player
    from drivers.emulator.usb import UsbPort

    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    alone = args.usb is not None or args.cuse
    if not command and not alone and (args.spi_socket is None or args.control is None):
        args.refuse("give --spi-socket and --control, or --usb, or --cuse, or -- and a command to run")
    board = load_board(args.board)
    emulator = Emulator(
        model=Model(args.model),
        eui=args.eui or DEFAULT_EUI,
        counter_start_us=args.counter_start,
        celsius=args.i2c_temp,
        sx1261=args.sx1261,
        pins=pins_of(board),
    )
    with ExitStack() as stack:
        if args.usb is not None:
            stack.enter_context(UsbPort(emulator, args.usb, time.monotonic_ns))
        if args.cuse:
            _plug_in(emulator, pins_of(board), stack, sx1261=args.sx1261)
        if args.gnss is not None:
            stack.enter_context(GnssPort(emulator, args.gnss, args.gnss_with))
        if args.air is not None or args.replay is not None:
            stack.enter_context(Player(_air(emulator, board, args)))
        return _run_command(emulator, command, args) if command else _serve(emulator, args)


def _plug_in(emulator: Emulator, pins: Pins, stack: ExitStack, *, sx1261: bool) -> None:
    from drivers.emulator.cuse import CuseSpi
    from drivers.emulator.uhid import UhidGpio

    def release(line: int) -> None:
        # what the board's resistors make of a line that nobody drives: it has power, and is not in reset
        idle = pins.power_active_high if line == pins.power else not pins.reset_active_high
        if line in {pins.power, pins.reset}:
            emulator.set_gpio(line, high=idle)

    stack.enter_context(UhidGpio(lambda line, high: emulator.set_gpio(line, high=high), release))
    for chip_select in (0, 1) if sx1261 else (0,):
        exchange = partial(emulator.transfer, chip_select=chip_select)
        stack.enter_context(CuseSpi(f"spidev0.{chip_select}", exchange))


def _air(emulator: Emulator, board: Board, args: argparse.Namespace) -> Air:
    from drivers.emulator.play import Air
    from drivers.emulator.replay import load_recording
    from drivers.emulator.scenario import load_scenario

    return Air(
        emulator,
        None if args.air is None else load_scenario(args.air),
        () if args.replay is None else load_recording(args.replay),
        speed=args.replay_speed,
        levels_dbm={gain.register: float(gain.power_dbm) for gain in board.transmit_gains},
    )


def _run_command(emulator: Emulator, command: list[str], args: argparse.Namespace) -> int:
    from drivers.emulator.program import run_program

    code = run_program(emulator, command, spi_socket=args.spi_socket, control_socket=args.control)
    if code in _NOT_STARTED and shutil.which(command[0]) is None:
        print(f"civigate: emulate: {command[0]}: {_NOT_STARTED[code]}", file=sys.stderr)
    return code


def _serve(emulator: Emulator, args: argparse.Namespace) -> int:
    from drivers.emulator.remote import serve

    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with TemporaryDirectory(prefix="civigate-emulate-") as folder:
        spi_socket, control = args.spi_socket or Path(folder) / "spi", args.control or Path(folder) / "control"
        serve(emulator, spi_socket, control, stop=stop, ready=_tell_ready)
    return 0


def _tell_ready() -> None:
    print("ready", flush=True)
    Notifier().ready()


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.01 <= speed <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 0.01 to 1000000")
    return speed


def _gnss_settings(text: str) -> GnssSettings:
    from drivers.emulator.gnss import parse_settings

    try:
        return parse_settings(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _celsius(text: str) -> float | None:
    if text == _NO_SENSOR:
        return None
    try:
        celsius = float(text)
    except ValueError:
        celsius = float("nan")
    low, high = _CELSIUS
    if not low <= celsius <= high:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {low:g} to {high:g}, or {_NO_SENSOR}")
    return celsius


def _eui(text: str) -> bytes:
    try:
        eui = bytes.fromhex(text.replace(":", "").replace("-", ""))
    except ValueError:
        eui = b""
    if len(eui) != 8:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 16 hexadecimal digits")
    return eui


def _counter_start(text: str) -> int:
    limit = 1 << 27
    if not text.isdecimal() or int(text) >= limit:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 0 to {limit - 1}")
    return int(text)
