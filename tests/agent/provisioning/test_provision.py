# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""From civigate.toml to the first receipt, with the programs as they are."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent import config, identity
from agent.cli.main import main
from agent.demo.authority import Authority
from agent.enrolment import claim
from agent.errors import AgentError, SpoolError
from agent.provisioning import card as card_module
from agent.provisioning import preparation, provisioner
from agent.provisioning.boot import BootPartition
from agent.provisioning.desk import Desk
from agent.provisioning.preparation import Located, NoConcentratorError
from agent.provisioning.provisioner import Places, Provisioner
from drivers import boards
from drivers.emulator import Emulator
from drivers.emulator.remote import Server
from tests.agent.provisioning import inside
from tests.receiver.enrolment.town import Town, town
from tests.receiver.platform import Certificates, until

LIMIT_S = 60.0
EUI = "0016c001ff123456"
CIVIGATE = (sys.executable, "-m", "agent.cli.main")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return Certificates(authority.certificate, authority.server("platform"), authority.client("gateway"))


@pytest.fixture
def here(tmp_path: Path, certificates: Certificates) -> Town:
    (tmp_path / "platform").mkdir()
    return town(tmp_path / "platform", certificates)


@dataclass
class Card:
    """A gateway's card in its reader, and the gateway when it is switched on."""

    folder: Path
    town: Town

    @property
    def boot(self) -> Path:
        return self.folder / "boot"

    @property
    def note(self) -> Path:
        return self.boot / "civigate-error.txt"

    @property
    def result(self) -> dict:  # type: ignore[type-arg] # what TOML gives
        return dict(tomllib.loads((self.boot / "civigate.toml").read_text()).get("result", {}))

    @property
    def toml(self) -> Path:
        return self.folder / "gateway.toml"

    @property
    def log(self) -> str:
        return (self.folder / "provision.log").read_text()

    def write(self, claim: str, *, board: str = "rak_2287") -> None:
        """Leave civigate.toml, as a laptop does."""
        authority = self.town.platform.certificates.authority.read_bytes()
        (self.boot / "platform-ca.pem").write_bytes(authority)
        (self.boot / "civigate.toml").write_text(
            f"""[provision]
format = 1
name = "north mast"
claim = "{claim}"
platform = "{self.town.url}"
ca_file = "platform-ca.pem"
region = "EU868"
board = "{board}"
bus = "emulator:{self.folder}/spi.sock"
"""
        )

    @contextlib.contextmanager
    def provisioning(self) -> Iterator[subprocess.Popen[bytes]]:
        """Do what the unit does at the start of the system."""
        state = ("--state", str(self.folder / "desk"))
        words = [*CIVIGATE, "provision", "run", "--boot", str(self.boot), "-c", str(self.toml), *state]
        with (self.folder / "provision.log").open("ab") as log:
            started = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            yield started
        finally:
            if started.poll() is None:
                started.send_signal(signal.SIGKILL)
            started.wait(LIMIT_S)

    @contextlib.contextmanager
    def agent(self) -> Iterator[None]:
        """Run the agent beside it."""
        with (self.folder / "agent.log").open("wb") as log:
            started = subprocess.Popen([*CIVIGATE, "run", "-c", str(self.toml)], stderr=log)
        try:
            yield
        finally:
            os.kill(started.pid, signal.SIGTERM)
            started.wait(LIMIT_S)

    def stage(self, stage: str) -> bool:
        """Whether the file says so."""
        with contextlib.suppress(OSError, tomllib.TOMLDecodeError):
            return bool(self.result.get("stage") == stage)
        return False


@pytest.fixture
def card(tmp_path: Path, here: Town) -> Iterator[Card]:
    made = Card(tmp_path / "gateway", here)
    made.boot.mkdir(parents=True)
    (made.folder / "spool").mkdir()
    made.toml.write_text(f'[gateway]\nstate_dir = "{made.folder}/state"\nruntime_dir = "{made.folder}/run"\n')
    (made.folder / "run").mkdir()
    with Server(Emulator(), made.folder / "spi.sock", made.folder / "control.sock"):
        yield made


