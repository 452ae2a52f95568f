# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A receiver for tests: its configuration, and the service in this process or in one of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from agent.batch.keys import PublicKey, Resolve, ring
from agent.demo.authority import Credentials
from receiver import config
from receiver.cli.main import main
from receiver.service import Service

LIMIT_S = 20.0
PROGRAM = (sys.executable, "-m", "receiver.cli.main")


@dataclass(frozen=True)
class Certificates:
    """What both sides of a connection need."""

    authority: Path
    server: Credentials
    client: Credentials


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    code: int
    out: str
    err: str


@dataclass
class Platform:
    """A receiver's folder and configuration."""

    folder: Path
    certificates: Certificates
    port: int
    api_port: int
    toml: Path

    @property
    def url(self) -> str:
        """Where gateways go."""
        return f"https://localhost:{self.port}"

    @property
    def data_dir(self) -> Path:
        """The folder of the ledger."""
        return self.folder / "data"

    @property
    def resolve(self) -> Resolve:
        """Knows the receipt key."""
        return ring(PublicKey.from_text(self.json("identity", "show")["public_key"]))

    def client(self, *, certificate: bool = True) -> httpx.Client:
        """Connect as a gateway does."""
        context = ssl.create_default_context(cafile=str(self.certificates.authority))
        if certificate:
            context.load_cert_chain(self.certificates.client.certificate, self.certificates.client.key)
        return httpx.Client(base_url=self.url, verify=context, timeout=LIMIT_S)

    def run(self, *arguments: str | Path) -> Done:
        """Run a command with our configuration, in this process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*map(str, arguments), "-c", str(self.toml)])
        return Done(code, out.getvalue(), err.getvalue())

    def json(self, *arguments: str | Path) -> dict:  # type: ignore[type-arg] # what JSON gives
        """Run a command that answers with JSON."""
        done = self.run(*arguments, "--json")
        assert done.out, done.err
        return dict(json.loads(done.out))

    @contextlib.contextmanager
    def serving(self) -> Iterator[Service]:
        """Serve from threads of this process."""
        service = Service(config.load(self.toml))
        with service.serving():
            yield service

    @contextlib.contextmanager
    def process(self, ready: bytes = b"event=ready ") -> Iterator[subprocess.Popen[bytes]]:
        """Serve from a process of its own, until it is ready."""
        log = self.folder / "receiver.log"
        with log.open("wb") as file:
            started = subprocess.Popen([*PROGRAM, "serve", "-c", str(self.toml)], stderr=file)
        try:
            until(lambda: ready in log.read_bytes() or started.poll() is not None)
            assert started.poll() is None, log.read_text()
            yield started
        finally:
            if started.poll() is None:
                os.kill(started.pid, signal.SIGTERM)
                started.wait(LIMIT_S)


def platform(folder: Path, certificates: Certificates, *, extra: str = "", https: str = "") -> Platform:
    """Write a receiver's configuration and make its key."""
    port, api_port = free_port(), free_port()
    toml = folder / "receiver.toml"
    toml.write_text(
        f"""
[receiver]
data_dir = "data"

[https]
listen = "127.0.0.1"
port = {port}
certificate = "{certificates.server.certificate}"
key = "{certificates.server.key}"
{https}

[api]
port = {api_port}

[identity]
key_file = "receipt.key"
{extra}
"""
    )
    made = Platform(folder, certificates, port, api_port, toml)
    made.json("identity", "create")
    return made


def free_port() -> int:
    """Return a TCP port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Wait for a condition, not longer than a limit."""
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
