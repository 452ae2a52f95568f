# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A serial port, on a pseudo-terminal: what comes is read, and what is wrong has a name."""

from __future__ import annotations

import os
import time
import tty
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drivers.emulator import Emulator
from drivers.emulator.gnss import GnssPort, GnssSettings
from drivers.errors import BusError
from drivers.gnss.receiver import Receiver, ReceiverState
from drivers.linux.clock import SystemClock
from drivers.linux.tty import TtyPort

LIMIT_S = 30.0


@pytest.fixture
def ends() -> Iterator[tuple[int, str]]:
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(slave)
    os.close(master)


def test_what_comes_is_read_and_no_more_than_wanted(ends: tuple[int, str]) -> None:
    master, device = ends
    port = TtyPort(device, 9600)
    assert port.read(100) == b""
    os.write(master, b"hello")
    heard = b""
    deadline = time.monotonic() + LIMIT_S
    while len(heard) < 5 and time.monotonic() < deadline:
        data = port.read(2)
        assert len(data) <= 2
        heard += data
    assert heard == b"hello"
    port.write(b"\xb5\x62")
    assert os.read(master, 10) == b"\xb5\x62"
    port.set_rate(115_200)
    assert port.paced
    port.close()
    port.close()


def test_a_port_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BusError, match="ttyGNSS: does not exist") as caught:
        TtyPort(str(tmp_path / "ttyGNSS"), 9600)
    assert (caught.value.code, caught.value.retryable) == ("CG-TTY-001", True)


def test_a_file_is_no_port(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(BusError) as caught:
        TtyPort(str(file), 9600)
    assert caught.value.code == "CG-TTY-003"


def test_somebody_elses_port_is_not_taken(ends: tuple[int, str]) -> None:
    port = TtyPort(ends[1], 9600)
    with pytest.raises(BusError) as caught:
        TtyPort(ends[1], 9600)
    assert caught.value.code == "CG-TTY-003"
    assert "gpsd" in caught.value.hint
    port.close()


def test_a_port_that_goes_away_is_named() -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    port = TtyPort(os.ttyname(slave), 9600)
    os.close(master)
    os.close(slave)
    with pytest.raises(BusError) as caught:
        port.read(10)
    assert caught.value.code == "CG-TTY-004"
    port.close()


def test_a_receiver_is_found_again_when_it_is_plugged_in_again(tmp_path: Path) -> None:
    emulator, link = Emulator(), tmp_path / "ttyGNSS"
    settings = GnssSettings(start=datetime(2026, 11, 22, tzinfo=UTC))
    receiver = Receiver(lambda baud: TtyPort(str(link), baud), SystemClock())

    def until(state: ReceiverState) -> None:
        deadline = time.monotonic() + LIMIT_S
        while receiver.status.state is not state:
            assert time.monotonic() < deadline, receiver.status
            receiver.look()

    for _ in range(2):
        with GnssPort(emulator, link, settings):
            until(ReceiverState.FIX)
        link.unlink(missing_ok=True)
        until(ReceiverState.ABSENT)
    assert receiver.status.opened == 2
    assert "[CG-TTY-" in receiver.status.detail
    receiver.close()