def test_a_file_on_the_boot_partition_brings_the_gateway_online(card: Card) -> None:
    """Offline at first: everything that needs no network is done, and the secrets are gone from the partition."""
    code = card.town.code(bytes.fromhex(EUI))
    card.write(code)
    with card.provisioning() as provisioning:
        until(lambda: card.stage("waiting for the platform") or provisioning.poll() is not None, LIMIT_S)
        said = card.result
        assert said["stage"] == "waiting for the platform", card.log
        assert (said["eui"], said["chip"], said["boards"]) == (EUI, "SX1302", ["rak_2287"])
        assert code not in (card.boot / "civigate.toml").read_text()
        assert not config.load(card.toml).destination
    # the power went: whoever looks at the card in a reader sees how far it was, and it goes on by itself
    assert not card.note.exists()
    with card.town.platform.serving(), card.provisioning() as provisioning:
        until(lambda: card.stage("enrolled") or provisioning.poll() is not None, LIMIT_S)
        assert card.stage("enrolled"), card.log
        (destination,) = config.load(card.toml).destination
        assert config.load(card.toml).gateway.name == "north mast"
        with card.agent():
            assert provisioning.wait(LIMIT_S) == 0
        assert card.result["stage"] == "online", card.log
        assert card.result["radio"] == "receiving"
        assert card.result["destination"] == destination.name
        assert card.result["doctor"] in {"ok", "warn", "fail"}, "this machine has faults that no gateway has"
        sheet = card.boot / "civigate-report.html"
        key = identity.load(config.load(card.toml)).signer.public.text
        assert main(["doctor", "--verify", str(sheet), "--key", key]) == 0
    assert not (card.folder / "desk").exists()
    everything = "".join(path.read_text(errors="replace") for path in card.boot.iterdir())
    assert code not in everything + card.log
    with card.provisioning() as provisioning:
        assert provisioning.wait(LIMIT_S) == 0, "what was done is not done again"


def test_a_board_of_ones_own_is_found_again_by_its_path(card: Card) -> None:
    """Its profile was looked for by the name of its file, and provisioning ended with the file still "working"."""
    board = card.folder / "mine.toml"
    board.write_text((Path(boards.__file__).with_name("semtech_corecell_eu868.toml")).read_text())
    card.write(card.town.code(bytes.fromhex(EUI)), board=str(board))
    with card.provisioning() as provisioning:
        until(lambda: card.stage("waiting for the platform") or provisioning.poll() is not None, LIMIT_S)
        assert card.stage("waiting for the platform"), card.log
    assert config.load(card.toml).concentrator.board == str(board)


def test_a_used_code_is_told_on_the_card_and_a_new_one_helps(card: Card) -> None:
    with card.town.platform.serving():
        card.write(card.town.code(bytes.fromhex("0016c001ff999999")))
        with card.provisioning() as provisioning:
            assert provisioning.wait(LIMIT_S) == 1
        assert card.result["stage"] == "refused"
        assert "BAD_CLAIM" in card.result["detail"] or "claim" in card.result["detail"]
        assert not config.load(card.toml).destination
        card.write(card.town.code(bytes.fromhex(EUI)))
        with card.provisioning() as provisioning, contextlib.ExitStack() as stack:
            until(lambda: card.stage("enrolled"), LIMIT_S)
            stack.enter_context(card.agent())
            assert provisioning.wait(LIMIT_S) == 0


def test_an_unfit_file_changes_nothing(card: Card) -> None:
    before = card.toml.read_text()
    card.write("7K9Q-2MXT-04BV-H3R3")
    with card.provisioning() as provisioning:
        assert provisioning.wait(LIMIT_S) == 2
    assert "claim" in card.note.read_text()
    assert "7K9Q-2MXT-04BV-H3R3" not in card.note.read_text() + card.log
    assert card.toml.read_text() == before
    assert sorted(path.name for path in card.folder.iterdir()) == sorted(
        ["boot", "control.sock", "gateway.toml", "provision.log", "run", "spi.sock", "spool"]
    )


