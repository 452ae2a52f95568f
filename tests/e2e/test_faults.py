# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a person meets when something is not as it should be: one line that says what and what to do."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agent.demo.air import Control
from agent.demo.stage import Stage
from tests.e2e.conftest import LIMIT_S, civigate, one_line, receiver, until

OWN = "80070000488047000514d4bb32ccac547d497dcb875a0e8194c3d210c96b07b6dc35f51e"


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize("command", ["run", "config"])
def test_a_mistyped_key_is_named_with_the_right_one(stage: Stage, command: str) -> None:
    replace(stage.gateway_toml, "batch_age_s", "batch_agee_s")

    done = (
        civigate("run", "-c", stage.gateway_toml)
        if command == "run"
        else civigate("config", "check", stage.gateway_toml)
    )

    one_line(done, str(stage.gateway_toml), "batch_agee_s", "batch_age_s")
    assert done.returncode == 2


def test_a_wrong_value_is_named_with_what_is_expected(stage: Stage) -> None:
    replace(stage.gateway_toml, "batch_age_s = 2.0", 'batch_age_s = "soon"')
    one_line(civigate("run", "-c", stage.gateway_toml), "batch_age_s", "soon")


def test_a_mistyped_receiver_configuration_is_refused(stage: Stage) -> None:
    replace(stage.receiver_toml, "client_ca", "client_cca")
    done = receiver("serve", "-c", stage.receiver_toml)
    one_line(done, str(stage.receiver_toml), "client_cca", "client_ca")
    assert done.returncode == 2


