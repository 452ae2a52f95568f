# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Requests are answered until the device is closed; a socket of packets stands in for the kernel's side of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from drivers.emulator.kernel import Answering, opened, wait_for_node
from drivers.errors import BusError


def test_each_request_is_answered_until_the_device_is_closed() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        theirs.settimeout(60)
        answering = Answering(ours.detach(), 16, lambda asked: None if asked == b"hush" else asked[::-1], name="test")
        for asked in (b"abc", b"hush", b"def"):
            theirs.send(asked)
        assert (theirs.recv(16), theirs.recv(16)) == (b"cba", b"fed")
        answering.close()
        assert theirs.recv(16) == b"", "its side is still open"


def test_one_that_asks_no_more_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says ENOENT to an answer for a program that was interrupted meanwhile."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    write = os.write

    def interrupted(file: int, data: bytes) -> int:
        if data == b"gone":
            raise FileNotFoundError
        return write(file, data)

    monkeypatch.setattr(os, "write", interrupted)
    with theirs:
        theirs.settimeout(60)
        answering = Answering(ours.detach(), 16, lambda asked: asked, name="test")
        theirs.send(b"gone")
        theirs.send(b"here")
        assert theirs.recv(16) == b"here"
        answering.close()


def test_a_device_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BusError, match=r"open: .*/cuse") as caught:
        opened(tmp_path / "cuse", hint="load it", code="CG-EMU-009")
    assert (caught.value.code, caught.value.hint) == ("CG-EMU-009", "load it")
    monkeypatch.setattr("drivers.emulator.kernel._NODE_LIMIT_S", 0.1)
    with pytest.raises(BusError, match="does not appear"):
        wait_for_node(tmp_path, "gpiochip*", "see dmesg")
    (tmp_path / "gpiochip3").touch()
    wait_for_node(tmp_path, "gpiochip*", "see dmesg")
