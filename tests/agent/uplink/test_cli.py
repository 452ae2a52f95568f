# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate uplink check`, against real platforms and against what stands in the way."""

from __future__ import annotations

import argparse
import errno
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import report
from agent.batch.keys import Ed25519Signer
from agent.cli import uplink
from agent.clock import HostClock
from agent.errors import ConfigError
from agent.uplink import check as checking
from agent.uplink.carried import RETRY, Inbox
from agent.uplink.endpoint import Endpoint
from agent.uplink.sender import Sender
from tests.agent.uplink.scene import (
    EUI,
    PLATFORM_KEY,
    Broker,
    Gateway,
    HttpsServer,
    MqttConsumer,
    Platform,
    Trust,
    free_port,
    until,
)

Check = Callable[..., int]


def _toml(folder: Path, endpoint: Endpoint, key: str, name: str = "city") -> str:
    files = {"ca_file": endpoint.ca_file, "cert_file": endpoint.cert_file, "key_file": endpoint.key_file}
    lines = [f'{field} = "{path}"' for field, path in files.items() if path is not None]
    return "\n".join(
        [
            f'[gateway]\neui = "{EUI.hex()}"\nstate_dir = "{folder}"',
            '[concentrator]\nboard = "rak_2287"',
            f'[[destination]]\nname = "{name}"\nurl = "{endpoint.url}"\nreceipt_key = "{key}"',
            "connect_timeout_s = 2.0\nanswer_timeout_s = 2.0",
            *lines,
            "[destination.filter]",
        ]
    )


@pytest.fixture
def check(tmp_path: Path) -> Check:
    def run(endpoint: Endpoint, *options: str, key: str = PLATFORM_KEY.public.text) -> int:
        path = tmp_path / "gateway.toml"
        path.write_text(_toml(tmp_path, endpoint, key))
        parser = argparse.ArgumentParser()
        uplink.add_parser(parser.add_subparsers())
        args = parser.parse_args(["uplink", "check", "-c", str(path), *options])
        return int(args.func(args))

    return run


def _steps(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, bool, str]]:
    (entry,) = json.loads(capsys.readouterr().out)["destinations"]
    assert entry["ok"] == all(step["ok"] for step in entry["steps"])
    return [(step["step"], step["ok"], f"{step['detail']}; {step['hint']}") for step in entry["steps"]]


