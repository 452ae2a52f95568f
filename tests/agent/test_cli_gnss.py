# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate gnss`: a technician sees in one look what the receiver does, and what to do."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent import report
from agent.cli.gnss import lines
from agent.cli.main import main
from agent.clock import HostClock
from agent.gnss import GnssStatus
from drivers.emulator import Emulator
from drivers.emulator.gnss import GnssPort, GnssSettings
from drivers.gnss.receiver import ReceiverState, ReceiverStatus
from drivers.gnss.synchroniser import Tally
from drivers.gnss.timekeeping import Sight

START = datetime(2026, 11, 22, tzinfo=UTC)
EXACT = GnssStatus(
    receiver=ReceiverStatus(ReceiverState.FIX, sight=Sight(1, fix=True, dimensions=3, satellites=8, hdop=1.01)),
    settled=True,
    pulses=Tally(),
    pulse_age_s=0.4,
    time_age_s=0.9,
    drift_ppb=-1234,
    anchors=3,
    disputed=False,
)


def configuration(folder: Path, device: str = "") -> Path:
    file = folder / "gateway.toml"
    gnss = f'[gnss]\ndevice = "{device}"\n' if device else ""
    file.write_text(f'[gateway]\nruntime_dir = "run"\n[concentrator]\nboard = "rak_2287"\n{gnss}')
    return file


def running(folder: Path, status: GnssStatus | None) -> None:
    (folder / "run").mkdir()
    clock = HostClock()
    said = {"version": report.VERSION, "pid": os.getpid(), "boot_id": clock.boot_id, "boottime_us": clock.boottime_us()}
    report.write(folder / "run", said | {"gnss": status})


def said(status: GnssStatus) -> str:
    return "\n".join(lines(json.loads(json.dumps(status, default=report._plain))))


def test_a_receiver_is_listened_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = tmp_path / "ttyGNSS"
    with GnssPort(Emulator(), link, GnssSettings(start=START)):
        assert main(["gnss", "--device", str(link)]) == 0
    out = capsys.readouterr().out
    assert "receiver   fix" in out
    assert "position   47.192050, 8.698390, 500 m" in out
    assert "only the running agent" in out


def test_without_a_fix_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = tmp_path / "ttyGNSS"
    with GnssPort(Emulator(), link, GnssSettings(start=START, fix_after_s=1000)):
        assert main(["gnss", "-c", str(configuration(tmp_path, "ttyGNSS")), "--seconds", "2.5", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["receiver"]["state"] == "no_fix"


def test_a_port_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gnss", "--device", str(tmp_path / "nowhere"), "--seconds", "0.1"]) == 3
    assert "nowhere: does not exist; plug the receiver in" in capsys.readouterr().out


def test_a_configuration_without_a_receiver_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["gnss", "-c", str(configuration(tmp_path))])
    assert caught.value.code == 2
    assert "set device in [gnss]" in capsys.readouterr().err


def test_the_running_agent_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    running(tmp_path, EXACT)
    assert main(["gnss", "-c", str(configuration(tmp_path, "nowhere"))]) == 0
    out = capsys.readouterr().out
    assert "sky        fix 3D, 8 satellites, HDOP 1.01" in out
    assert "pulse      every second, the concentrator's crystal is -1.23 ppm off" in out
    assert "time       exact, 3 clock anchors made" in out


def test_what_is_wrong_is_said() -> None:
    from dataclasses import replace

    assert "never seen by the concentrator" in said(replace(EXACT, pulse_age_s=None, time_age_s=None))
    assert "none for 100 s" in said(replace(EXACT, pulse_age_s=100.2))
    assert "lost 60 s ago" in said(replace(EXACT, time_age_s=60.0))
    assert "contradicts" in said(replace(EXACT, disputed=True))
