# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The page in a browser: HTTP/1.1, only GET and HEAD, one request on a connection [RFC 9110, RFC 9112].

Who may ask: whoever reaches it, or knows the token where there is one. Pages of other sites may not: a name that is
not this machine's is refused (a foreign name can be made to lead here), and so is a request that a browser calls
cross-site. Nothing is kept in the browser but what the page itself stores, there are no cookies, and nothing comes from
elsewhere.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from importlib import resources
from pathlib import Path
from typing import Final

from agent.errors import AgentError
from agent.local.answers import Answers
from agent.local.dialect import Answer, Dialect, Follow
from agent.local.options import Place, WebSection

SHORTEST_TOKEN: Final = 16
LONGEST_TOKEN: Final = 256
MOST_HEADERS: Final = 64
LIFETIME_S: Final = 3600.0
"""After which a browser has to ask for news again; the page does by itself."""
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LANGUAGES: Final = ("en", "de")
"""Of the page; the first is for everybody else."""

_REQUEST: Final = re.compile(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]")
# Blanks around a value are stripped afterwards: neighbours that both take them would be tried in every division.
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_LANGUAGE: Final = re.compile(r"\s*([a-zA-Z*]{1,8})(?:-[a-zA-Z0-9-]*)?\s*(?:;\s*q=\s*([01](?:\.[0-9]{0,3})?)\s*)?")