def test_https_from_the_name_to_the_receipt(
    trust: Trust, server: HttpsServer, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(trust.endpoint("https", server.port), "--json") == 0
    steps = _steps(capsys)
    assert [name for name, ok, _ in steps if ok] == ["name", "tcp", "cert", "tls", "receipt"]
    assert "127.0.0.1" in steps[0][2]
    assert "expires soon" in steps[2][2], "the certificate of these tests is good for a day"
    assert "TLSv1.3" in steps[3][2]
    assert "batch 0" in steps[4][2]
    assert "this host +0." in steps[4][2]


def test_lines_for_people(trust: Trust, server: HttpsServer, check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(trust.endpoint("https", server.port)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"city: https://localhost:{server.port}"
    steps = ("name", "tcp", "cert", "tls", "receipt")
    assert [line.split()[:2] for line in lines[1:]] == [["ok", step] for step in steps]


def test_every_way_to_the_platform_is_tried(
    trust: Trust, server: HttpsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.toml"
    text = _toml(tmp_path, trust.endpoint("https", server.port), PLATFORM_KEY.public.text)
    path.write_text(text.replace("receipt_key", f'fallback_urls = ["https://localhost:{free_port()}"]\nreceipt_key'))
    parser = argparse.ArgumentParser()
    uplink.add_parser(parser.add_subparsers())
    args = parser.parse_args(["uplink", "check", "-c", str(path), "--json"])
    assert args.func(args) == 1
    assert [entry["ok"] for entry in json.loads(capsys.readouterr().out)["destinations"]] == [True, False]


def test_the_first_step_that_fails_ends_it_and_says_what_to_do(
    trust: Trust, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(trust.endpoint("https", free_port())) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["ok", "FAIL"]
    assert lines[-1].endswith("[CG-UPL-002]")
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("change", "failing", "word"),
    [
        ({"url": "https://platform.invalid"}, "name", "DNS"),
        ({"ca_file": None}, "tls", "ca_file"),
        ({"cert_file": None, "key_file": None}, "receipt", "cert_file"),
        ({"ca_file": Path("/nowhere/ca.pem")}, "tls", "/nowhere/ca.pem"),
    ],
)
def test_each_step_can_fail(
    trust: Trust,
    server: HttpsServer,
    check: Check,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, object],
    failing: str,
    word: str,
) -> None:
    assert check(trust.endpoint("https", server.port, **change), "--json") == 1
    name, ok, text = _steps(capsys)[-1]
    assert (name, ok) == (failing, False)
    assert word in text


def test_a_wrong_receipt_key_is_found(
    trust: Trust, server: HttpsServer, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = Ed25519Signer.generate().public.text
    assert check(trust.endpoint("https", server.port), "--json", key=wrong) == 1
    name, ok, text = _steps(capsys)[-1]
    assert (name, ok) == ("receipt", False)
    assert "receipt_key" in text


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path, "allow_anonymous true")
    yield broker
    broker.kill()


def test_mqtt_with_and_without_a_retained_receipt(
    trust: Trust, broker: Broker, platform: Platform, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = trust.endpoint("mqtt", broker.port)
    assert check(endpoint, "--json") == 0
    steps = _steps(capsys)
    assert [name for name, ok, _ in steps if ok] == ["name", "tcp", "login", "receipt"]
    assert "the first batch brings it" in steps[-1][2]
    consumer = MqttConsumer(platform, broker.port)
    try:
        consumer.publish(platform.receipt(bytes(16)), retain=True)
    finally:
        consumer.stop()
    assert check(endpoint, "--json") == 0
    assert "verified" in _steps(capsys)[-1][2]


def test_a_destination_that_is_not_there_is_named(trust: Trust, check: Check) -> None:
    with pytest.raises(ConfigError, match='no destination "village"') as caught:
        check(trust.endpoint("https", 1), "--destination", "village")
    assert "city" in caught.value.hint


@pytest.fixture
def status(tmp_path: Path, trust: Trust) -> Callable[..., int]:
    def run(sender: Sender | None, *options: str) -> int:
        path, clock = tmp_path / "gateway.toml", HostClock()
        text = _toml(tmp_path, trust.endpoint("https", 1), PLATFORM_KEY.public.text)
        path.write_text(text.replace("[gateway]", f'[gateway]\nruntime_dir = "{tmp_path}"'))
        if sender is not None:
            said = {"version": report.VERSION, "pid": os.getpid(), "destinations": [sender.status]}
            report.write(tmp_path, said | {"boot_id": clock.boot_id, "boottime_us": clock.boottime_us()})
        parser = argparse.ArgumentParser()
        uplink.add_parser(parser.add_subparsers())
        args = parser.parse_args(["uplink", "status", "-c", str(path), *options])
        return int(args.func(args))

    return run


def test_status_tells_what_the_running_agent_meets(
    trust: Trust, server: HttpsServer, send: Callable[..., Sender], status: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(None) == 1
    assert "does not run" in capsys.readouterr().out

    lost = send(trust.endpoint("https", free_port()), Gateway(2))
    until(lambda: lost.status.retry_at_us is not None)
    assert status(lost) == 1
    first, problem, retry, queue, traffic = capsys.readouterr().out.splitlines()
    assert first.startswith("city: backoff for ")
    assert "connection refused; nothing listens there" in problem
    assert "next try in " in retry
    assert "acknowledged through batch 0 of 2; 2 wait, 0 on the way" in queue
    assert "MB up" in traffic

    found = send(trust.endpoint("https", server.port), Gateway(2))
    assert found.drain(15)
    assert status(found) == 0
    said = capsys.readouterr().out
    assert "city: online" in said
    assert "an answer takes" in said
    assert status(found, "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)["destinations"]
    assert (entry["problem"], entry["notice"], entry["through"]) == (None, None, 2)


def test_a_pause_is_ended_through_the_running_agent(
    trust: Trust, send: Callable[..., Sender], status: Check, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sender = send(trust.endpoint("https", free_port()), Gateway(1))
    status(None)
    parser = argparse.ArgumentParser()
    uplink.add_parser(parser.add_subparsers())
    args = parser.parse_args(["uplink", "retry", "-c", str(tmp_path / "gateway.toml")])
    assert args.func(args) == 1
    assert "does not run" in capsys.readouterr().out
    status(sender)
    asked: list[bool] = []
    inbox = Inbox(tmp_path, {}, lambda _: "", lambda _: None, {RETRY: lambda: asked.append(True)})
    inbox.look()
    assert args.func(args) == 0
    inbox.look()
    assert asked == [True]


class Backlog:
    """A port of all addresses of loopback that drops whoever wants to connect, as a firewall does."""

    def __enter__(self) -> int:
        self._listener = socket.create_server(("0.0.0.0", 0), backlog=0)
        port = int(self._listener.getsockname()[1])
        self._waiting = [socket.socket() for _ in range(4)]
        for sock in self._waiting:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        return port

    def __exit__(self, *_: object) -> None:
        for sock in (*self._waiting, self._listener):
            sock.close()


def _resolves(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    real = socket.getaddrinfo

    def answer(host: str, port: int, *more: Any, **options: Any) -> list[Any]:
        if host != "platform.example":
            return real(host, port, *more, **options)
        return [found for address in addresses for found in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


def test_one_time_out_is_for_all_addresses_of_a_name(
    trust: Trust, check: Check, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _resolves(monkeypatch, *(f"127.0.0.{number}" for number in range(1, 9)))
    with Backlog() as port:
        endpoint = replace(trust.endpoint("https", port), url=f"https://platform.example:{port}")
        assert check(endpoint, "--json") == 1
    (entry,) = json.loads(capsys.readouterr().out)["destinations"]
    assert entry["steps"][1]["code"] == "CG-UPL-003"
    assert entry["steps"][1]["took_ms"] < 8 * 2000 / 2, "each of eight has a limit of two seconds"


def test_an_address_that_answers_is_found_behind_dead_ones(
    trust: Trust, server: HttpsServer, check: Check, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _resolves(monkeypatch, "127.0.0.2", "127.0.0.1")
    endpoint = replace(trust.endpoint("https", server.port), url=f"https://platform.example:{server.port}")
    check(endpoint, "--json")
    assert _steps(capsys)[1][:2] == ("tcp", True)


def test_what_an_address_says_that_could_be_tried_counts_most(
    trust: Trust, check: Check, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = checking._begun

    def begun(address: str, port: int) -> socket.socket:
        if address != "127.0.0.1":
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        return begin(address, port)

    monkeypatch.setattr(checking, "_begun", begun)
    _resolves(monkeypatch, "127.0.0.1", "192.0.2.1")
    port = free_port()
    endpoint = replace(trust.endpoint("https", port), url=f"https://platform.example:{port}")
    assert check(endpoint, "--json") == 1
    assert "connection refused" in _steps(capsys)[1][2]


def test_name_servers_that_are_dead_end_the_wait(
    trust: Trust, check: Check, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()

    def hang(*_: object, **__: object) -> list[Any]:
        never.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(checking, "NAME_LIMIT_S", 0.5, raising=False)
    endpoint = replace(trust.endpoint("https", 443), url="https://platform.example")
    assert check(endpoint, "--json") == 1
    never.set()
    (step,) = _steps(capsys)
    assert step[0] == "name"
    assert "no name server answers within 0.5 s" in step[2]
