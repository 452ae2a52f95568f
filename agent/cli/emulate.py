# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate emulate`: a virtual concentrator in a process of its own."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from threading import Event
from typing import Final

_EXAMPLES: Final = """examples:
  civigate emulate --spi-socket /tmp/spi.sock --control /tmp/air.sock
      then, in gateway.toml: bus = "emulator:/tmp/spi.sock"
  echo '{"cmd":"inject","freq_hz":868100000,"sf":7,"payload":"40010203"}' | socat - UNIX-CONNECT:/tmp/air.sock
      lets the gateway hear a frame
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "emulate",
        help="run a virtual concentrator, without hardware",
        description="Run a virtual SX1302 concentrator until it is interrupted; prints `ready` once it can be used.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--spi-socket", type=Path, required=True, metavar="PATH", help="Unix socket for the SPI bus")
    parser.add_argument(
        "--control", type=Path, required=True, metavar="PATH", help="Unix socket for the air: JSON lines"
    )
    parser.add_argument("--model", choices=("sx1302", "sx1303"), default="sx1302", help="the chip (%(default)s)")
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
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT.

    Raises:
        BusError: a socket cannot be made.
    """
    from drivers.emulator import Emulator, Model
    from drivers.emulator.emulator import DEFAULT_EUI
    from drivers.emulator.remote import serve

    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    emulator = Emulator(model=Model(args.model), eui=args.eui or DEFAULT_EUI, counter_start_us=args.counter_start)
    serve(emulator, args.spi_socket, args.control, stop=stop, ready=lambda: print("ready", flush=True))
    return 0


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
