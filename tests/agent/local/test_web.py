# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What browsers and others may ask of the page's port, and what they are told."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import load
from agent.errors import AgentError, ConfigError
from agent.local.answers import Answers
from agent.local.dialect import Answer, Lines
from agent.local.feed import Feed
from agent.local.options import Place, parse_host_name, parse_place
from agent.local.web import SHORTEST_TOKEN, Http, parse, preferred, read_token

TOKEN = "s3cret-of-this-gateway"
FEED = Feed()


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    feed = Feed()
    feed.renew({"gateway": {"name": "town hall", "eui": None}})
    yield Answers(feed, tmp_path, lambda: 0)
    feed.close()


@pytest.fixture
def http(answers: Answers) -> Http:
    return Http(answers, frozenset({"localhost", "gateway-17"}), None)


def ask(
    http: Http, path: str = "/v1/status", *headers: str, method: str = "GET", host: str = "localhost:8080"
) -> Answer:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    answer = http.answer(("\r\n".join(lines) + "\r\n\r\n").encode(), ended=False)
    assert answer is not None
    return answer


def status(answer: Answer) -> int:
    return int(answer.body.split()[1])


def test_status_is_json_that_nobody_keeps(http: Http) -> None:
    answer = ask(http)
    head, _, body = answer.body.partition(b"\r\n\r\n")
    assert status(answer) == 200
    assert json.loads(body)["report"]["gateway"]["name"] == "town hall"
    assert b"Cache-Control: no-store" in head
    assert b"Content-Length: %d" % len(body) in head
    assert answer.follow is None


@pytest.mark.parametrize(
    "path", ["/", "/page.js", "/page.css", "/words.js", "/icon.svg", "/v1/status", "/metrics", "/nothing"]
)
def test_every_answer_forbids_what_the_page_does_not_need(http: Http, path: str) -> None:
    head = ask(http, path).body.partition(b"\r\n\r\n")[0].decode()
    assert "Content-Security-Policy: default-src 'none';" in head
    assert "frame-ancestors 'none'" in head
    assert "unsafe" not in head
    assert "X-Content-Type-Options: nosniff" in head
    assert "Referrer-Policy: no-referrer" in head
    assert "Set-Cookie" not in head
    assert "Access-Control-Allow" not in head


def test_the_page_brings_nothing_from_elsewhere_and_no_script_of_its_own(http: Http) -> None:
    for path in ("/", "/page.js", "/page.css", "/words.js", "/icon.svg"):
        text = ask(http, path).body.decode()
        assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}
    page = ask(http, "/").body.decode()
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script>|javascript:", page)
    script = ask(http, "/page.js").body.decode()
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script)


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("localhost:8080", 200),
        ("LOCALHOST", 200),
        ("gateway-17:8080", 200),
        ("192.168.1.7:8080", 200),
        ("[fd00::1]:8080", 200),
        ("evil.example", 421),
        ("localhost.evil.example:8080", 421),
        ("192.168.1.7.evil.example", 421),
        ("", 421),
        ("[", 421),
        ("localhost:x", 421),
    ],
)
def test_a_name_that_is_not_this_machines_is_refused(http: Http, host: str, told: int) -> None:
    assert status(ask(http, host=host)) == told
    assert status(ask(http, "/", host=host)) == told


def test_other_sites_may_not_ask(http: Http) -> None:
    assert status(ask(http, "/v1/status", "Sec-Fetch-Site: cross-site")) == 403
    assert status(ask(http, "/v1/live", "Sec-Fetch-Site: same-site")) == 403
    assert status(ask(http, "/v1/status", "Sec-Fetch-Site: same-origin")) == 200
    assert status(ask(http, "/", "Sec-Fetch-Site: cross-site")) == 200  # a link in a message


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH"])
def test_there_is_only_to_read(http: Http, method: str) -> None:
    answer = ask(http, method=method)
    assert status(answer) == 405
    assert b"Allow: GET, HEAD" in answer.body


def test_head_has_no_body(http: Http) -> None:
    answer = ask(http, method="HEAD")
    assert status(answer) == 200
    assert answer.body.endswith(b"\r\n\r\n")
    assert answer.body.count(b"\r\n\r\n") == 1
    assert ask(http, "/v1/live", method="HEAD").follow is None


def test_data_want_the_token_and_the_page_does_not(answers: Answers) -> None:
    http = Http(answers, frozenset({"localhost"}), TOKEN)
    for path in ("/v1/status", "/v1/doctor", "/v1/live", "/metrics"):
        for headers in (
            (),
            ("Authorization: Bearer wrong",),
            (f"Authorization: Basic {TOKEN}",),
            (f"Cookie: {TOKEN}",),
        ):
            answer = ask(http, path, *headers)
            assert status(answer) == 401
            assert answer.follow is None
            assert TOKEN.encode() not in answer.body
        assert status(ask(http, path, f"Authorization: Bearer {TOKEN}")) == 200
    assert status(ask(http, f"/v1/status?token={TOKEN}")) == 401
    for path in ("/", "/page.js", "/page.css", "/words.js"):
        assert status(ask(http, path)) == 200


def test_a_stream_begins_with_its_head_and_goes_on(http: Http) -> None:
    answer = ask(http, "/v1/live")
    assert answer.body.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
    assert answer.follow is not None
    assert answer.follow.frame("status", b"{}") == b"event: status\ndata: {}\n\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        b"GET / HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n",
        b"GET /" + b"\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100 + b"\r\n",
    ],
)
def test_what_is_no_request_is_refused(http: Http, request_: bytes) -> None:
    answer = http.answer(request_, ended=False)
    assert answer is not None
    assert status(answer) == 400


