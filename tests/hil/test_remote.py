# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A gateway behind a command, whose service manager is played by scripts; a golden one with a real spool; the receiver
of a rig, the real program behind its relay."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from agent.demo.authority import Authority
from agent.demo.configuration import Folders, https_receiver_toml
from agent.demo.stage import free_port
from hil_tests.bench.receiver import Address, receiver
from hil_tests.bench.remote import Place, RemoteClock, RemoteDut, RemoteGolden, RemoteSystem
from hil_tests.bench.roles import LIES, BenchError
from tests.e2e.conftest import receiver as civigate_receiver

ROOT = Path(__file__).resolve().parents[2]
OLD_SPOOL = ROOT / "tests/data/spool/version-1.db"
SCRIPT = """#!/bin/sh
echo "$(basename "$0") $*" >> {log}
cat {folder}/says-$(basename "$0") 2>/dev/null
exit $(cat {folder}/exit 2>/dev/null || echo 0)
"""


class Machine:
    """A folder of scripts in front of the path, each noting how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.log = folder / "calls"
        for name in ("systemctl", "journalctl", "timedatectl", "date", "apt-get"):
            script = self.bin / name
            script.write_text(SCRIPT.format(log=self.log, folder=folder))
            script.chmod(0o755)
        (self.bin / "civigate").symlink_to(Path(sys.executable).with_name("civigate"))
        path = f"PATH={self.bin}:{os.environ['PATH']}"
        self.place = Place(
            via=("env", path, "sh", "-c"),
            root=(),
            config=f"{folder}/gateway.toml",
            state_dir=f"{folder}/state",
            runtime_dir=f"{folder}/run",
        )
        for name in ("state", "run"):
            (folder / name).mkdir()
        (folder / "gateway.toml").write_text(
            f'[gateway]\nstate_dir = "{folder}/state"\nruntime_dir = "{folder}/run"\n'
            '[concentrator]\nboard = "semtech_corecell_eu868"\n'
        )

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_service_is_asked_for_what_it_does(machine: Machine) -> None:
    dut = RemoteDut(machine.place)
    assert not dut.runs()
    (machine.folder / "says-systemctl").write_text("active\n")
    assert dut.runs()
    dut.start()
    dut.kill()
    dut.stop()
    assert machine.calls() == [
        "systemctl is-active civigate",
        "systemctl is-active civigate",
        "systemctl start --no-block civigate",
        "systemctl kill --signal=KILL civigate",
        "systemctl stop civigate",
    ]
    (machine.folder / "exit").write_text("5")
    with pytest.raises(BenchError, match="systemctl start"):
        dut.start()


def test_status_journal_and_spool_are_brought(machine: Machine, tmp_path: Path) -> None:
    dut = RemoteDut(machine.place)
    assert dut.status() is None
    (machine.folder / "run/status.json").write_text(json.dumps({"pid": 42, "radio": None}))
    (machine.folder / "says-systemctl").write_text("41\n")
    assert dut.status() is None, "it is of a process that was killed"
    (machine.folder / "says-systemctl").write_text("42\n")
    assert dut.status() == {"pid": 42, "radio": None}
    (machine.folder / "says-journalctl").write_text("it said so\n")
    shutil.copy(OLD_SPOOL, machine.folder / "state/spool.db")
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    dut.evidence(evidence)
    assert (evidence / "journal.txt").read_text() == "it said so\n"
    with closing(sqlite3.connect(evidence / "spool.db")) as copy:
        assert copy.execute("SELECT count(*) FROM frame").fetchone()[0] > 0


def test_what_a_command_says_comes_back_whole(machine: Machine) -> None:
    dut = RemoteDut(machine.place)
    done = dut.run("sh", "-c", 'cat; echo "a  b" >&2; exit 3', stdin=b"in\n")
    assert (done.exit_code, done.stdout, done.stderr) == (3, "in\n", "a  b\n")
    with pytest.raises(BenchError, match="timed out"):
        dut.run("sleep", "60", limit_s=0.2)
    with pytest.raises(BenchError, match="No such file"):
        RemoteDut(Place(via=("/nowhere/ssh",))).run("true")


def test_the_clock_is_taken_from_the_time_daemon_and_given_back(machine: Machine) -> None:
    clock = RemoteClock(RemoteDut(machine.place), machine.place)
    clock.set_wrong(-1e9)
    clock.synchronise()
    off, date, on = machine.calls()
    assert (off, on) == ("timedatectl set-ntp false", "timedatectl set-ntp true")
    assert date.startswith("date --set @7")


def test_a_package_is_brought_and_installed(machine: Machine, tmp_path: Path) -> None:
    package = tmp_path / "civigate.deb"
    package.write_bytes(b"!<arch>\n\x00\xff")
    system = RemoteSystem(RemoteDut(machine.place), machine.place, {"this": package, "previous": package})
    assert system.install("this").exit_code == 0
    there = Path("/tmp/hil-this.deb")
    assert there.read_bytes() == package.read_bytes()
    there.unlink()
    assert machine.calls() == ["apt-get install -y --allow-downgrades /tmp/hil-this.deb"]
    with pytest.raises(BenchError, match="no package of 'previous' release"):
        RemoteSystem(RemoteDut(machine.place), machine.place, {}).install("previous")


def test_on_the_way_back_the_spool_is_one_that_the_older_program_does_not_know(
    machine: Machine, tmp_path: Path
) -> None:
    package, spool, seen = tmp_path / "civigate.deb", machine.folder / "state/spool.db", machine.folder / "seen"
    package.write_bytes(b"!<arch>\n")
    shutil.copy(OLD_SPOOL, spool)

    def version() -> int:
        with closing(sqlite3.connect(spool)) as opened:
            number: int = opened.execute("PRAGMA user_version").fetchone()[0]
            return number

    before = version()
    (machine.bin / "apt-get").write_text(f"#!/bin/sh\nod -An -j60 -N4 -tx1 {spool} >> {seen}\n")
    system = RemoteSystem(RemoteDut(machine.place), machine.place, {"this": package, "previous": package})
    for which in ("previous", "this", "previous"):
        system.install(which)
        Path(f"/tmp/hil-{which}.deb").unlink()
    plain, again, back = seen.read_text().splitlines()
    assert (plain, back.split()) == (again, ["00", "63", "00", "63"])
    assert version() == before
    assert machine.calls()[-1] == "systemctl start --no-block civigate"


def test_the_golden_gateway_says_how_it_heard_a_packet(machine: Machine) -> None:
    shutil.copy(OLD_SPOOL, machine.folder / "state/spool.db")
    golden = RemoteGolden(machine.place, 1.5)
    with closing(sqlite3.connect(machine.folder / "state/spool.db")) as spool:
        names = [row[1] for row in spool.execute("PRAGMA table_info(frame)")]
    assert names
    listed = RemoteDut(machine.place).run(
        "civigate", "spool", "list", "-c", machine.place.config, "--json", "--last", "1"
    )
    row = json.loads(listed.stdout.splitlines()[0])
    heard = golden.heard(bytes.fromhex(row["phy_payload"]))
    assert heard is not None
    assert (heard.rssi_dbm, heard.snr_db) == (row["rssi_dbm"], row["snr_db"])
    assert golden.heard(b"never sent") is None
    (machine.folder / "state/spool.db").write_bytes(b"no spool")
    with pytest.raises(BenchError, match="golden"):
        golden.heard(b"x")


def test_the_receiver_of_a_rig_is_cut_restored_and_made_to_lie() -> None:
    with tempfile.TemporaryDirectory(prefix="cg-rec-") as name:
        folder = Path(name)
        authority, port, listen_port = Authority(folder), free_port(), free_port()
        toml = folder / "receiver.toml"
        server = authority.server("platform")
        toml.write_text(https_receiver_toml(Folders(folder), port=port, authority=authority, server=server))
        assert civigate_receiver("identity", "create", "-c", toml).returncode == 0
        run = folder / "bench"
        run.mkdir()
        with receiver(Address(toml, port, "127.0.0.1", listen_port), run) as platform:
            assert platform.frames() == []
            assert platform.verifies()
            socket.create_connection(("127.0.0.1", listen_port), timeout=30).close()
            platform.cut()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", listen_port), timeout=30)
            platform.restore()
            socket.create_connection(("127.0.0.1", listen_port), timeout=30).close()
            for lie in (*LIES, ""):
                platform.lie(lie)
            assert platform.lies_told() == 0
        toml.write_text(toml.read_text().replace("platform.pem", "gone.pem"))
        with (
            pytest.raises(BenchError, match=r"platform.*gone\.pem"),
            receiver(Address(toml, port, "127.0.0.1", listen_port), run),
        ):
            pass
