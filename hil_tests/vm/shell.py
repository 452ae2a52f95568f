# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Root's shell in the machine, through its second serial port: no network, no login, there before most services."""

from __future__ import annotations

import base64
import shlex
import socket
import time
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path

COMMAND_LIMIT_S = 300.0
"""How long a command may take unless told otherwise: the processor is emulated, and others use it, too."""
_CHUNK_BYTES = 2_000
_TAIL = 3_000


class ShellError(Exception):
    """A command failed, took too long, or the machine is gone; the text has what was seen."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a command has left.

    Attributes:
        code: its exit code.
        output: both streams.
    """

    code: int
    output: str


class Shell:
    """The harness's end of the port.

    Args:
        path: of the Unix socket that is the port's other end.
    """

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._buffer = b""

    def wait(self, limit_s: float) -> None:
        """Wait until somebody answers, as after a boot.

        Raises:
            ShellError: nobody does.
        """
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            mark = uuid.uuid4().hex[:8]
            # put together by the shell, so that an echo is no answer
            self._send(f"\necho {mark[:4]}''{mark[4:]}\n")
            if self._until(mark.encode(), 2.0) is not None:
                self._send("set +H; PS1= PS2=; stty -echo\n")
                self.run("true", limit_s=60)
                return
        raise ShellError(f"no shell within {limit_s:g} s; the last words were {self._tail()!r}")

    def run(self, command: str, *, limit_s: float = COMMAND_LIMIT_S) -> Result:
        """Carry out a command, of one or more lines, and return code and output.

        Raises:
            ShellError: it takes longer, or the machine is gone.
        """
        mark = uuid.uuid4().hex[:12]
        self._buffer = b""
        # nothing follows the mark: an end of line that comes late would be the beginning of the next answer
        self._send(f'{{ {command}\n}} </dev/null 2>&1; printf %s "@@"{mark}@@$?@@\n')
        said = self._until(f"@@{mark}@@".encode(), limit_s)
        if said is None:
            raise ShellError(f"no answer within {limit_s:g} s to: {command}\n{self._tail()}")
        code = self._until(b"@@", 30.0)
        if code is None:
            raise ShellError(f"half an answer to: {command}")
        return Result(int(code), said.decode(errors="replace").replace("\r\n", "\n"))

    def check(self, command: str, *, limit_s: float = COMMAND_LIMIT_S) -> str:
        """Carry out a command and return its output without the space around it.

        Raises:
            ShellError: it fails.
        """
        result = self.run(command, limit_s=limit_s)
        if result.code != 0:
            raise ShellError(f"exit code {result.code}: {command}\n{result.output[-_TAIL:]}")
        return result.output.strip()

    def put(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """Write a file; for those below some 100 kB, bigger ones come on a disk."""
        text = base64.b64encode(zlib.compress(content.encode() if isinstance(content, str) else content)).decode()
        where = shlex.quote(path)
        self.check(f": >{where}.b64")
        for at in range(0, len(text), _CHUNK_BYTES):
            self.check(f"printf %s {text[at : at + _CHUNK_BYTES]} >>{where}.b64")
        unpack = "import base64, sys, zlib; sys.stdout.buffer.write(zlib.decompress(base64.b64decode(open(0).read())))"
        self.check(
            f"python3 -c {shlex.quote(unpack)} <{where}.b64 >{where} && rm {where}.b64 && chmod {mode:o} {where}"
        )

    def get(self, path: str) -> bytes:
        """Return a file's content."""
        return base64.b64decode(self.check(f"base64 -w0 {shlex.quote(path)}"))

    def send(self, line: str) -> None:
        """Say something that is not waited for."""
        self._send(line + "\n")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _send(self, text: str) -> None:
        try:
            self._socket.settimeout(60)
            self._socket.sendall(text.encode())
        except OSError as error:
            raise ShellError(f"the machine is gone: {error}") from error

    def _until(self, token: bytes, limit_s: float) -> bytes | None:
        """Return what came before the token and drop it with that; None when it does not come."""
        deadline = time.monotonic() + limit_s
        while token not in self._buffer:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            self._socket.settimeout(left_s)
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                return None
            except OSError as error:
                raise ShellError(f"the machine is gone: {error}; its last words were {self._tail()!r}") from error
            if not data:
                raise ShellError(f"the machine is gone; its last words were {self._tail()!r}")
            self._buffer += data
        before, _, self._buffer = self._buffer.partition(token)
        return before

    def _tail(self) -> str:
        return self._buffer[-_TAIL:].decode(errors="replace")
