# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What root's commands leave in the service's folders is the service's, and no link there leads them anywhere else."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import config, durable
from agent.cli.main import main
from agent.doctor.sheet import keep
from agent.errors import AgentError
from agent.ownership import as_owner
from agent.provisioning import preparation
from agent.spool import upkeep
from agent.spool.reader import SpoolReader
from agent.uplink.carried import FOLDER, RETRY, ask
from drivers.errors import FirmwareError
from drivers.sx1302 import firmware
from drivers.sx1302.firmware import FILE_NAMES, FirmwareId, Mcu, pack_word
from tests.agent.doctor.test_sheet import sheet
from tests.agent.spool.gateway import CITY, EUI, POLICY, frame, heard, wait_for, writer
from tests.rights import LIMIT_S, SERVICE, as_service, give, only_root, open_folder, strangers

pytestmark = only_root
AGENT = "agent.cli.main"


@pytest.fixture
def gateway() -> Iterator[Path]:
    """The folder of a gateway.toml of root's; state and run belong to the service."""
    with open_folder() as folder:
        give(folder / "state", folder / "run")
        (folder / "gateway.toml").write_text(
            f"""
[gateway]
eui = "{EUI.hex()}"
state_dir = "state"
runtime_dir = "run"
[concentrator]
board = "semtech_corecell_eu868"
[[destination]]
name = "city"
url = "https://localhost:1"
receipt_key = "civigate-key:ed25519:{"A" * 43}"
"""
        )
        yield folder


@pytest.fixture
def victim(gateway: Path) -> Path:
    """A folder of root's, whose name the service may know."""
    folder = gateway / "victim"
    folder.mkdir()
    (folder / "precious").write_text("root's")
    (folder / "precious").chmod(0o644)
    return folder


def untouched(victim: Path) -> bool:
    found = {path.name: (path.stat().st_uid, path.stat().st_mode & 0o777) for path in victim.iterdir()}
    return found == {"precious": (0, 0o644)} and (victim / "precious").read_text() == "root's"


def link(path: Path, target: Path) -> None:
    """Lay a link as the service does."""
    path.symlink_to(target)
    os.chown(path, SERVICE, SERVICE, follow_symlinks=False)


def test_root_becomes_the_owner_and_root_again(gateway: Path) -> None:
    before = os.getgroups(), os.getegid()
    with as_owner(gateway / "state"), as_owner(gateway / "run"):
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (SERVICE, SERVICE, [])
    assert (os.geteuid(), (os.getgroups(), os.getegid())) == (0, before)
    for folder in (gateway, gateway / "missing"):
        with as_owner(gateway / "state", folder):
            assert os.geteuid() == 0
    with as_owner(gateway / "state", gateway / "state/deep"):
        assert os.geteuid() == SERVICE


def test_a_link_in_the_place_of_a_folder_makes_nobody_root(gateway: Path, victim: Path) -> None:
    link(gateway / "state/spool", victim)
    with as_owner(gateway / "state/spool"):
        assert os.geteuid() == SERVICE


def test_an_owner_who_does_not_get_there_is_named(gateway: Path) -> None:
    (gateway / "closed").mkdir(mode=0o700)
    give(gateway / "closed/card")
    with pytest.raises(AgentError, match=f"number {SERVICE}, does not get there"), as_owner(gateway / "closed/card"):
        pytest.fail("got there")
    assert os.geteuid() == 0


@pytest.mark.parametrize("name", ["certificates", "certificates/city", "certificates/.enrolling"])
def test_no_link_gives_a_folder_of_roots_away(gateway: Path, victim: Path, name: str) -> None:
    path = gateway / "state" / name
    give(path.parent)
    link(path, victim)
    main(["identity", "csr", "-o", str(gateway / "csr.pem"), "-c", str(gateway / "gateway.toml")])
    main(["enrol", "https://localhost:1", "--claim-file", "/dev/null", "-c", str(gateway / "gateway.toml")])
    assert untouched(victim)


def test_no_link_leads_the_doctors_sheet_into_a_file_of_roots(gateway: Path, victim: Path) -> None:
    for name in (f".doctor.json.{os.getpid()}", ".doctor.json.new"):
        link(gateway / "run" / name, victim / "precious")
    keep(gateway / "run", sheet())
    assert untouched(victim)
    found = (gateway / "run/doctor.json").stat()
    assert (found.st_uid, found.st_mode & 0o777) == (SERVICE, 0o644)


def test_no_link_leads_a_request_to_the_agent_elsewhere(gateway: Path, victim: Path) -> None:
    give(gateway / "run" / FOLDER)
    link(gateway / "run" / FOLDER / RETRY, victim / "made")
    with pytest.raises(AgentError, match="cannot be written"):
        ask(gateway / "run", RETRY)
    assert untouched(victim)


@pytest.mark.parametrize("commands", [["create"], ["create", "rotate"], ["create", "rotate --stolen"]])
def test_the_service_can_use_the_key_that_root_made(gateway: Path, commands: list[str]) -> None:
    for command in commands:
        assert main(["identity", *command.split(), "-c", str(gateway / "gateway.toml")]) == 0
    assert strangers(gateway / "state") == []
    done = as_service(AGENT, "identity", "show", "-c", gateway / "gateway.toml")
    assert done.returncode == 0, done.stderr


def test_a_key_in_a_folder_of_roots_is_made_for_the_service(gateway: Path) -> None:
    text = (gateway / "gateway.toml").read_text()
    (gateway / "gateway.toml").write_text(f'{text}\n[identity]\nkey_file = "gateway.key"\n')
    for command in ("create", "rotate"):
        assert main(["identity", command, "-c", str(gateway / "gateway.toml")]) == 0
    assert {(gateway / f"gateway.key{end}").stat().st_uid for end in ("", ".previous")} == {SERVICE}


