# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The emulator behind its sockets: a bus that outlives its user, and a server that nothing malformed can stop."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.emulator import Emulator, wire
from drivers.emulator.remote import Server, SocketBus, SocketPowerLine, SocketResetLine
from drivers.errors import BusError
from tests.drivers.emulator.bench import marks, rows

READ_VERSION = bytes.fromhex("0056060000")
VERSION = bytes.fromhex("0000000010")


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "spi", tmp_path / "control"


@pytest.fixture
def emulator() -> Emulator:
    return Emulator()


@pytest.fixture
def server(emulator: Emulator, paths: tuple[Path, Path]) -> Iterator[Server]:
    with Server(emulator, *paths) as running:
        yield running


@pytest.fixture
def bus(server: Server, paths: tuple[Path, Path]) -> Iterator[SocketBus]:
    opened = SocketBus(paths[0])
    yield opened
    opened.close()


@pytest.fixture
def raw(server: Server, paths: tuple[Path, Path]) -> Iterator[Callable[[int], socket.socket]]:
    opened: list[socket.socket] = []

    def connect(which: int) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(str(paths[which]))
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        connection.close()


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while more := connection.recv(65536):
        data += more
    return data


def ask(connection: socket.socket, line: str | bytes) -> dict[str, object]:
    connection.sendall((line.encode() if isinstance(line, str) else line) + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        answer += connection.recv(65536)
    result = json.loads(answer)
    assert isinstance(result, dict)
    return result


def test_frames_go_through_one_by_one_and_many_at_a_time(bus: SocketBus) -> None:
    assert bus.transfer(READ_VERSION) == VERSION
    assert bus.transfer_all([READ_VERSION, b"\0\x56\x01\0\0"]) == [VERSION, bytes.fromhex("000000000b")]
    assert bus.transfer_all([READ_VERSION] * 1000) == [VERSION] * 1000
    assert bus.transfer_all([]) == []
    long = bytes.fromhex("00400000") + bytes(4092)
    assert len(bus.transfer(long)) == 4096


def test_a_whole_bring_up_goes_through(bus: SocketBus, emulator: Emulator) -> None:
    frames = [row.mosi for row in rows("pktfwd_eu868") if row.number <= marks("pktfwd_eu868")["running"]]
    bus.transfer_all(frames)
    assert emulator.stats().running
    assert emulator.stats().spi_messages == len(frames)


def test_the_chip_survives_its_user(bus: SocketBus, paths: tuple[Path, Path]) -> None:
    bus.transfer(b"\0\xd8\x00\x15")
    bus.close()
    bus.close()
    with pytest.raises(BusError, match="closed"):
        bus.transfer(READ_VERSION)
    again = SocketBus(paths[0])
    assert again.transfer(b"\0\x58\x00\0\0")[4] == 0x15
    again.close()


def test_the_wires_work(bus: SocketBus, paths: tuple[Path, Path], emulator: Emulator) -> None:
    reset, power = SocketResetLine(paths[0]), SocketPowerLine(paths[0])
    reset.set(active=True)
    assert emulator.lines() == {"reset": True, "power": True}
    assert bus.transfer(READ_VERSION) == bytes(5)
    reset.set(active=False)
    assert bus.transfer(READ_VERSION) == VERSION
    power.set(active=False)
    assert emulator.lines() == {"reset": False, "power": False}
    for line in (reset, power):
        line.close()
        with pytest.raises(BusError, match="closed"):
            line.set(active=True)


def test_a_failing_bus_is_an_error_and_the_connection_stays(bus: SocketBus, emulator: Emulator) -> None:
    emulator.fault("bus_error", times=2)
    with pytest.raises(BusError, match="Input/output error"):
        bus.transfer(READ_VERSION)
    with pytest.raises(BusError, match="Input/output error"):
        bus.transfer_all([READ_VERSION, READ_VERSION])
    assert bus.transfer(READ_VERSION) == VERSION


def test_nobody_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BusError, match="No such file") as error:
        SocketBus(tmp_path / "none")
    assert error.value.retryable
    assert error.value.code == "CG-EMU-002"


def test_a_server_that_goes_away_is_an_error_of_the_bus(emulator: Emulator, paths: tuple[Path, Path]) -> None:
    server = Server(emulator, *paths)
    bus = SocketBus(paths[0])
    server.close()
    with pytest.raises(BusError):
        bus.transfer(READ_VERSION)
    assert not paths[0].exists()
    assert not paths[1].exists()


