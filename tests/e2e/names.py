# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The name of the platform, and a name server that may not know it, not answer, or lie.

Only in a mount namespace of its own (`tests.e2e.link.inside`): /etc/hosts and /etc/resolv.conf become ours there. As
long as all is well the name stands in /etc/hosts; `trouble` takes it out, and whoever looks it up asks the server.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

HOST = "platform.test"
PORT: Final = 53
_LONGEST: Final = 512
_A, _IN, _TTL_S = 1, 1, 1


class Answer(Enum):
    """What the server does."""

    UNKNOWN = 3
    """It says that there is no such name [RFC 1035 §4.1.1, RCODE 3]."""
    FAILURE = 2
    """It says that it cannot tell [RCODE 2]."""
    SILENCE = -1
    """It does not answer."""
    LIE = 0
    """It names another address."""


class Names:
    """The name server, and the files that lead to it.

    Args:
        folder: for the files.
        server: address of this machine at which to listen.
        platform: address that the name stands for.
        lie: address that it is said to stand for, if the server lies.
    """

    def __init__(self, folder: Path, server: str, platform: str, lie: str) -> None:
        self._hosts, self._resolv = folder / "hosts", folder / "resolv.conf"
        self._server, self._lie = server, lie
        self._line = f"{platform} {HOST}\n"
        self._rest = Path("/etc/hosts").read_text()
        self._answer = Answer.UNKNOWN
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.asked = 0
        """Questions so far."""

    def __enter__(self) -> Self:
        self._hosts.write_text(self._rest + self._line)
        self._resolv.write_text(f"nameserver {self._server}\noptions timeout:1 attempts:2\n")
        for file, place in ((self._hosts, "/etc/hosts"), (self._resolv, "/etc/resolv.conf")):
            subprocess.run(["mount", "--bind", str(file), place], check=True)
        self._socket.bind((self._server, PORT))
        threading.Thread(target=self._serve, name="names", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @contextlib.contextmanager
    def trouble(self, answer: Answer) -> Iterator[None]:
        """Let the name be found by the server only, and let that behave so."""
        self._answer = answer
        self._hosts.write_text(self._rest)
        try:
            yield
        finally:
            self._hosts.write_text(self._rest + self._line)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                query, asker = self._socket.recvfrom(_LONGEST)
                self.asked += 1
                if self._answer is not Answer.SILENCE:
                    self._socket.sendto(self._reply(query), asker)

    def _reply(self, query: bytes) -> bytes:
        """Answer a question [RFC 1035 §4.1]; an address is known of kind A only."""
        end = query.index(b"\0", 12) + 5
        question, kind = query[12:end], int.from_bytes(query[end - 4 : end - 2], "big")
        answers = b""
        if self._answer is Answer.LIE and kind == _A:
            answers = b"\xc0\x0c" + b"".join(
                value.to_bytes(size, "big") for value, size in ((_A, 2), (_IN, 2), (_TTL_S, 4), (4, 2))
            )
            answers += socket.inet_aton(self._lie)
        flags = 0x8180 | self._answer.value
        counts = b"\0\1" + (b"\0\1" if answers else b"\0\0") + bytes(4)
        return query[:2] + flags.to_bytes(2, "big") + counts + question + answers