def test_an_enrolment_that_fails_leaves_nothing_of_roots(gateway: Path) -> None:
    arguments = ["https://localhost:1", "--claim-file", "/dev/null", "-c", str(gateway / "gateway.toml")]
    assert main(["enrol", *arguments]) == 1
    assert {path.name for path in (gateway / "state").iterdir()} == {"gateway.key", "certificates"}
    assert strangers(gateway / "state") == []


@pytest.fixture
def images(gateway: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for root's eyes only with firmware that is known here."""
    made = {mcu: b"".join(pack_word(seed + n) for n in range(4096)) for seed, mcu in enumerate(FILE_NAMES)}
    versions = {Mcu.AGC: (10, "SX1250"), Mcu.ARB: (2, None)}
    known = {hashlib.sha256(made[mcu]).hexdigest(): FirmwareId(mcu, *versions[mcu], "V2.1.0") for mcu in made}
    monkeypatch.setattr(firmware, "KNOWN_IMAGES", known)
    folder = gateway / "boot"
    folder.mkdir(mode=0o700)
    for mcu, image in made.items():
        (folder / FILE_NAMES[mcu]).write_bytes(image)
    return folder


def test_firmware_that_root_brings_is_the_services_and_follows_no_link(
    gateway: Path, images: Path, victim: Path
) -> None:
    give(gateway / "state/firmware")
    for name in FILE_NAMES.values():
        link(gateway / "state/firmware" / f".{name}.new", victim / "precious")
    assert main(["firmware", "import", str(images), "-c", str(gateway / "gateway.toml")]) == 0
    assert untouched(victim)
    assert strangers(gateway / "state") == []


def test_a_power_cut_leaves_firmware_that_the_service_can_read(
    gateway: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = config.load(gateway / "gateway.toml")
    written = 0

    def cut(folder: Path) -> None:
        nonlocal written
        written += 1
        if written == len(FILE_NAMES):
            raise KeyboardInterrupt

    umask = os.umask(0o077)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(durable, "sync", cut)
            with pytest.raises(KeyboardInterrupt):
                preparation.bring_firmware(loaded, images)
        assert preparation.bring_firmware(loaded, images) == []
    finally:
        os.umask(umask)
    assert strangers(gateway / "state") == []


def test_firmware_that_only_root_can_read_is_named(gateway: Path, images: Path) -> None:
    (gateway / "state/firmware").mkdir(mode=0o700)
    loaded = config.load(gateway / "gateway.toml")
    assert preparation.bring_firmware(loaded, None) == [mcu.value for mcu in FILE_NAMES]
    with pytest.raises(FirmwareError, match="cannot be written: Permission denied"):
        preparation.bring_firmware(loaded, images)


def filled(folder: Path) -> Path:
    """Make a spool of the service's, with frames that are sealed and some that are not."""
    folder.mkdir(exist_ok=True)
    with writer(folder, (CITY,), POLICY) as spool:
        spool.offer(heard([frame(number) for number in range(25)]))
        wait_for(lambda: spool.status().queued_frames == 0)
        spool._engine.sealer.due = lambda *_, **__: False  # type: ignore[method-assign]  # the stop shall seal nothing
    give(folder)
    return folder / "spool.db"


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[20:900] = bytes(880)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "repair",
    [
        lambda path, _: upkeep.salvage_spool(path),
        lambda path, _: upkeep.forget_destination(path, "city"),
        lambda path, _: upkeep.acknowledge(path, ()),
        upkeep.import_frames,
    ],
    ids=["salvage", "forget", "acknowledge", "import"],
)
def test_the_service_can_write_a_damaged_spool_that_root_repaired(
    gateway: Path, repair: Callable[[Path, Path], object]
) -> None:
    path = filled(gateway / "state")
    (gateway / "card").mkdir(mode=0o700)  # for root's eyes only
    other = filled(gateway / "card/other")
    damage(path)
    repair(path, other)
    assert len(list(path.parent.glob("spool.db*"))) > 2, "the damaged file is kept"
    assert strangers(path.parent) == []
    done = as_service(AGENT, "spool", "forget", "city", "--yes", "--path", path)
    assert done.returncode == 0, done.stderr


def test_root_reads_a_spool_and_leaves_nothing_there(gateway: Path) -> None:
    path = filled(gateway / "state")
    (gateway / "stick").mkdir(mode=0o700)
    for words in (["status"], ["verify"], ["export", str(gateway / "stick")]):
        assert main(["spool", *words, "--path", str(path)]) == 0
    with SpoolReader(path) as reader:
        assert reader.status().frames == 25
        assert len(list(path.parent.glob("spool.db-*"))) == 2, "those of SQLite"
        assert strangers(path.parent) == []
    (batches,) = (gateway / "stick").glob("*.batches")
    assert batches.stat().st_uid == 0
    assert strangers(path.parent) == []


def test_a_root_who_may_not_become_others_is_told_so(gateway: Path) -> None:
    call = ["setpriv", "--bounding-set=-setuid,-setgid", sys.executable, "-m", AGENT, "identity", "create"]
    done = subprocess.run([*call, "-c", str(gateway / "gateway.toml")], capture_output=True, text=True, timeout=LIMIT_S)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "whom this root may not become" in done.stderr
    assert "[CG-OWN-001]" in done.stderr


def test_root_salvages_in_a_process_that_has_loaded_nothing_yet(gateway: Path) -> None:
    """The program may lie where the owner of the spool does not get at it."""
    path = filled(gateway / "state")
    damage(path)
    call = [sys.executable, "-m", AGENT, "spool", "salvage", "--path", str(path)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert strangers(path.parent) == []