def test_a_left_over_socket_is_replaced_and_a_living_one_is_not(emulator: Emulator, paths: tuple[Path, Path]) -> None:
    left_over = socket.socket(socket.AF_UNIX)
    left_over.bind(str(paths[0]))
    left_over.close()
    of_others = set(threading.enumerate())
    with Server(emulator, *paths):
        with pytest.raises(BusError, match="another emulator"):
            Server(emulator, *paths)
        assert SocketBus(paths[0]).transfer(READ_VERSION) == VERSION
    (paths[0]).write_text("a file of somebody")
    with pytest.raises(BusError, match="in use"):
        Server(emulator, *paths)
    assert paths[0].read_text() == "a file of somebody"
    assert not [thread for thread in set(threading.enumerate()) - of_others if thread.name.startswith("accept-")]


def test_only_the_owner_may_connect(server: Server, paths: tuple[Path, Path]) -> None:
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o600, 0o600]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (wire.message(0x77, 0, 0, b""), "unknown operation"),
        (struct.pack("<BBHI", 1, 0, 1, 1 << 30), "limit"),
        (wire.message(1, 0, 1, b"\x05\0abc"), "within a frame"),
        (wire.message(1, 0, 1, b"\x01"), "within a frame"),
        (wire.message(1, 0, 1, b"\x01\0ab"), "behind the last frame"),
        (wire.message(1, 0, 1, b"\0\0"), "frame of 0 bytes"),
        (wire.message(1, 0, 2, b"\x01\0a\0\0"), "frame of 0 bytes"),
        (wire.message(3, 54, 0, b"\x01"), "GPIO line 54"),
        (wire.message(5, 0x39, 1, b"\0\x02\0a"), "within a message"),
        (wire.message(5, 0x39, 1, b"\0\0"), "within a message"),
        (wire.message(5, 0x39, 1, b"\x01\x02\0a"), "behind the last message"),
        (wire.message(2, 0, 0, b"\x02"), "level"),
        (wire.message(2, 9, 0, b"\x01"), "no wire"),
    ],
)
def test_what_breaks_the_rules_is_refused_and_disconnected(
    raw: Callable[[int], socket.socket], bus: SocketBus, message: bytes, why: str
) -> None:
    connection = raw(0)
    connection.sendall(message)
    answer = read_all(connection)
    assert answer[0] == wire.REFUSED
    assert why in answer[8:].decode()
    assert bus.transfer(READ_VERSION) == VERSION


def test_half_a_message_harms_nobody(raw: Callable[[int], socket.socket], bus: SocketBus) -> None:
    for part in (b"\x01", wire.message(1, 0, 1, b"\x05\0\0\x56\x06\0\0")[:-2]):
        connection = raw(0)
        connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        assert b"middle of a message" in read_all(connection)
    assert bus.transfer(READ_VERSION) == VERSION


def test_a_message_may_arrive_byte_by_byte(raw: Callable[[int], socket.socket]) -> None:
    connection = raw(0)
    for byte in wire.message(1, 0, 1, wire.pack_frames([READ_VERSION])):
        connection.sendall(bytes((byte,)))
    assert connection.recv(100)[-5:] == VERSION


