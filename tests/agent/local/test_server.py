# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The thread that serves socket and page: bounded in everything, and nobody's business but its own."""

from __future__ import annotations

import json
import os
import random
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from agent import report
from agent.cli.status import look
from agent.clock import HostClock
from agent.demo.stage import free_port
from agent.errors import AgentError
from agent.local import client as clients
from agent.local import peer as peers
from agent.local import server as servers
from agent.local.answers import Answers
from agent.local.client import Connection, NobodyThereError, connected
from agent.local.feed import Feed
from agent.local.options import WebSection, parse_place
from agent.local.server import Server, SocketDoor
from agent.local.sighting import Fate, Sighting
from agent.local.web import WebDoor
from tests.agent.local.gateway import LIMIT_S, until

LIVE = b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
STATUS = b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Local:
    """A server with its feed."""

    def __init__(self, folder: Path, section: WebSection | None = None) -> None:
        self.folder = folder
        self.feed = Feed()
        self.answers = Answers(self.feed, folder, lambda: 0)
        self.port = 0 if section is None or section.listen is None else section.listen.port
        web = [] if section is None else [WebDoor(section, self.answers)]
        self.server = Server(self.answers, [SocketDoor(folder, self.answers), *web])
        self._number = 0

    def say(self, **said: object) -> None:
        self.feed.renew({"gateway": {"name": "x", "eui": None}} | said)

    def hear(self, count: int = 1) -> None:
        first, self._number = self._number + 1, self._number + count
        self.feed.add(Sighting(n, 0, Fate.KEPT, 0, 1, "lora", 7, 2, 3, 4) for n in range(first, self._number + 1))

    def http(self, host: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), LIMIT_S, (host, 0))

    def follower(self, host: str = "127.0.0.1") -> socket.socket:
        client = self.http(host)
        client.sendall(LIVE)
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        return client

    def unix(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(LIMIT_S)
        client.connect(str(self.folder / "agent.sock"))
        return client


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    place = parse_place(f"127.0.0.1:{free_port()}")
    found = Local(tmp_path, WebSection(listen=place))
    found.say()
    found.server.start()
    until((tmp_path / "agent.sock").exists, "the socket")
    until(lambda: accepts(found), "the page")
    yield found
    found.server.stop(LIMIT_S)
    found.feed.close()
    assert not (tmp_path / "agent.sock").exists()


def accepts(local: Local) -> bool:
    with suppress(OSError), local.http():
        return True
    return False


def all_of(client: socket.socket) -> bytes:
    parts = []
    while part := client.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def receptions(agent: Connection, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        found += [said["reception"] for said in agent.news() if "reception" in said]
    return found


def test_the_socket_is_for_user_and_group_alone(local: Local) -> None:
    mode = (local.folder / "agent.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


def test_who_asks_is_answered_and_sent_away(local: Local) -> None:
    with connected(local.folder) as agent:
        assert agent.ask({"get": "status"})["report"]["gateway"]["name"] == "x"
    with connected(local.folder) as agent:
        assert agent.ask({"get": "doctor"}) is None
    with connected(local.folder) as agent, pytest.raises(AgentError, match="ask"):
        agent.ask({"get": "private key"})
    with local.unix() as client:  # as `echo … | nc -UN` does
        client.sendall(b'{"get": "status"}')
        client.shutdown(socket.SHUT_WR)
        assert json.loads(all_of(client))["report"]
    until(lambda: local.server.clients == 0, "all to be gone")


def test_who_follows_gets_what_was_and_what_comes_in_order(local: Local) -> None:
    local.hear(30)
    with connected(local.folder) as agent:
        agent.send({"follow": ["receptions"], "history": 10})
        assert [one["number"] for one in receptions(agent, 10)] == list(range(21, 31))
        local.hear(200)
        assert [one["number"] for one in receptions(agent, 200)] == list(range(31, 231))
    with connected(local.folder) as agent:
        agent.send({"follow": ["status"]})
        seen = list(agent.news())
        assert seen[0]["status"]["report"]["gateway"]["name"] == "x"
        local.say(uptime_s=7)
        until(lambda: any(said["status"]["report"].get("uptime_s") == 7 for said in agent.news()), "the new report")
    until(lambda: local.server.clients == 0, "the one who hung up to be noticed")
    until(lambda: not local.feed.followed, "the radio to be left alone")


def test_a_slow_reader_learns_that_it_missed_something(local: Local) -> None:
    with connected(local.folder) as agent:
        agent.send({"follow": ["receptions"], "history": 0})
        until(lambda: local.feed.followed, "the follower")
        for _ in range(100):
            local.hear(200)
        got = missed = 0
        while got + missed < 20_000:
            for said in agent.news():
                got, missed = got + ("reception" in said), missed + said.get("missed", 0)
        assert got + missed == 20_000
        assert missed > 0


def test_who_takes_nothing_is_dropped(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "STALL_S", 0.3)
    with local.unix() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b'{"follow": ["receptions", "status"]}\n')
        until(lambda: local.feed.followed, "the follower")
        deaf = threading.Event()

        def dropped() -> bool:
            local.hear(50)
            local.say(filler="x" * 10_000)
            return local.server.clients == 0 or deaf.is_set()

        until(dropped, "it to be dropped")


def test_who_asks_nothing_is_sent_away(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "REQUEST_S", 0.2)
    with local.unix() as silent, local.http() as slow:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        assert all_of(silent) == b""
        assert all_of(slow) == b""


def test_too_many_are_told_so_and_the_others_stay(local: Local) -> None:
    with ExitStack() as stack:
        kept = [stack.enter_context(local.unix()) for _ in range(SocketDoor.most_clients)]
        for one in kept:
            one.sendall(b'{"follow": ["status"]}\n')
            assert one.recv(10) == b'{"status":'
        with local.unix() as one_more:
            assert b"too many" in all_of(one_more)
        for _ in range(WebDoor.most_of_one):
            stack.enter_context(local.follower())
        with local.http() as one_more:
            assert all_of(one_more).startswith(b"HTTP/1.1 503 ")
        with local.http("127.0.0.2") as another:
            another.sendall(STATUS)
            assert all_of(another).startswith(b"HTTP/1.1 200 ")
        for _ in range(WebDoor.most_clients - WebDoor.most_of_one):
            stack.enter_context(local.follower("127.0.0.3"))
        with local.http("127.0.0.2") as one_more:
            assert all_of(one_more).startswith(b"HTTP/1.1 503 ")
        local.say(uptime_s=7)
        until(lambda: b"uptime_s" in kept[0].recv(65_536), "the new report")
    until(lambda: local.server.clients == 0, "all to be gone")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_who_asks_nothing_keeps_nobody_out(local: Local, host: str) -> None:
    with ExitStack() as stack:
        following = stack.enter_context(local.follower())
        silent = [stack.enter_context(local.http()) for _ in range(WebDoor.most_of_one - 1)]
        silent += [stack.enter_context(local.http("127.0.0.3")) for _ in range(WebDoor.most_of_one)]
        for one in silent[1::2]:
            with suppress(OSError):
                one.sendall(b"GET")
        until(lambda: local.server.clients == WebDoor.most_clients, "a full door")
        for _ in range(5):
            with local.http(host) as client:
                client.sendall(STATUS)
                assert all_of(client).startswith(b"HTTP/1.1 200 ")
        assert b"too many clients" in all_of(silent[0])
        assert b"event: status" in following.recv(65_536)


def test_who_takes_no_answer_keeps_nobody_out(local: Local) -> None:
    local.say(filler="x" * 8_000_000)
    with ExitStack() as stack:
        for _ in range(WebDoor.most_of_one):
            client = stack.enter_context(local.http())
            client.sendall(STATUS)
            assert client.recv(15) == b"HTTP/1.1 200 OK"
        local.say()
        with local.http() as client:
            client.sendall(STATUS)
            assert all_of(client).startswith(b"HTTP/1.1 200 ")


def test_a_client_is_told_why_it_is_sent_away(local: Local) -> None:
    with ExitStack() as stack:
        for _ in range(SocketDoor.most_clients):
            agent = stack.enter_context(connected(local.folder))
            agent.send({"follow": ["status"]})
            next(agent.news())
        for _ in range(20):  # it may be told before or after it has asked
            with connected(local.folder) as agent, pytest.raises(AgentError, match="too many clients") as refused:
                agent.ask({"get": "status"})
            assert refused.value.code == "CG-LOC-003"


def test_a_reply_that_came_before_the_question_is_read(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen()
        with connected(tmp_path) as agent:
            server, _ = listener.accept()
            server.sendall(b'{"error": "too many clients"}\n')
            server.close()
            agent.send({"follow": ["status"]})
            with pytest.raises(AgentError, match="too many clients"):
                list(agent.news())


def test_an_agent_that_stands_still_is_not_taken_for_one_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "PATIENCE_S", 0.2)
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as stack:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen(1)
        for _ in range(2):
            agent = stack.enter_context(connected(tmp_path))
            with pytest.raises(AgentError, match="says nothing") as silent:
                agent.ask({"get": "status"})
            assert silent.value.code == "CG-LOC-003"
        with pytest.raises(AgentError, match="lets nobody in") as full:
            Connection(tmp_path)
        assert full.value.code == "CG-LOC-003"


def test_hostile_bytes_do_no_harm(local: Local) -> None:
    chance = random.Random(5)
    for turn in range(120):
        with local.unix() if turn % 2 else local.http() as client, suppress(OSError):
            beginning = chance.choice((b"", b"GET / HTTP/1.1\r\n", b'{"follow":', b'{"get": "status"}\n', b"[" * 1000))
            client.sendall(beginning + chance.randbytes(chance.choice((0, 1, 50, 3000, 30_000))))
            if chance.random() < 0.5:
                client.shutdown(socket.SHUT_WR)
                all_of(client)
    with connected(local.folder) as agent:
        assert agent.ask({"get": "status"})["report"]
    until(lambda: local.server.clients == 0, "all to be gone")


def test_who_goes_on_talking_is_dropped(local: Local) -> None:
    with local.unix() as client:
        client.sendall(b'{"follow": ["receptions"]}\n')
        until(lambda: local.feed.followed, "the follower")
        client.sendall(b"x" * 100)
        with suppress(OSError):
            assert all_of(client) == b""
    until(lambda: local.server.clients == 0, "it to be gone")


def test_a_flood_of_connections_waits_in_the_kernel(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "MOST_PER_S", 3)
    accepted = 0
    greet = WebDoor.greet

    def count(door: WebDoor, connection: socket.socket) -> None:
        nonlocal accepted
        accepted += 1
        greet(door, connection)

    monkeypatch.setattr(WebDoor, "greet", count)
    began_s = time.monotonic()
    for _ in range(8):
        with local.http() as client:
            client.sendall(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert all_of(client).startswith(b"HTTP/1.1 200 ")
    assert accepted >= 8
    assert time.monotonic() - began_s > 1  # 8 at 3 in a second


def test_an_agent_that_answers_but_hangs_is_told_from_one_that_runs(local: Local) -> None:
    clock = HostClock()
    local.say(boottime_us=clock.boottime_us())
    assert look(local.folder).problem == ""
    local.say(boottime_us=clock.boottime_us() - 60_000_000)
    assert "answers, but hangs" in look(local.folder).problem


def test_what_javascript_cannot_read_is_not_told(local: Local) -> None:
    local.say(outlook={"card_years": float("inf"), "buffer_days": float("nan")})
    (local.folder / "doctor.json").write_text('{"a": [NaN, -Infinity, 1e400, 5]}')
    with local.unix() as client:
        client.sendall(b'{"get": "status"}\n')
        assert b'"outlook":{"card_years":null,"buffer_days":null}' in all_of(client)
    with local.unix() as client:
        client.sendall(b'{"get": "doctor"}\n')
        assert all_of(client) == b'{"a":[null,null,null,5]}\n'


def test_an_agent_that_does_not_answer_is_not_blamed_on_the_user(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HostClock()
    said = {"version": report.VERSION, "pid": os.getpid(), "boot_id": clock.boot_id}
    report.write(local.folder, said | {"boottime_us": clock.boottime_us()})
    with ExitStack() as stack:
        for _ in range(SocketDoor.most_clients):
            agent = stack.enter_context(connected(local.folder))
            agent.send({"follow": ["status"]})
            next(agent.news())
        found = look(local.folder)
    assert found.said is not None
    assert "too many clients" in found.note
    monkeypatch.setattr(clients, "PATIENCE_S", 0.2)
    goes_on = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(local.server, "_turn", goes_on.wait)
        with suppress(AgentError):  # one turn is under way
            look(local.folder)
        found = look(local.folder)
    goes_on.set()
    assert "says nothing" in found.note
    assert "user" not in found.note


def test_a_browser_gets_the_page_and_the_stream(local: Local) -> None:
    local.hear(3)
    with local.http() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"<!doctype html>" in all_of(client)
    with local.http() as client:
        client.sendall(b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = b""
        while said.count(b"\n\n") < 4:
            said += client.recv(65_536)
        assert said.count(b"event: reception\ndata: {") == 3
        assert said.count(b"event: status\ndata: {") == 1


def test_a_port_that_is_taken_is_told_and_taken_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(servers, "AGAIN_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as other:
        local = Local(tmp_path, WebSection(listen=parse_place(f"127.0.0.1:{other.getsockname()[1]}")))
        with caplog.at_level("INFO"):
            local.server.start()
            until(lambda: "event=local_door_shut" in caplog.text, "the word that it is taken")
            with connected(tmp_path) as agent:
                assert agent.ask({"get": "status"}) == {"report": None, "remarks": []}
    until(lambda: accepts(local), "the page")
    assert caplog.text.count("event=local_door_shut") == 1
    local.server.stop(LIMIT_S)
    local.feed.close()


def test_a_defect_is_told_and_the_others_are_served_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(servers, "AGAIN_S", 0.05)
    local = Local(tmp_path)
    local.server.start()
    until((tmp_path / "agent.sock").exists, "the socket")
    with monkeypatch.context() as patch:
        patch.setattr(Answers, "status", lambda _: 1 / 0)
        with local.unix() as client:
            client.sendall(b'{"get": "status"}\n')
            assert all_of(client) == b""
    with connected(tmp_path) as agent:
        assert agent.ask({"get": "status"}) == {"report": None, "remarks": []}
    assert caplog.text.count("event=local_defect") == 1
    local.server.stop(LIMIT_S)
    local.feed.close()


def test_without_clients_it_sleeps(local: Local) -> None:
    with connected(local.folder) as agent:
        agent.ask({"get": "status"})
    until(lambda: local.server.clients == 0 and not local.feed.followed, "rest")
    turns = threading.Event()
    before = local.server._turn

    def count() -> None:
        turns.set()
        before()

    local.server._turn = count  # type: ignore[method-assign]
    turns.wait(0.5)  # in case the one before had not quite ended
    turns.clear()
    local.hear(100)
    local.say()
    assert not turns.wait(0.5)
    with connected(local.folder) as agent:
        agent.ask({"get": "status"})
    assert turns.wait(LIMIT_S)


def test_a_path_that_is_too_long_for_a_socket_is_none(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    (folder / "agent.sock").touch()  # as a process that was killed leaves it
    local = Local(folder)
    local.say()
    local.server.start()

    def answers() -> bool:
        with suppress(NobodyThereError), connected(folder) as agent:
            return bool(agent.ask({"get": "status"})["report"])
        return False

    until(answers, "an answer")
    local.server.stop(LIMIT_S)
    local.feed.close()


def test_nobody_there_and_not_allowed_are_two_things(tmp_path: Path) -> None:
    with pytest.raises(NobodyThereError) as nobody:
        Connection(tmp_path)
    assert nobody.value.code == "CG-LOC-001"
    with pytest.raises(NobodyThereError):
        Connection(tmp_path / "missing")
    if os.getuid() != 0:
        (tmp_path / "agent.sock").touch(mode=0)
