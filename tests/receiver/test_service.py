# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import stat
import subprocess
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx
import pytest

from agent.batch.model import Receipt
from agent.batch.receipt import open_answer
from receiver.ledger.sqlite import SqliteReader
from receiver.listener import bind
from tests.receiver.gateway import Gateway
from tests.receiver.platform import LIMIT_S, PROGRAM, Certificates, Platform, platform, until


@pytest.fixture
def made(tmp_path: Path, certificates: Certificates) -> Platform:
    return platform(tmp_path, certificates)


def refused(made: Platform) -> str:
    """Start the receiver, which must end with one line."""
    done = subprocess.run([*PROGRAM, "serve", "-c", str(made.toml)], capture_output=True, text=True, timeout=LIMIT_S)
    lines = done.stderr.strip().splitlines()
    assert done.returncode != 0
    assert len(lines) == 1, done.stderr
    return lines[0]


def post(client: httpx.Client, wire: bytes) -> httpx.Response:
    return client.post("/v1/batches", content=wire, headers={"content-type": "application/cbor"})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_ready_and_ends_cleanly(number: signal.Signals, made: Platform) -> None:
    with made.process() as process, made.client() as client:
        assert client.get("/v1/health").status_code == 200
        os.kill(process.pid, number)
        assert process.wait(LIMIT_S) == 0
    log = (made.folder / "receiver.log").read_text()
    assert log.count("event=ready ") == 1
    assert f"https=127.0.0.1:{made.port}" in log
    assert "stopped" in log
    assert not (made.data_dir / "control.sock").exists()
    assert not (made.data_dir / "ledger.db-wal").exists(), "the log was folded into the file"


def test_what_it_keeps_is_for_its_user_alone(made: Platform) -> None:
    with made.process():
        assert stat.S_IMODE(made.data_dir.stat().st_mode) == 0o700
        for name in ("ledger.db", "ledger.lock", "control.sock"):
            assert stat.S_IMODE((made.data_dir / name).stat().st_mode) == 0o600, name


def test_an_occupied_port_is_one_line(made: Platform) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", made.port))
        other.listen()
        line = refused(made)
    assert line == (
        f"civigate-receiver: 127.0.0.1:{made.port}: cannot listen: Address already in use;"
        " stop the program that listens there, or change [https] listen or port [CG-SRV-001]"
    )


@pytest.mark.parametrize(
    ("key", "value", "what", "code"),
    [
        ("certificate", "missing.pem", "No such file or directory", "CG-SRV-002"),
        ("key", "receipt.key", "cannot be used", "CG-SRV-002"),
        ("certificate", "receiver.toml", "cannot be used", "CG-SRV-002"),
        ("client_ca", "receipt.key", "cannot be used", "CG-SRV-002"),
        ("key_file", "other.key", "no such key file", "CG-IDN-002"),
    ],
)
def test_an_unusable_file_is_one_line(key: str, value: str, what: str, code: str, made: Platform) -> None:
    lines = [line for line in made.toml.read_text().splitlines() if not line.startswith(f"{key} =")]
    section = "[identity]" if key == "key_file" else "[https]"
    lines.insert(lines.index(section) + 1, f'{key} = "{value}"')
    made.toml.write_text("\n".join(lines))
    line = refused(made)
    assert what in line
    assert line.endswith(f"[{code}]")
    assert str(made.folder / value) in line


def test_an_encrypted_key_is_refused_instead_of_asking(made: Platform) -> None:
    key = made.folder / "locked.key"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:secret", "-out", str(key)],
        check=True, capture_output=True,
    )  # fmt: skip
    made.toml.write_text(made.toml.read_text().replace(str(made.certificates.server.key), str(key)))
    assert "CG-SRV-002" in refused(made)


def test_a_second_receiver_on_the_same_ledger_is_one_line(made: Platform, certificates: Certificates) -> None:
    with made.process():
        second = made.folder / "second"
        second.mkdir()
        other = platform(second, certificates)
        other.toml.write_text(other.toml.read_text().replace('"data"', f'"{made.data_dir}"'))
        assert "[CG-LED-001]" in refused(other)


def test_sigkill_between_commit_and_receipt_stores_once(made: Platform) -> None:
    """The gateway never reads the answer; the receiver dies as soon as the ledger has the batch."""
    gateway = Gateway()
    made.json("gateways", "add", gateway.eui.hex(), "--key", gateway.signer.public.text)
    wires = gateway.wires(3)
    with closing(SqliteReader(made.data_dir / "ledger.db")) as ledger:
        for wire in wires:
            through = ledger.state(gateway.stream_id, 9).through
            with made.process() as process, connect(made) as sock:
                sock.sendall(b"POST /v1/batches HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(wire) + wire)
                until(partial(_grew, ledger, gateway, through))
                process.kill()
                process.wait()
    with made.process(), made.client() as client:
        for wire in wires:
            receipt = open_answer(post(client, wire).content, made.resolve)
            assert isinstance(receipt, Receipt)
            assert receipt.through == 3
    status = made.json("status")
    assert status["ok"]
    assert (status["frames"], status["batches"]) == (9, 3)


def _grew(ledger: SqliteReader, gateway: Gateway, through: int) -> bool:
    return ledger.state(gateway.stream_id, 9).through == through + 1


def connect(made: Platform) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(made.certificates.authority))
    return context.wrap_socket(socket.create_connection(("127.0.0.1", made.port)), server_hostname="localhost")


def test_sigkill_under_load_loses_and_doubles_nothing(made: Platform) -> None:
    gateway = Gateway()
    made.json("gateways", "add", gateway.eui.hex(), "--key", gateway.signer.public.text)
    wires = gateway.wires(60, frames=5)
    acknowledged = 0
    for kill_after in (7, 16, len(wires)):
        with made.process() as process, made.client() as client:
            killer = threading.Thread(target=process.kill)
            for number in range(acknowledged, len(wires)):
                if number == acknowledged + kill_after and not killer.ident:
                    killer.start()
                try:
                    assert post(client, wires[number]).status_code == 200
                except httpx.TransportError:
                    break
                done = number + 1
            acknowledged = done
            if killer.ident:
                killer.join(LIMIT_S)
                process.wait(LIMIT_S)
    assert acknowledged == len(wires)
    status = made.json("status")
    assert status["ok"]
    assert (status["frames"], status["batches"]) == (300, 60)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_answer_waited_for_the_gateways_acknowledgement_because_the_listener_named_no_protocol(address: str) -> None:
    with bind(address, 0, "https") as sock:
        sock.listen()
        accepted: list[int] = []

        async def serve() -> None:
            done = asyncio.Event()

            def met(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                peer: socket.socket = writer.get_extra_info("socket")
                accepted.append(peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                writer.close()
                done.set()

            async with await asyncio.start_server(met, sock=sock):
                with socket.create_connection(sock.getsockname()[:2], timeout=5):
                    await asyncio.wait_for(done.wait(), 5)

        asyncio.run(serve())
    assert accepted == [1]