def test_boards_that_look_the_same_are_listed(card: Card) -> None:
    card.write(card.town.code(), board="find")
    with card.provisioning() as provisioning:
        assert provisioning.wait(LIMIT_S) == 1
    assert card.result["stage"] == "which board"
    assert "rak_2287" in card.result["boards"]
    assert "board =" in card.result["next_step"]
    assert "[concentrator]" not in card.toml.read_text()


def test_kills_at_any_moment_end_online_once(card: Card) -> None:
    card.write(card.town.code(bytes.fromhex(EUI)))
    with card.town.platform.serving():
        for round_ in range(6):
            with card.provisioning() as provisioning, contextlib.suppress(subprocess.TimeoutExpired):
                provisioning.wait(0.35 + 0.15 * round_)  # not a wait for something: a moment to be killed at
        with card.provisioning() as provisioning, contextlib.ExitStack() as stack:
            until(lambda: card.stage("enrolled") or card.stage("online"), LIMIT_S)
            stack.enter_context(card.agent())
            assert provisioning.wait(LIMIT_S) == 0
    assert card.result["stage"] == "online"
    assert len(config.load(card.toml).destination) == 1


def provisioning_here(card: Card) -> contextlib.AbstractContextManager[threading.Thread]:
    """Do the same in this process, on a system below the card's folder."""
    root = card.folder / "root"
    return inside.provisioning(Places(BootPartition(card.boot), Desk(card.folder / "desk", root), card.toml, root))


def test_a_card_that_takes_no_file_is_told_and_tried_again(card: Card) -> None:
    """It ended with a file that said "working", and nothing more happened."""
    card.write(card.town.code(bytes.fromhex(EUI)))
    with (card.boot / "civigate.toml").open("a") as file:
        file.write('[network]\nntp = ["time.example"]\n')
    obstacle = card.folder / "root/etc/systemd/timesyncd.conf.d"
    obstacle.parent.mkdir(parents=True)
    obstacle.touch()
    with provisioning_here(card) as thread:
        until(lambda: card.stage("the card does not take it") or not thread.is_alive(), LIMIT_S)
        assert "timesyncd.conf.d" in card.result["detail"]
        assert (card.folder / "desk/request.toml").exists()
        obstacle.unlink()
        until(lambda: card.stage("waiting for the platform") or not thread.is_alive(), LIMIT_S)
        assert "timesyncd.conf.d" not in (card.boot / "civigate.toml").read_text()


