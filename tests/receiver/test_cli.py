# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.batch.keys import Ed25519Signer
from receiver import config
from receiver.cli.main import COMMANDS, main
from receiver.intake import Intake
from receiver.ledger.database import FILE_NAME
from receiver.ledger.sqlite import SqliteLedger
from tests.receiver.gateway import EUI, Gateway, stick, wire, withdrawn
from tests.receiver.platform import Certificates, Platform, platform


@pytest.fixture
def made(tmp_path: Path, certificates: Certificates) -> Platform:
    return platform(tmp_path, certificates)


@pytest.fixture
def known(made: Platform) -> Gateway:
    gateway = Gateway()
    made.json("gateways", "add", EUI.hex(), "--key", gateway.signer.public.text, "--name", "town hall")
    return gateway


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"civigate-receiver {command}" in capsys.readouterr().out.partition("examples:")[2]


def test_gateways_are_registered_listed_and_revoked(made: Platform) -> None:
    gateway = Gateway()
    key_file = made.folder / "key.txt"
    key_file.write_text(gateway.signer.public.text + "\n")
    assert made.json("gateways", "add", EUI.hex(), "--key", key_file)["added"] is True
    assert made.json("gateways", "add", "00-16-C0-01-FF-10-A2-35", "--key", key_file)["added"] is False
    (entry,) = made.json("gateways", "list")["gateways"]
    assert (entry["gateway"], entry["kid"], entry["revoked_us"]) == (EUI.hex(), gateway.signer.kid.hex(), None)
    assert EUI.hex() in made.run("gateways", "list").out
    assert made.json("gateways", "revoke", EUI.hex())["revoked"] == 1
    assert made.json("gateways", "revoke", EUI.hex())["revoked"] == 0
    assert "revoked" in made.run("gateways", "list").out


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (("gateways", "add", EUI.hex(), "--key", "civigate-key:ed25519:short"), 1, "[CG-IDN-001]"),
        (("gateways", "add", EUI.hex(), "--key", "/nowhere/key.txt"), 1, "[CG-REG-005]"),
        (("gateways", "revoke", EUI.hex()), 1, "[CG-REG-003]"),
        (("gateways", "list"), 1, "[CG-LED-005]"),
        (("status",), 1, "[CG-LED-005]"),
        (("identity", "create"), 1, "[CG-IDN-005]"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: tuple[str, ...], code: int, what: str, made: Platform) -> None:
    done = made.run(*arguments)
    assert done.code == code
    assert done.err.count("\n") == 1
    assert done.err.startswith("civigate-receiver: ")
    assert done.err.endswith(f"{what}\n")


def test_a_wrong_configuration_is_one_line(made: Platform) -> None:
    made.toml.write_text(made.toml.read_text() + "\n[limits]\nbursts = 3\n")
    done = made.run("status")
    assert done.code == 2
    assert "limits.bursts: unknown key; did you mean limits.burst? [CG-CFG-004]" in done.err


def test_the_registry_changes_while_the_receiver_runs(made: Platform) -> None:
    gateway = Gateway()
    with made.serving() as service:
        made.json("gateways", "add", EUI.hex(), "--key", gateway.signer.public.text)
        assert service.intake.submit(gateway.wire(), sender="test").receipt is not None
        done = made.run("gateways", "add", "0" * 16, "--key", gateway.signer.public.text)
        assert done.code == 1
        assert f"the key is registered for gateway {EUI.hex()} already" in done.err
        assert "[CG-REG-001]" in done.err
        assert made.json("gateways", "revoke", EUI.hex())["revoked"] == 1
        assert service.intake.submit(gateway.wire(), sender="test").refusal is not None


def test_a_receiver_that_does_not_answer_is_named(made: Platform) -> None:
    with closing(SqliteLedger(made.data_dir)):
        done = made.run("gateways", "add", EUI.hex(), "--key", Gateway().signer.public.text)
    assert done.code == 1
    assert "[CG-CTL-003]" in done.err


@pytest.mark.parametrize("running", [False, True])
def test_batches_come_on_a_stick(running: bool, made: Platform, known: Gateway) -> None:
    wires = known.wires(5)
    path = stick(made.folder, [*reversed(wires), wires[0]])
    if running:
        with made.serving():
            sums = made.json("import", path)
    else:
        sums = made.json("import", path)
    assert (sums["accepted"], sums["repeated"], sums["refused"]) == (5, 1, 0)
    status = made.json("status")
    assert (status["ok"], status["frames"], status["streams"][0]["through"]) == (True, 15, 5)


def test_a_damaged_stick_gives_what_is_good(made: Platform, known: Gateway) -> None:
    wires = known.wires(4)
    path = made.folder / "damaged"
    path.write_bytes(wires[0] + wires[1] + wires[2][:-20])
    done = made.run("import", path, "/nowhere/export", stick(made.folder, wires[3:]))
    assert done.code == 4
    assert "3 accepted, 0 repeated, 2 refused" in done.out
    assert f"batch 3: unreadable: no batch at byte {len(wires[0]) + len(wires[1])}" in done.out
    assert "/nowhere/export, batch 1: unreadable: cannot be read: No such file or directory" in done.out
    assert made.json("status")["frames"] == 9


