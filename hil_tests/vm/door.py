# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The way to the chip in the machine: a port of the guest, behind which its own drivers open spidev and gpiochip."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path

from drivers.boards import load_board
from drivers.plans import load_plan
from hil_tests.bench.bridge import SOURCE, Bridge, BridgedDoor
from hil_tests.bench.roles import BenchError
from hil_tests.vm import door_server
from hil_tests.vm.gateway import CONFIG, Gateway
from hil_tests.vm.machine import CHIP_PORT

PLAN = "eu868"
BOARD = "semtech_corecell_eu868"
"""Which the card's board is but for its wiring; that is the business of the guest's half."""
_UNIT = "bench-chip.service"
_SERVER, _BRIDGE = "/run/bench-chip.py", "/run/bench-bridge.py"
_PACKAGE = "/usr/lib/civigate"
_LIMIT_S = 120.0


def open_door(gateway: Gateway) -> BridgedDoor:
    """Return the door; nothing happens in the guest before it is used."""
    return BridgedDoor(partial(_bridge, gateway), load_board(BOARD), load_plan(PLAN), ())


def _bridge(gateway: Gateway) -> Bridge:
    """Have the port served, also after the machine has lost its power, and connect.

    Raises:
        BenchError: it does not answer.
    """
    if gateway.shell.run(f"systemctl is-active --quiet {_UNIT}").code != 0:
        gateway.shell.put(_SERVER, Path(door_server.__file__).read_text(encoding="utf-8"))
        gateway.shell.put(_BRIDGE, SOURCE)
        served = f"python3 {_SERVER} {CHIP_PORT} env PYTHONPATH={_PACKAGE} python3 {_BRIDGE} {CONFIG}"
        gateway.shell.check(f"systemctl reset-failed {_UNIT} 2>/dev/null; systemd-run --quiet --unit={_UNIT} {served}")
    deadline = time.monotonic() + _LIMIT_S
    while gateway.shell.run(f"ss -Hltn sport = :{CHIP_PORT} | grep -q .").code != 0:
        if time.monotonic() > deadline:
            hint = "see the console of the machine"
            raise BenchError(f"nothing listens on port {CHIP_PORT} of the guest", role="spi", hint=hint)
        time.sleep(0.2)
    return connect(gateway.machine.chip_port)


def connect(port: int) -> Bridge:
    """Return what leads to a port of this host, behind which the gateway's half of a bridge is."""
    return Bridge([sys.executable, "-m", "hil_tests.vm.door", str(port)])


def main() -> None:
    """Carry stdin to a port of this host, and what comes from there to stdout, until the port is closed."""
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), _LIMIT_S) as line:
        line.settimeout(None)

        def send() -> None:
            while data := os.read(sys.stdin.fileno(), 1 << 16):
                line.sendall(data)
            line.shutdown(socket.SHUT_WR)

        threading.Thread(target=send, daemon=True).start()
        while data := line.recv(1 << 16):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
