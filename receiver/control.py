# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Changes while the receiver runs: commands ask the process that holds the ledger, over a socket in the data folder.

One request per connection, one JSON line each way. Who may connect is who may enter the folder (mode 0700) and open the
socket (0600): the user of the receiver and root.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from agent.errors import AgentError
from receiver.errors import ReceiverError

SOCKET_NAME = "control.sock"
MAX_LINE_BYTES = 8 * 1024 * 1024
PATIENCE_S = 30.0
_CLIENT_PATIENCE_S = 5.0

Json = Mapping[str, object]
Handler = Callable[[Json], Json]

_log = logging.getLogger(__name__)


class ControlServer:
    """Answers requests in a thread, one at a time.

    Args:
        data_dir: folder of the ledger, whose writer lock this process holds.
        handlers: by the name of the request.
    """

    def __init__(self, data_dir: Path, handlers: Mapping[str, Handler]) -> None:
        self._data_dir = data_dir
        self._handlers = handlers
        (data_dir / SOCKET_NAME).unlink(missing_ok=True)
        self._sock = socket.socket(socket.AF_UNIX)
        with _short(data_dir) as path:
            before = os.umask(0o177)
            try:
                self._sock.bind(path)
            finally:
                os.umask(before)
        self._sock.listen(8)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S)
        self._sock.close()
        (self._data_dir / SOCKET_NAME).unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._sock.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_CLIENT_PATIENCE_S)
                answer = self._answer(_read_line(connection))
                connection.sendall(json.dumps(answer).encode() + b"\n")

    def _answer(self, line: bytes) -> Json:
        try:
            request = json.loads(line)
            handler = self._handlers[request["command"]]
        except (ValueError, KeyError, TypeError):
            return {"error": {"what": "not a request", "where": "control socket", "hint": "", "code": "CG-CTL-001"}}
        try:
            return handler(request)
        except AgentError as error:
            told = {"what": error.what, "where": error.where, "hint": error.hint, "code": error.code}
            return {"error": {**told, "exit_code": error.exit_code}}
        except Exception:
            _log.exception("event=control_failed command=%s", request["command"])
            told = {"what": "failed", "where": "receiver", "hint": "see the receiver's log", "code": "CG-CTL-002"}
            return {"error": told}


class RemoteError(ReceiverError):
    """What the running receiver answered, as if it had been raised here."""

    def __init__(self, error: Json) -> None:
        text = {key: str(error.get(key, "")) for key in ("what", "where", "hint", "code")}
        super().__init__(text["what"], where=text["where"], hint=text["hint"], code=text["code"])
        exit_code = error.get("exit_code", 1)
        self.exit_code = exit_code if isinstance(exit_code, int) else 1


def ask(data_dir: Path, request: Json) -> Json:
    """Ask the receiver that is running on a data folder.

    Raises:
        ReceiverError: CG-CTL-003, it does not answer; or what it answered.
    """
    try:
        with socket.socket(socket.AF_UNIX) as sock, _short(data_dir) as path:
            sock.settimeout(PATIENCE_S)
            sock.connect(path)
            sock.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(_read_line(sock))
    except (OSError, ValueError) as error:
        what = f"the process that holds the ledger does not answer: {error}"
        hint = "if it is a receiver that is just starting or stopping, try again; otherwise stop it"
        raise ReceiverError(what, where=str(data_dir), hint=hint, code="CG-CTL-003", retryable=True) from error
    if "error" in answer:
        raise RemoteError(answer["error"])
    return dict(answer)


def _read_line(sock: socket.socket) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = sock.recv(65536)
        if not chunk or len(line) + len(chunk) > MAX_LINE_BYTES:
            break
        line += chunk
    return bytes(line)


@contextlib.contextmanager
def _short(data_dir: Path) -> Iterator[str]:
    """Give a name of the socket that fits into the 108 bytes of a socket address, however long the folder's is."""
    folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET_NAME}"
    finally:
        os.close(folder)