def test_a_request_without_end_is_waited_for_and_given_up(http: Http) -> None:
    assert http.answer(b"GET / HTTP/1.1\r\nHost: localhost\r\n", ended=False) is None
    cut = http.answer(b"GET / HTTP/1.1\r\nHost: localhost\r\n", ended=True)
    assert cut is not None
    assert status(cut) == 400
    long = http.answer(b"GET /" + b"a" * http.longest_request, ended=False)
    assert long is not None
    assert status(long) == 431


@pytest.mark.timeout(60)
@pytest.mark.parametrize("filler", [" ", "\t", " \t", "a", "a:", ",", ";q=1", "de-", "-"])
@pytest.mark.parametrize("start", ["X:", "Host:", "Accept-Language: de", "Authorization: Bearer", "X"])
def test_the_longest_request_is_read_in_one_pass(http: Http, start: str, filler: str) -> None:
    """Each of them would take minutes if the time grew with more than the length."""
    begin = f"GET / HTTP/1.1\r\n{start}"
    room = http.longest_request - len(begin) - len("\x01\r\n\r\n")
    for end in ("\x01", "", "!"):
        request = (begin + (filler * room)[:room] + end + "\r\n\r\n").encode()
        assert len(request) <= http.longest_request
        answer = http.answer(request, ended=False)
        assert answer is not None
        assert status(answer) in {400, 421}


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_get_an_answer_or_are_waited_for(data: bytes, ended: bool) -> None:
    answers = Answers(FEED, Path("/nonexistent"), lambda: 0)
    for dialect in (Http(answers, frozenset(), TOKEN), Lines(answers)):
        for request in (data, b"GET / HTTP/1.1\r\n" + data, data + b"\r\n\r\n", data + b"\n"):
            answer = dialect.answer(request, ended=ended)
            assert answer is not None or not ended
            if answer is not None and isinstance(dialect, Lines) and answer.body:
                assert answer.body.endswith(b"\n")
                json.loads(answer.body)


@given(
    st.dictionaries(st.from_regex(r"[a-z][a-z-]{0,20}", fullmatch=True), st.from_regex(r"[!-~]{1,40}", fullmatch=True))
)
def test_headers_come_as_they_were_sent(headers: dict[str, str]) -> None:
    headers = {name: value for name, value in headers.items() if name not in {"transfer-encoding", "content-length"}}
    head = "\r\n".join(["GET /a?b HTTP/1.1", *(f"{name.title()}:  {value} " for name, value in headers.items())])
    asked = parse(head.encode())
    assert (asked.method, asked.path, asked.headers) == ("GET", "/a", headers)


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-DE,de;q=0.9,en;q=0.8", "de"),
        ("fr, de;q=0.3, en;q=0.2", "de"),
        ("en;q=0.5, de;q=0.9", "de"),
        ("de;q=0, en;q=0.1", "en"),
        ("*", "en"),
        ("de;q=x", "en"),
        (",;;q=,", "en"),
    ],
)
def test_the_page_comes_in_the_language_that_is_liked_best(http: Http, accepted: str, language: str) -> None:
    assert preferred(accepted) == language
    assert f'<html lang="{language}"'.encode() in ask(http, "/", f"Accept-Language: {accepted}").body


def test_a_socket_says_what_it_takes() -> None:
    lines = Lines(Answers(FEED, Path("/nonexistent"), lambda: 0))
    for asked in (
        b"",
        b"{",
        b"[]",
        b"3",
        b'{"get": "keys"}',
        b'{"follow": []}',
        b'{"follow": ["all"]}',
        b'{"follow": [[]]}',
    ):
        answer = lines.answer(asked + b"\n", ended=False)
        assert answer is not None
        assert "error" in json.loads(answer.body)
    odd = lines.answer(b'{"follow": ["status"], "history": -1}\n', ended=False)
    assert odd is not None
    assert odd.follow is None


@pytest.mark.parametrize(
    "text", ["8080", ":8080", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:70000", "localhost:8080", "::1:8080"]
)
def test_what_is_no_place_to_listen_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|address"):
        parse_place(text)


def test_places_and_names() -> None:
    assert parse_place("[::1]:8080") == Place(ipaddress.ip_address("::1"), 8080)
    assert str(parse_place("[::1]:8080")) == "[::1]:8080"
    assert parse_host_name("Gateway.LAN") == "gateway.lan"
    for name in ("", "-a", "a b", "a..b", "x" * 64):
        with pytest.raises(ValueError, match="host name"):
            parse_host_name(name)


def test_beyond_loopback_it_wants_a_token_or_a_word(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    text = '[concentrator]\nboard = "rak_2287"\n[web]\nlisten = "0.0.0.0:8080"\n'
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"web\.listen.*nothing keeps them out"):
        load(file)
    for more in ("public = true\n", 'token_file = "token"\n'):
        file.write_text(text + more)
        assert load(file).web.listen is not None


@pytest.mark.parametrize(
    "text", [None, "", "short", "x" * (SHORTEST_TOKEN - 1), "x" * 300, "two words of a token", "ümlaut" * 5]
)
def test_a_token_that_cannot_be_used_is_not_told(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AgentError) as caught:
        read_token(path)
    assert caught.value.code == "CG-WEB-001"
    assert not text or text not in f"{caught.value} {caught.value.hint}"