def test_packets_are_injected_over_the_control_socket(raw: Callable[[int], socket.socket], bus: SocketBus) -> None:
    frames = [row.mosi for row in rows("pktfwd_eu868") if row.number <= marks("pktfwd_eu868")["running"]]
    bus.transfer_all(frames)
    air = raw(1)
    answer = ask(air, '{"cmd":"inject","freq_hz":868100000,"sf":7,"payload":"400102","id":17}')
    assert answer == {"ok": True, "id": "17", "rx": 1, "outcome": "fifo", "pending_bytes": 26}
    many = [
        {"freq_hz": 868_300_000, "sf": 9, "bw_hz": 125_000, "cr": "4/6", "payload": "", "crc": "bad", "snr_db": -7.25},
        {"freq_hz": 868_800_000, "mod": "FSK", "datarate": 50_000, "payload": "00", "rssi_dbm": -100},
        {"freq_hz": 868_100_000, "sf": 7, "payload": "01", "sync_word": 18},
    ]
    answer = ask(air, json.dumps({"cmd": "inject_many", "packets": many}))
    assert (answer["rx"], answer["count"], answer["pending_bytes"]) == (2, 3, 26 + 23 + 24)
    log = ask(air, '{"cmd":"rxlog","since":1}')
    assert log["next"] == 4
    entries = log["rx"]
    assert isinstance(entries, list)
    assert [entry["outcome"].split(":")[0] for entry in entries] == ["fifo", "fifo", "not_received"]
    assert not entries[0]["read"]
    stats = ask(air, '{"cmd":"stats"}')
    assert stats["running"] is True
    assert stats["injected"] == 4
    now = ask(air, '{"cmd":"now"}')
    at_us = int(str(now["us"])) + 60_000_000
    later = ask(air, json.dumps({"cmd": "inject", "freq_hz": 868_100_000, "sf": 7, "payload": "", "at_us": at_us}))
    assert later["outcome"] == "pending"
    assert ask(air, '{"cmd":"gpio"}') == {"ok": True, "reset": False, "power": True, "high": []}
    assert ask(air, '{"cmd":"txlog"}') == {"ok": True, "tx": []}
    assert ask(air, '{"cmd":"complaints"}') == {"ok": True, "complaints": []}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("nonsense", "Expecting value"),
        (b'"\xff"', "utf"),
        ("[]", "JSON object"),
        ("{}", "unknown cmd None"),
        ('{"cmd":["inject"]}', "unknown cmd"),
        ('{"cmd":"reboot"}', "unknown cmd 'reboot'"),
        ("[" * 100_000, ""),
        ('{"cmd":"inject"}', "freq_hz"),
        ('{"cmd":"inject","freq_hz":868100000,"payload":"40"}', "sf"),
        ('{"cmd":"inject","freq_hz":868100000,"sf":7}', "payload"),
        ('{"cmd":"inject","freq_hz":868100000,"sf":7,"payload":"4"}', "hexadecimal"),
        ('{"cmd":"inject","freq_hz":868100000,"sf":7,"payload":17}', "hexadecimal"),
        ('{"cmd":"inject","freq_hz":868100000,"sf":true,"payload":"40"}', "sf"),
        ('{"cmd":"inject","freq_hz":868100000,"sf":13,"payload":"40"}', "sf 13: outside 5 to 12"),
        ('{"cmd":"inject","freq_hz":868100000,"sf":7,"payload":"40","speed":1}', "unknown key 'speed'"),
        ('{"cmd":"inject","freq_hz":868100000,"sf":7,"payload":"40","cr":"4/9"}', "4/5, 4/6"),
        ('{"cmd":"inject","freq_hz":868100000,"sf":7,"payload":"40","rssi_dbm":NaN}', "rssi_dbm"),
        ('{"cmd":"inject","freq_hz":868100000,"sf":7,"payload":"40","invert_iq":1}', "true or false"),
        ('{"cmd":"inject","freq_hz":868100000,"sf":7,"payload":"40","at_us":-5}', "has passed"),
        ('{"cmd":"inject_many","packets":[]}', "a list of 1"),
        ('{"cmd":"inject_many","packets":[{"freq_hz":868100000,"sf":7,"payload":""},7]}', "packets[1]"),
        ('{"cmd":"rxlog","since":"x"}', "since"),
    ],
)
def test_a_bad_request_is_answered_and_forgotten(
    raw: Callable[[int], socket.socket], line: str | bytes, why: str
) -> None:
    air = raw(1)
    answer = ask(air, line)
    assert answer["ok"] is False
    assert why in str(answer["error"])
    stats = ask(air, '{"cmd":"stats"}')
    assert (stats["ok"], stats["injected"]) == (True, 0)


def test_several_requests_may_come_in_one_piece_and_one_in_several(raw: Callable[[int], socket.socket]) -> None:
    air = raw(1)
    air.sendall(b'{"cmd":"now"}\n\n{"cmd":"gpio"}\n{"cmd":')
    air.sendall(b'"stats"}\n')
    air.shutdown(socket.SHUT_WR)
    answers = [json.loads(line) for line in read_all(air).splitlines()]
    assert len(answers) == 3
    assert all(answer["ok"] for answer in answers)


def test_an_endless_line_is_refused(raw: Callable[[int], socket.socket], bus: SocketBus) -> None:
    air = raw(1)
    sent = 0
    try:
        while sent < 16 << 20:
            sent += air.send(b"x" * 65536)
    except OSError:
        pass
    assert sent < 16 << 20
    assert bus.transfer(READ_VERSION) == VERSION


def test_more_connections_than_allowed_are_closed(raw: Callable[[int], socket.socket]) -> None:
    answered = 0
    for _ in range(70):
        connection = raw(1)
        try:
            connection.sendall(b'{"cmd":"now"}\n')
            answered += bool(connection.recv(1000))
        except OSError:
            continue
    assert answered == 64
