# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate status` and `civigate top` beside the real agent, and after it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.agent.local.gateway import FOREIGN, LIMIT_S, OWN, Gateway, until

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with tempfile.TemporaryDirectory(prefix="cg-") as folder:
        textfile = f'[metrics]\ntextfile = "{folder}/civigate.prom"\n[logging]\nformat = "json"'
        with Gateway(Path(folder), textfile) as found:
            yield found


def test_the_life_of_a_gateway_on_one_screen(gateway: Gateway) -> None:
    gateway.hear(OWN, 5, sf=9, channel=2)
    gateway.hear(FOREIGN, 1, sf=12, channel=2)
    until(lambda: (found := gateway.report()) is not None and found.said["radio"]["heard"] == 2, "both frames")
    shown = gateway.civigate("status", "-c", gateway.config)
    assert shown.returncode == 1
    assert "town hall  0016c00100c1f16a" in shown.stdout
    assert "destination city cannot be reached; frames are kept" in shown.stdout
    assert re.search(r"868\.500 +· +· +1 +· +· +1 +2 +1 ", shown.stdout)
    said = json.loads(gateway.civigate("status", "--runtime-dir", gateway.run, "--json").stdout)
    assert (said["running"], said["exit_code"]) == (True, 1)
    assert said["report"]["radio"]["heard"] == 2
    assert said["remarks"][0]["key"] == "unreachable"
    assert f"{OWN:08x}" not in shown.stdout
    text = gateway.config.with_name("civigate.prom").read_text()
    assert "civigate_spool_state" in {family.name for family in text_string_to_metric_families(text)}

    (gateway.run / "agent.sock").unlink()
    shown = gateway.civigate("status", "-c", gateway.config)
    assert "does not answer on its socket" in shown.stdout
    assert "town hall" in shown.stdout

    gateway.stop(signal.SIGKILL)
    shown = gateway.civigate("status", "-c", gateway.config)
    assert shown.returncode == 1
    assert "has ended without a word" in shown.stdout.replace("\n", " ")

    (gateway.run / "status.json").unlink()
    shown = gateway.civigate("status", "-c", gateway.config)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "start it: sudo systemctl start civigate" in shown.stderr
    assert json.loads(gateway.civigate("status", "-c", gateway.config, "--json").stdout)["running"] is False
    gone = gateway.civigate("top", "-c", gateway.config, "--once")
    assert gone.returncode == 1
    assert "CG-LOC-001" in gone.stderr

    events = [line["event"] for line in gateway.logged()]
    assert {"started", "radio_state", "local_door_open", "local_client"} <= set(events)


def test_top_as_lines_and_as_json(gateway: Gateway) -> None:
    command = [sys.executable, "-m", "agent.cli.main", "top", "-c", str(gateway.config)]
    with (
        subprocess.Popen([*command, "--own"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as lines,
        subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as objects,
    ):
        try:
            assert lines.stdout is not None
            told = objects.stdout
            assert told is not None
            until(lambda: sum(line["event"] == "local_client" for line in gateway.logged()) >= 1, "a client")
            until(lambda: "status" in json.loads(told.readline()), "the first report")
            deadline = time.monotonic() + LIMIT_S
            while not select.select([lines.stdout], [], [], 0.2)[0]:
                assert time.monotonic() < deadline
                gateway.hear(FOREIGN, 1, channel=1)
                gateway.hear(OWN, 77, sf=10)
            line = lines.stdout.readline()
            assert re.match(r"\d{4}-\d\d-\d\dT[\d:]{8}Z own +26011bda data +868\.100 SF10 ", line)
            assert "counter 77" in line
            seen = (json.loads(line) for line in told)
            fates = {
                found["reception"]["fate"] for found, _ in zip(seen, range(4), strict=False) if "reception" in found
            }
            assert fates <= {"kept", "filtered"}
        finally:
            for process in (lines, objects):
                process.terminate()


def test_top_on_a_terminal_draws_what_changed_and_leaves_on_q(gateway: Gateway) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm-256color", "NO_COLOR": "1"}
        os.execv(sys.executable, [sys.executable, "-m", "agent.cli.main", "top", "-c", str(gateway.config)])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 30, 100, 0, 0))
    shown = ""

    def shows(text: str) -> bool:
        nonlocal shown
        while select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65_536).decode(errors="replace")
        return text in shown

    until(lambda: shows("town hall"), "the first picture")

    def hears(f_cnt: int) -> bool:
        gateway.hear(OWN, f_cnt)
        return shows(str(f_cnt))

    until(lambda: hears(4242), "the frame")
    gateway.stop(signal.SIGKILL)
    until(lambda: shows("the agent hung up"), "the word that it is gone")
    gateway.start()
    until(lambda: hears(5353), "the frame of the next agent")
    os.write(terminal, b"\x1b[A oq")  # an arrow and all that was typed while nothing was drawn, at once
    assert os.waitpid(pid, 0) == (pid, 0)
    with suppress(OSError):  # what a terminal says whose other end is closed
        shows("")
    assert "\x1b[?1049l" in shown  # the screen of before is back
    assert not re.search(r"\x1b\[[\d;]*3\dm", shown)
    os.close(terminal)

    with subprocess.Popen(
        [sys.executable, "-m", "agent.cli.main", "top", "-c", str(gateway.config)],
        stdin=(ends := pty.openpty())[1],
        stdout=ends[1],
        env=os.environ | {"TERM": "dumb"},
    ) as plain:
        terminal, shown = ends[0], ""
        until(lambda: hears(6464), "a line on a terminal that can do no more")
        plain.terminate()
    assert "\x1b" not in shown
    for end in ends:
        os.close(end)
