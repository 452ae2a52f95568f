# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""systemd is fed while every thread keeps its word: not when one hangs, and also while nothing can be reached."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent import config, radio
from agent.batch.keys import Ed25519Signer
from agent.notify import Notifier
from agent.service import Service
from agent.spool import writer
from agent.uplink import sender
from agent.watchdog import Pulse, Watchdog

LIMIT_S = 60.0


class Systemd:
    """The socket on which systemd listens, read in one thread."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._heard: list[str] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            word = self._socket.recv(4096).decode()
            with self._changed:
                self._heard.append(word)
                self._changed.notify_all()

    def hears(self, word: str) -> bool:
        """Wait for a word from now on."""
        with self._changed:
            begin = len(self._heard)
            return self._changed.wait_for(lambda: word in self._heard[begin:], LIMIT_S)

    def count(self, word: str) -> int:
        with self._changed:
            return self._heard.count(word)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        tick.wait(0.02)


@pytest.mark.parametrize("abstract", [False, True])
def test_words_reach_systemd(tmp_path: Path, *, abstract: bool) -> None:
    name = f"@civigate-{os.getpid()}" if abstract else str(tmp_path / "notify")
    ears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ears.bind(f"\0{name[1:]}" if abstract else name)
    ears.settimeout(LIMIT_S)
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())})
    assert notifier.watchdog_s == 30.0
    notifier.ready()
    notifier.status("two\nlines")
    notifier.alive()
    notifier.stopping()
    assert [ears.recv(100) for _ in range(4)] == [b"READY=1", b"STATUS=two lines", b"WATCHDOG=1", b"STOPPING=1"]
    ears.close()


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}],
)
def test_without_systemd_nothing_is_said_and_nothing_fails(environment: dict[str, str], tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")} | environment)
    assert notifier.watchdog_s is None
    notifier.ready()
    with Watchdog(notifier) as watchdog:
        watchdog.stopping()


def test_a_start_that_systemd_did_not_hear_of_is_told_again(tmp_path: Path) -> None:
    watchdog = Watchdog(Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}))
    watchdog.ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ears:
        ears.bind(str(tmp_path / "notify"))
        ears.settimeout(LIMIT_S)
        watchdog.look()
        watchdog.look()
        watchdog.stopping()
        assert [ears.recv(100) for _ in range(4)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_one_broken_word_stops_the_feeding_until_it_is_kept_again(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    watchdog = Watchdog(Notifier({}))
    first, second = watchdog.pulse("first"), watchdog.pulse("second")
    for pulse in (first, second):
        pulse._clock_s = lambda: now_s
    assert watchdog.look(), "who has promised nothing yet is not late"
    first.beat(10.0)
    second.beat(100.0)
    now_s = 10.0
    assert watchdog.look()
    now_s = 10.1
    assert not watchdog.look()
    assert not watchdog.look()
    assert caplog.text.count("event=hung thread=first") == 1
    first.beat(10.0)
    assert watchdog.look()
    assert "event=moves_again thread=first" in caplog.text
    now_s = 99.0
    first.end()
    assert watchdog.look()
    now_s = 101.0
    assert not watchdog.look()
    watchdog.stopping()
    assert watchdog.look(), "the end has a limit of its own"


def test_a_pulse_starts_without_a_promise() -> None:
    assert Pulse("new").overdue_s() == 0.0


@contextmanager
def _emulator(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "agent.cli.main", "emulate", "--spi-socket", str(folder / "spi")]
    command += ["--control", str(folder / "air")]
    # it has a word for systemd as well, which must not be taken for the service's
    environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    listening = Systemd(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    for module in (radio, writer, sender):
        monkeypatch.setattr(module, "ORDINARY_S", 3.0)
    monkeypatch.setattr(writer, "COMMIT_LIMIT_S", 3.0)
    monkeypatch.setattr(writer, "LOOK_S", 0.5)
    monkeypatch.setattr(sender, "WORK_LIMIT_S", 3.0)
    monkeypatch.setattr(sender, "LOOK_S", 0.5)
    return listening


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """A gateway whose platform cannot be reached."""
    (tmp_path / "gateway.toml").write_text(f"""
[gateway]
eui = "0016c001ff10a235"
state_dir = "{tmp_path / "state"}"
runtime_dir = "{tmp_path / "run"}"
[concentrator]
bus = "emulator:{tmp_path / "spi"}"
board = "semtech_corecell_eu868"
[[destination]]
name = "city"
url = "https://localhost:9"
receipt_key = "{Ed25519Signer.generate().public.text}"
[destination.filter]
dev_addr = ["26000000/7"]
""")
    return Service(config.load(tmp_path / "gateway.toml"))


@contextmanager
def _running(service: Service) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=service.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(LIMIT_S)


def _hangs(service: Service, name: str) -> Callable[[], bool]:
    return lambda: name in service._watchdog._hung


def test_a_radio_that_hangs_on_its_bus_stops_the_feeding(tmp_path: Path, systemd: Systemd, service: Service) -> None:
    with _emulator(tmp_path) as chip, _running(service):
        until(lambda: systemd.count("READY=1") == 1)
        # The link is down all the time, which is no reason to be killed.
        assert systemd.hears("WATCHDOG=1")
        until(lambda: service._senders and service._senders[0].status.counts.get("failures", 0) >= 2)
        assert systemd.hears("WATCHDOG=1")
        until(lambda: service._radio is not None and service._radio.status.state is radio.RadioState.RECEIVING)
        chip.send_signal(signal.SIGSTOP)
        until(_hangs(service, "radio"))
        silent_from = systemd.count("WATCHDOG=1")
        assert not service._watchdog.look()
        assert systemd.count("WATCHDOG=1") == silent_from
        chip.send_signal(signal.SIGCONT)
        assert systemd.hears("WATCHDOG=1")
    assert systemd.count("STOPPING=1") == 1


def test_a_spool_or_an_uplink_that_hangs_stops_the_feeding(
    tmp_path: Path, systemd: Systemd, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = {"spool": threading.Event(), "uplink-city": threading.Event()}
    for event in go_on.values():
        event.set()

    def holding(name: str, owner: type, method: str) -> None:
        real = getattr(owner, method)

        def held(*args: object, **kwargs: object) -> object:
            go_on[name].wait(LIMIT_S)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, method, held)

    holding("spool", writer.SpoolWriter, "_check_place")
    holding("uplink-city", sender.Sender, "_session")
    with _emulator(tmp_path), _running(service):
        assert systemd.hears("WATCHDOG=1")
        for name, event in go_on.items():
            until(lambda: service._senders)
            event.clear()
            if name == "spool":
                # Whatever is asked of the thread: it is in the middle of a commit that does not end.
                threading.Thread(target=service._senders[0]._sink._writer.flush, daemon=True).start()  # type: ignore[attr-defined]
            until(_hangs(service, name))
            assert not service._watchdog.look()
            event.set()
            assert systemd.hears("WATCHDOG=1")