def test_the_first_signature_is_waited_for_as_long_as_it_takes(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten minutes it gave up for good. Now the doctor says what is the matter, and it goes on."""
    monkeypatch.setattr(provisioner, "ONLINE_LIMIT_S", 0.15)
    monkeypatch.setattr(provisioner, "LOOK_S", 0.1)
    monkeypatch.setattr(provisioner, "SELDOM_S", 0.1)
    card.write(card.town.code(bytes.fromhex(EUI)))
    with card.town.platform.serving(), provisioning_here(card) as thread:
        until(lambda: (card.boot / "civigate-report.html").exists() or not thread.is_alive(), LIMIT_S)
        until(lambda: bool(card.result.get("doctor")), LIMIT_S)
        assert card.stage("enrolled")
        with card.agent():
            until(lambda: not thread.is_alive(), LIMIT_S)
    assert card.stage("online")
    assert not (card.folder / "desk").exists()


def test_what_the_agent_said_before_its_restart_does_not_count(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provisioner, "LOOK_S", 0.1)
    code = card.town.code(bytes.fromhex(EUI))
    with card.town.platform.serving(), contextlib.ExitStack() as former:
        card.write(code)
        with provisioning_here(card) as thread:
            until(lambda: card.stage("enrolled"), LIMIT_S)
            former.enter_context(card.agent())
            until(lambda: not thread.is_alive(), LIMIT_S)
        monkeypatch.setattr(provisioner, "_systemctl", lambda _verb, _unit: True)
        card.write(card.town.code(bytes.fromhex(EUI)))
        found = Located(config.parse_bus(f"emulator:{card.folder}/spi.sock"), "rak_2287", "SX1302", EUI)
        monkeypatch.setattr(preparation, "locate", lambda _: found)  # the agent that is not stopped has the chip
        looks: list[object] = []
        look = Provisioner._newest

        def counted(self: Provisioner, loaded: config.GatewayConfig) -> object:
            looks.append(said := look(self, loaded))
            return said

        monkeypatch.setattr(Provisioner, "_newest", counted)
        with provisioning_here(card) as thread:
            until(lambda: len(looks) > 3, LIMIT_S)
            assert not card.stage("online")
            former.close()
            with card.agent():
                until(lambda: not thread.is_alive(), LIMIT_S)
        assert card.stage("online")


def test_the_platform_writes_files_that_gateways_take(card: Card, tmp_path: Path) -> None:
    words = ["gateways", "invite", "--count", "3", "--name", "mast", "--cards", str(tmp_path / "cards")]
    said = card.town.platform.json(*words, "--region", "EU868", "--board", "rak_2287")
    desk = Desk(tmp_path / "desk", tmp_path)
    for path, code in zip(said["files"], said["claims"], strict=True):
        asked = desk.check(Path(path)).provision
        assert asked.claim == claim.parse(code)
        assert (asked.fingerprint, asked.board) == (said["fingerprint"], "rak_2287")
        assert Path(path).stat().st_mode & 0o777 == 0o600
    assert [Path(path).parent.name for path in said["files"]] == ["mast-01", "mast-02", "mast-03"]
    again = card.town.platform.run(*words)
    assert again.code != 0
    assert "CG-REG-020" in again.err
    with card.town.platform.serving():
        invited = card.town.platform.json("gateways", "list")["invited"]
    assert len(invited) == 3, "codes that are on no card are not good"


def test_a_card_that_takes_no_file_costs_no_claim_code(tmp_path: Path) -> None:
    """At each step: full or read-only was final, and the claim code gone with it. See the program."""
    space = ("unshare", "--user", "--map-root-user", "--mount")
    if subprocess.run([*space, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here: nothing can be mounted")
    done = subprocess.run(
        [*space, sys.executable, "-m", "tests.agent.provisioning.refusing", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["at_the_first_step", "at_the_key", "at_the_configuration", "at_the_enrolment"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT, errno.EACCES])
def test_what_the_card_refuses_may_pass(number: int) -> None:
    assert card_module.refuses(caused_by(OSError(number, os.strerror(number))))


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EEXIST, errno.ECONNREFUSED])
def test_what_the_file_asks_for_in_vain_does_not(number: int) -> None:
    assert not card_module.refuses(caused_by(OSError(number, os.strerror(number))))
    assert not card_module.refuses(caused_by(ValueError("no TOML")))


def caused_by(cause: Exception) -> AgentError:
    error = SpoolError("cannot be written", where="file", hint="", code="CG-SPL-002")
    error.__cause__ = cause
    return error


def test_a_spool_on_a_read_only_card_may_pass(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "spool.db")) as made:
        made.execute("CREATE TABLE a (b)")
    uri = f"file:{tmp_path}/spool.db?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as spool, pytest.raises(sqlite3.Error) as caught:
        spool.execute("INSERT INTO a VALUES (1)")
    assert card_module.refuses(caused_by(caught.value))


@pytest.mark.parametrize("found", [True, False])
def test_whoever_stopped_it_finds_the_agent_stopped(
    card: Card, monkeypatch: pytest.MonkeyPatch, *, found: bool
) -> None:
    """The package was removed while it looked for a concentrator, and the agent ran again without its files."""
    told: list[str] = []
    stop = threading.Event()

    def stopped_meanwhile(_asked: object) -> Located:
        stop.set()
        if found:
            return Located(config.parse_bus(f"emulator:{card.folder}/spi.sock"), "rak_2287", "SX1302", EUI)
        raise NoConcentratorError("none", where="concentrator", hint="", code="CG-PRV-007", retryable=True)

    monkeypatch.setattr(preparation, "locate", stopped_meanwhile)
    monkeypatch.setattr(provisioner, "_systemctl", lambda verb, _unit: told.append(verb))
    card.write(card.town.code(bytes.fromhex(EUI)))
    places = Places(BootPartition(card.boot), Desk(card.folder / "desk", card.folder), card.toml, card.folder)
    Provisioner(places, stop, longest_pause_s=0.05).run()
    assert told == ["stop"]