_ALWAYS: Final = (
    "Connection: close",
    "X-Content-Type-Options: nosniff",
    "Referrer-Policy: no-referrer",
    "Cross-Origin-Resource-Policy: same-origin",
    "Cross-Origin-Opener-Policy: same-origin",
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)
_FILES: Final = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/words.js": ("words.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked.

    Attributes:
        method: such as "GET".
        path: without the query.
        headers: by name in lower case.
    """

    method: str
    path: str
    headers: Mapping[str, str]


class _RefusedError(Exception):
    """A request that gets a status and one line of text."""

    def __init__(self, status: HTTPStatus, text: str, *headers: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers


def parse(head: bytes) -> Request:
    """Read the head of a request, without the empty line at its end.

    Raises:
        ValueError: it is none of ours; the text says why.
    """
    line, *rest = head.split(b"\r\n")
    match = _REQUEST.fullmatch(line)
    if match is None:
        raise ValueError("not a request of HTTP/1.1")
    if len(rest) > MOST_HEADERS:
        raise ValueError("too many headers")
    headers: dict[str, str] = {}
    for item in rest:
        field = _HEADER.fullmatch(item)
        if field is None:
            raise ValueError("a header that is none")
        name = field[1].decode("ascii").lower()
        if name in headers and name in {"host", "authorization", "content-length"}:
            raise ValueError(f"{name} twice")
        headers[name] = field[2].strip(b" \t").decode("latin-1")
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise ValueError("a request with a body")
    return Request(match[1].decode("ascii"), match[2].partition(b"?")[0].decode("ascii"), headers)


class Http:
    """The dialect of browsers and of Prometheus.

    Args:
        answers: what is told.
        names: of this machine, in lower case.
        token: that who asks for data has to know; None: nobody has to.
    """

    longest_request = 8192

    def __init__(self, answers: Answers, names: frozenset[str], token: str | None) -> None:
        self._answers = answers
        self._names = names
        self._token = token
        folder = resources.files("agent.local") / "page"
        self._files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
        self._data: dict[str, tuple[Callable[[], bytes], str]] = {
            "/v1/status": (answers.status, "application/json"),
            "/v1/doctor": (answers.doctor, "application/json"),
            "/metrics": (answers.metrics, METRICS_TYPE),
        }

    def answer(self, request: bytes, *, ended: bool) -> Answer | None:
        """Return the answer to a request."""
        head, end, _ = request.lstrip(b"\r\n").partition(b"\r\n\r\n")
        if not end:
            if len(request) >= self.longest_request:
                return _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too long")
            return _plain(HTTPStatus.BAD_REQUEST, "the request has no end") if ended else None
        try:
            asked = parse(head)
        except ValueError as error:
            return _plain(HTTPStatus.BAD_REQUEST, str(error))
        try:
            answer = self._route(asked)
        except _RefusedError as refused:
            answer = _plain(refused.status, refused.text, *refused.headers)
        if asked.method == "HEAD":
            return Answer(answer.body.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        return answer

    def busy(self) -> bytes:
        """Return what one too many is told."""
        return _plain(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients; try again", "Retry-After: 5").body

    def _route(self, asked: Request) -> Answer:
        if asked.method not in {"GET", "HEAD"}:
            raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "there is only to read here", "Allow: GET, HEAD")
        if not self._is_ours(asked.headers.get("host", "")):
            text = "asked for by a name that is not this gateway's; add it to [web] names if it should be"
            raise _RefusedError(HTTPStatus.MISDIRECTED_REQUEST, text)
        if asked.path in self._files:
            return self._file(asked)
        if asked.path not in self._data and asked.path != "/v1/live":
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here")
        self._admit(asked)
        if asked.path == "/v1/live":
            follow = Follow(_event, receptions=True, status=True, lifetime_s=LIFETIME_S)
            return Answer(_head(HTTPStatus.OK, "text/event-stream", None, "Cache-Control: no-store"), follow)
        make, kind = self._data[asked.path]
        return _answer(HTTPStatus.OK, kind, make(), "Cache-Control: no-store")

    def _is_ours(self, host: str) -> bool:
        """Tell whether a Host header names this machine; an address always does: it cannot be made to lead here."""
        name, colon, port = host.rpartition(":")
        if not colon or not port.isdecimal():
            name = host
        with suppress(ValueError):
            ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
            return True
        return name.lower().rstrip(".") in self._names

    def _admit(self, asked: Request) -> None:
        if asked.headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "other sites may not ask")
        if self._token is None:
            return
        scheme, _, told = asked.headers.get("authorization", "").partition(" ")
        known = hmac.compare_digest(told.strip().encode("utf-8"), self._token.encode())
        if scheme.lower() != "bearer" or not known:
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, "the token is wrong or missing", "WWW-Authenticate: Bearer")

    def _file(self, asked: Request) -> Answer:
        body, kind = self._files[asked.path]
        if asked.path == "/":
            language = preferred(asked.headers.get("accept-language", ""))
            body = body.replace(b'<html lang="en"', b'<html lang="' + language.encode() + b'"', 1)
            return _answer(HTTPStatus.OK, kind, body, "Cache-Control: no-cache", "Vary: Accept-Language")
        return _answer(HTTPStatus.OK, kind, body, "Cache-Control: no-cache")


def preferred(accepted: str) -> str:
    """Return the language of the page that an Accept-Language header likes best."""
    best, best_weight = LANGUAGES[0], 0.0
    for item in accepted[:1024].split(","):
        match = _LANGUAGE.fullmatch(item)
        if match is None:
            continue
        name, weight = match[1].lower(), float(match[2] or 1)
        if name in LANGUAGES and weight > best_weight:
            best, best_weight = name, weight
    return best


def _event(kind: str, said: bytes) -> bytes:
    """Make a server-sent event [HTML, Server-sent events]."""
    return b"event: " + kind.encode() + b"\ndata: " + said + b"\n\n"


def _plain(status: HTTPStatus, text: str, *headers: str) -> Answer:
    return _answer(status, "text/plain; charset=utf-8", f"{text}\n".encode(), "Cache-Control: no-store", *headers)


def _answer(status: HTTPStatus, kind: str, body: bytes, *headers: str) -> Answer:
    return Answer(_head(status, kind, len(body), *headers) + body)


def _head(status: HTTPStatus, kind: str, length: int | None, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", f"Content-Type: {kind}", *_ALWAYS, *headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


class WebDoor:
    """The page's port.

    Args:
        section: of the configuration; with `listen`.
        answers: what is told.
    """

    most_clients = 16
    most_of_one = 12
    """A browser opens six, and all that come through a tunnel are one host."""

    def __init__(self, section: WebSection, answers: Answers) -> None:
        assert section.listen is not None
        self._place: Place = section.listen
        self._section = section
        self._answers = answers
        self.name = f"http://{self._place}"

    def open(self) -> tuple[socket.socket, Dialect]:
        """Read the token and listen.

        Raises:
            OSError: the address is taken, or not this machine's (yet).
            AgentError: CG-WEB-001, the token cannot be used.
        """
        token = None if self._section.token_file is None else read_token(self._section.token_file)
        dialect = Http(self._answers, own_names() | frozenset(self._section.names), token)
        place = self._place
        family = socket.AF_INET6 if place.address.version == 6 else socket.AF_INET
        listener = socket.create_server((str(place.address), place.port), family=family, backlog=self.most_clients)
        listener.setblocking(False)
        return listener, dialect

    def greet(self, connection: socket.socket) -> None:
        """Take no note: who looks at a page need not be remembered."""


def own_names() -> frozenset[str]:
    """Return the names by which this machine may be asked for, in lower case."""
    name = socket.gethostname().lower()
    short = name.partition(".")[0]
    return frozenset({"localhost", name, short, f"{short}.local"})


def read_token(path: Path) -> str:
    """Read the first line of a file.

    Raises:
        AgentError: CG-WEB-001, it is missing, too short or not plain text.
    """
    hint = f"write one line of {SHORTEST_TOKEN} characters or more into it, for one with: openssl rand -hex 16"
    try:
        with path.open(encoding="ascii") as file:
            token = file.readline(LONGEST_TOKEN + 2).strip()
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "not plain text"
        raise AgentError(f"no token: {what}", where=str(path), hint=hint, code="CG-WEB-001") from error
    if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN or not token.isprintable() or " " in token:
        raise AgentError(f"a token of {len(token)} characters", where=str(path), hint=hint, code="CG-WEB-001")
    return token