def test_a_stick_of_a_stranger_is_refused(made: Platform) -> None:
    done = made.run("import", stick(made.folder, Gateway().wires(2)))
    assert done.code == 4
    assert "0 accepted, 0 repeated, 2 refused" in done.out
    assert "unknown_key" in done.out


def test_status_accounts_for_what_is_there_and_names_what_is_missing(made: Platform, known: Gateway) -> None:
    wires = known.wires(5)
    made.json("import", stick(made.folder, [wires[0], wires[2], wires[4]]))
    status = made.json("status")
    (stream,) = status["streams"]
    assert stream["missing"] == [[2, 2], [4, 4]]
    assert (stream["through"], stream["highest"], stream["batches"]) == (1, 5, 3)
    assert (stream["chain_ok"], stream["sums_match"], stream["ok"], status["ok"]) == (True, True, False, False)
    done = made.run("status")
    assert done.code == 0, "what has not come yet is no failure"
    assert "missing: 2, 4" in done.out
    assert "heard 18 = bad CRC 3 + filtered 6 + duplicate 0 + kept 9" in done.out


@pytest.mark.parametrize(
    ("change", "flaw"),
    [
        ("UPDATE batch SET signed_header = (SELECT signed_header FROM batch WHERE number = 1)", "does not hash"),
        ("UPDATE stream SET hash = zeroblob(32)", "receipts name another batch 3"),
        ("UPDATE stream SET frames = 8", "8 frames are counted, the batches say 9"),
        ("UPDATE batch SET hash = zeroblob(32) WHERE number = 2", "does not hash"),
        ("DELETE FROM frame WHERE seq = 5", "signed with 3 frames, 2 are stored"),
        ("DELETE FROM batch WHERE number = 2", "other batches are missing"),
        ("UPDATE account SET heard = heard + 1", None),
        ("UPDATE batch SET filtered = filtered + 1 WHERE number = 1", None),
    ],
)
def test_status_notices_what_was_changed_behind_its_back(
    change: str, flaw: str | None, made: Platform, known: Gateway
) -> None:
    made.json("import", stick(made.folder, known.wires(3)))
    assert made.run("status").code == 0
    with closing(sqlite3.connect(made.data_dir / FILE_NAME)) as db:
        db.execute(change)
        db.commit()
    done = made.run("status", "--json")
    assert done.code == 4
    (stream,) = json.loads(done.out)["streams"]
    assert not stream["ok"]
    if flaw is None:
        assert not stream["sums_match"]
    else:
        assert any(flaw in text for text in stream["flaws"]), stream["flaws"]


def test_an_auditor_verifies_files_without_a_receiver(
    made: Platform, known: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    sealed = [known.seal(3), known.seal(2), known.seal(2)]
    sealed.append(known.seal(1, tombstones=(withdrawn(sealed[1:2]),)))
    path = stick(made.folder, [wire(sealed[index]) for index in (3, 0, 2, 0)])
    key = known.signer.public.text
    assert main(["verify", str(path), "--key", key, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (stream,) = report["streams"]
    assert (stream["batches"], stream["repeats"], stream["frames"], stream["missing"]) == (3, 1, 6, [])
    assert report["ok"]
    assert main(["verify", str(path), "-c", str(made.toml)]) == 0
    assert "all of it verifies" in capsys.readouterr().out


def test_an_auditor_sees_what_is_wrong(made: Platform, known: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    twin = Gateway(signer=known.signer)
    twin.wire(1)
    wires = [*known.wires(4), twin.wire(1)]
    flipped = bytearray(wires[3])
    flipped[-30] ^= 1
    path = stick(made.folder, [wires[0], wires[2], wires[4], bytes(flipped), b"rubbish"])
    assert main(["verify", str(path), "--key", known.signer.public.text, "--json"]) == 4
    report = json.loads(capsys.readouterr().out)
    (stream,) = report["streams"]
    assert not report["ok"]
    assert stream["flaws"]
    assert len(report["refused"]) == 2
    assert main(["verify", str(path), "--key", Ed25519Signer.generate().public.text]) == 4
    assert "NOT all of it verifies" in capsys.readouterr().out
    assert main(["verify", str(path)]) == 4
    assert "[CG-EVI-003]" in capsys.readouterr().err


def test_the_configuration_is_explained(made: Platform) -> None:
    for arguments in (("config", "check", made.toml), ("config", "explain", made.toml)):
        assert main([str(argument) for argument in arguments]) == 0
    assert config.load(made.toml).mqtt is None


def test_alarms_are_shown(made: Platform, known: Gateway) -> None:
    with closing(SqliteLedger(made.data_dir)) as ledger:
        intake = Intake(ledger, Ed25519Signer.generate())
        intake.submit(known.wire(), sender="test")
        intake.submit(Gateway(signer=known.signer).wire(1), sender="test")
    status = made.json("status")
    assert [alarm["kind"] for alarm in status["alarms"]] == ["rollback"]
    assert status["quarantine"]["batches"] == 1
    assert "ALARM rollback, 1 times" in made.run("status").out