def test_an_occupied_port_is_named(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        text = stage.receiver_toml.read_text()
        mine = stage.receiver_toml.with_name("second.toml")
        used = next(line for line in text.splitlines() if line.startswith("port"))
        mine.write_text(text.replace(used, f"port = {port}"))
        one_line(receiver("serve", "-c", mine), str(port))


def test_an_unreachable_receiver_is_named_by_the_check(stage: Stage) -> None:
    stage.relay.cut()
    done = civigate("uplink", "check", "-c", stage.gateway_toml)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "refused" in done.stdout


def test_the_check_passes_when_all_is_well(stage: Stage) -> None:
    done = civigate("uplink", "check", "-c", stage.gateway_toml)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_spool_folder_that_cannot_be_written_is_named(stage: Stage, tmp_path: Path) -> None:
    # proc takes no files from anybody, not even from root, whom permissions would not hold back
    replace(stage.gateway_toml, "[spool]", '[spool]\npath = "/proc/sys/spool.db"')
    one_line(civigate("run", "-c", stage.gateway_toml), "/proc/sys")


def test_a_spool_of_a_newer_version_is_refused_and_left_alone(stage: Stage) -> None:
    stage.spool.parent.mkdir(exist_ok=True)
    with sqlite3.connect(stage.spool) as db:
        db.execute("PRAGMA user_version = 999")
    before = stage.spool.read_bytes()

    one_line(civigate("run", "-c", stage.gateway_toml), str(stage.spool), "999", "update civigate")

    assert stage.spool.read_bytes() == before


def test_a_spool_that_was_only_begun_when_the_power_went_does_not_keep_the_agent_from_starting(stage: Stage) -> None:
    stage.spool.parent.mkdir(exist_ok=True)
    stage.spool.touch()
    control = Control(stage.control_socket)

    stage.start_agent()

    until(lambda: control.ask({"cmd": "stats"})["running"], "the concentrator to receive")
    stage.check()


def test_a_missing_certificate_of_one_destination_does_not_end_the_agent(stage: Stage) -> None:
    """Frames for the others go on; a gateway that restarts in a loop hears nobody's."""
    text = stage.gateway_toml.read_text()
    key = next(line for line in text.splitlines() if line.startswith("receipt_key"))
    stage.gateway_toml.write_text(
        f'{text}\n[[destination]]\nname = "county"\nurl = "https://localhost:1"\n{key}\n'
        'cert_file = "/nowhere.pem"\n[destination.filter]\ndev_addr = ["04000000/7"]\n'
    )
    control = Control(stage.control_socket)

    stage.start_agent()
    until(lambda: b"/nowhere.pem" in stage.log_of("agent").read_bytes(), "the agent to name the file")
    until(lambda: b"to=receiving" in stage.log_of("agent").read_bytes(), "the concentrator to receive")
    control.ask({"cmd": "inject", "freq_hz": 868_100_000, "sf": 7, "bw_hz": 125_000, "payload": OWN})

    with sqlite3.connect(f"file:{stage.ledger}?mode=ro", uri=True) as ledger:
        until(lambda: ledger.execute("SELECT count(*) FROM frame").fetchone() == (1,), "the frame to arrive")


def test_a_missing_concentrator_does_not_end_the_agent(stage: Stage) -> None:
    text = stage.gateway_toml.read_text()
    bus = next(line for line in text.splitlines() if line.startswith("bus"))
    stage.gateway_toml.write_text(text.replace(bus, 'bus = "emulator:/nowhere.sock"'))

    stage.start_agent()
    until(lambda: b"/nowhere.sock" in stage.log_of("agent").read_bytes(), "the agent to name the bus")

    stage.check()
    assert b"Traceback" not in stage.log_of("agent").read_bytes()


def test_the_agent_survives_the_receivers_absence_from_the_first_moment(stage: Stage) -> None:
    stage.relay.cut()
    control = Control(stage.control_socket)
    stage.start_agent()
    until(lambda: control.ask({"cmd": "stats"})["running"], "the concentrator to receive")
    control.ask({"cmd": "inject", "freq_hz": 868_100_000, "sf": 7, "bw_hz": 125_000, "payload": OWN})
    until(lambda: b"refused" in stage.log_of("agent").read_bytes(), "the agent to notice that nobody is there")
    stage.check()

    stage.relay.restore()

    with sqlite3.connect(f"file:{stage.ledger}?mode=ro", uri=True) as ledger:
        until(lambda: ledger.execute("SELECT count(*) FROM frame").fetchone() == (1,), "the frame to arrive")


def test_an_agent_runs_only_once_on_a_spool(stage: Stage) -> None:
    stage.start_agent()
    until(lambda: b"radio_state" in stage.log_of("agent").read_bytes(), "the agent to start")
    one_line(civigate("run", "-c", stage.gateway_toml), str(stage.spool))


def test_help_has_examples_and_colour_stays_on_the_terminal() -> None:
    for command in (["run"], ["demo"], ["emulate"], ["uplink", "check"], ["config"], ["identity"]):
        done = civigate(*command, "--help")
        assert done.returncode == 0, command
        assert "example" in done.stdout.lower(), command
        assert "\x1b" not in done.stdout, command


def test_a_wrong_option_is_a_usage_error() -> None:
    for arguments in (["demo", "--frames", "0"], ["demo", "--rate", "x"], ["nonsense"], []):
        done = civigate(*arguments)
        assert done.returncode == 2, arguments
        assert "Traceback" not in done.stderr


def test_output_into_a_full_disk_is_named() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "agent.cli.main", "config", "example"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT_S,
        )
    one_line(done, "No space left on device")


def test_an_occupied_emulator_socket_is_named(stage: Stage) -> None:
    spi = stage.control_socket.with_name("spi.sock")
    done = civigate("emulate", "--spi-socket", spi, "--control", stage.control_socket)
    one_line(done, str(spi))


def test_sigterm_ends_the_agent_cleanly(stage: Stage) -> None:
    stage.start_agent()
    until(lambda: b"to=receiving" in stage.log_of("agent").read_bytes(), "the agent to receive")
    stage.stop_agent()
    with pytest.raises(Exception, match="agent"):
        stage.check()
    assert b"event=ended" in stage.log_of("agent").read_bytes()
