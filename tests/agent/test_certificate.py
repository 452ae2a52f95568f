# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Certificates of boards: what was signed is what is read, and nothing can be changed, mixed up or claimed."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import cbor, cose
from agent.batch.keys import Ed25519Signer
from agent.certificate import (
    KIND,
    REQUIRED,
    Certificate,
    Outcome,
    Trial,
    Value,
    Verdict,
    check,
    digest_of,
    read,
    sign,
    verdict_of,
)
from agent.cli.main import main
from agent.errors import AgentError, BatchError

SIGNER = Ed25519Signer.generate()
H01 = Trial("H01", "it answers", True, Outcome.PASS, (Value("read-backs", 1000, "", 1, None),), ())
H02 = Trial("H02", "it resets", True, Outcome.PASS, (Value("RSSI error", -0.375, "dB", -1.0, 1.0),), ())
H21 = Trial("H21", "soak", False, Outcome.NOT_RUN, (), ())
OTHERS = tuple(Trial(number, "it works", True, Outcome.PASS, (), ()) for number in REQUIRED if number > "H02")
GOOD = Certificate(
    board={"model": "RAK2287", "serial": "17", "eui": "0016c001f1500812", "chip_version": "0x10"},
    versions={"civigate": "0.1.0", "commit": "74bc787", "emulator": "", "image": ""},
    bench={"name": "lab", "digest": "00" * 32},
    operator="Zoë",
    began="2026-08-25T12:00:00Z",
    ended="2026-08-25T12:09:00Z",
    seed=7,
    simulated=False,
    tests=(H01, H02, *OTHERS, H21),
)


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ((Outcome.PASS, Outcome.PASS), Verdict.PASS),
        ((Outcome.PASS, Outcome.FAIL), Verdict.FAIL),
        ((Outcome.SKIPPED, Outcome.FAIL), Verdict.FAIL),
        *(((Outcome.PASS, one), Verdict.INCOMPLETE) for one in Outcome if one not in {Outcome.PASS, Outcome.FAIL}),
        ((), Verdict.INCOMPLETE),
    ],
)
def test_verdicts(outcomes: tuple[Outcome, ...], verdict: Verdict) -> None:
    tests = [replace(H01, outcome=one) for one in outcomes]
    assert verdict_of(tests) is verdict
    if tests:
        assert verdict_of([*tests, H21]) is verdict, "what is not required changes nothing"


def test_what_is_signed_is_read() -> None:
    signed = read(sign(GOOD, SIGNER), where="test")
    assert signed.certificate == GOOD
    assert signed.digest == digest_of(GOOD, SIGNER.public)
    check(signed, SIGNER.public, where="test")
    assert GOOD.verdict is Verdict.PASS
    assert GOOD.not_run == ["H21"]


def test_another_order_of_names_and_other_white_space_are_the_same_certificate() -> None:
    said = json.loads(sign(GOOD, SIGNER))
    turned = {"signature": said["signature"], "certificate": dict(reversed(said["certificate"].items()))}
    assert read(json.dumps(turned).encode(), where="test").certificate == GOOD


def test_another_key_is_not_believed() -> None:
    with pytest.raises(BatchError, match="signed by key"):
        check(read(sign(GOOD, SIGNER), where="test"), Ed25519Signer.generate().public, where="test")


def changed(**members: Any) -> bytes:
    said = json.loads(sign(GOOD, SIGNER))
    said["certificate"] |= members
    return json.dumps(said).encode()


def size(data: bytes) -> str:
    """Name a test the same in every process, whatever the keys and signatures of this one."""
    return f"{len(data)} bytes"


@pytest.mark.parametrize(
    "data",
    [
        changed(operator="somebody else"),
        changed(board=GOOD.board | {"serial": "18"}),
        changed(seed=8),
        changed(simulated=True),
        changed(key=Ed25519Signer.generate().public.text),
    ],
    ids=size,
)
def test_a_change_is_noticed(data: bytes) -> None:
    with pytest.raises(BatchError, match="changed after"):
        read(data, where="test")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"null",
        changed(verdict="FAIL"),
        changed(format=2),
        changed(tests=[]),
        changed(more=1),
        changed(tests=[json.loads(sign(GOOD, SIGNER))["certificate"]["tests"][0] | {"more": 1}]),
        sign(GOOD, SIGNER).replace(b'"values": [', b'"deep": ' + b"[" * 900 + b"]" * 900 + b', "values": [', 1),
        changed(tests=[1]),
        changed(operator=5),
        changed(seed="7"),
        changed(key="civigate-key:ed25519:AAAA"),
        changed(not_run=[]),
        b" " * 2_000_000,
    ],
    ids=size,
)
def test_what_is_no_certificate_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(AgentError):
        read(data, where="test")


def test_a_verdict_that_its_tests_do_not_bear_out_is_refused_even_if_signed() -> None:
    failed = replace(GOOD, tests=(replace(H01, outcome=Outcome.FAIL), H02))
    said = json.loads(sign(failed, SIGNER))["certificate"] | {"verdict": "PASS"}
    with pytest.raises(BatchError, match="its tests say FAIL"):
        read(json.dumps({"certificate": said, "signature": forged(said)}).encode(), where="test")


def test_an_emulated_board_cannot_be_passed_off_as_a_real_one_by_who_has_only_its_key() -> None:
    """The signature itself says SIMULATED: the words of the file alone cannot take that away."""
    said = json.loads(sign(replace(GOOD, simulated=True), SIGNER))
    message = cose.read(base64.b64decode(said["signature"]), where="test")
    assert b"SIMULATED" in message.payload
    assert (
        b"SIMULATED" not in cose.read(base64.b64decode(json.loads(sign(GOOD, SIGNER))["signature"]), where="").payload
    )
    said["certificate"]["simulated"] = False
    with pytest.raises(BatchError, match="changed after"):
        read(json.dumps(said).encode(), where="test")


def test_a_signature_of_something_else_is_none() -> None:
    said = json.loads(sign(GOOD, SIGNER))
    other = cbor.encode(["civigate-doctor", 1, bytes(32)], where="test", max_bytes=512)
    said["signature"] = base64.b64encode(cose.sign(other, SIGNER)).decode()
    with pytest.raises(BatchError, match="something else"):
        read(json.dumps(said).encode(), where="test")


@given(st.data())
def test_no_byte_can_be_changed(data: st.DataObject) -> None:
    whole = sign(GOOD, SIGNER)
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255))
    damaged = whole[:at] + bytes([byte]) + whole[at + 1 :]
    try:
        signed = read(damaged, where="test")
    except AgentError:
        return
    assert signed.certificate == GOOD


def forged(said: dict[str, Any]) -> str:
    import hashlib

    from agent import canonical

    digest = hashlib.sha256(canonical.encode(said)).digest()
    payload = cbor.encode([KIND, 1, digest], where="test", max_bytes=512)
    return base64.b64encode(cose.sign(payload, SIGNER)).decode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "board.json"
    path.write_bytes(sign(GOOD, SIGNER))
    (tmp_path / "bench.pub").write_text(SIGNER.public.text + "\n")
    return path


def test_the_command_says_what_it_says(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certificate", "verify", str(file), "--key", str(file.with_name("bench.pub")), "--passed"]) == 0
    said = capsys.readouterr().out
    for word in ("PASS", "0016c001f1500812", "lab", "Zoë", "H21 NOT RUN (not required)", "the bench that was named"):
        assert word in said
    assert main(["certificate", "verify", str(file), "--key", SIGNER.public.text, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["certificate"]["verdict"] == "PASS"


@pytest.mark.parametrize("passed", [(), ("--passed",)])
def test_without_a_key_nobody_vouches_and_nothing_is_accepted(
    file: Path, passed: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Anybody can write a PASS and sign it with a key that the file itself names."""
    file.write_bytes(sign(GOOD, Ed25519Signer.generate()))
    assert main(["certificate", "verify", str(file), *passed]) == 1
    said = capsys.readouterr().out
    assert "nobody vouches" in said
    assert "--key bench.pub" in said
    assert main(["certificate", "verify", str(file), *passed, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["trusted"] is False
    assert "--key bench.pub" in found["objections"][0]


@pytest.mark.parametrize(
    ("certificate", "objection"),
    [
        (replace(GOOD, simulated=True), "no hardware was tested"),
        (replace(GOOD, tests=(replace(H01, outcome=Outcome.SKIPPED), *GOOD.tests[1:])), "it says INCOMPLETE"),
        (replace(GOOD, tests=(H01,)), "without H02, H03"),
        (replace(GOOD, tests=tuple(one for one in GOOD.tests if one.id != "H15")), "without H15"),
        (replace(GOOD, tests=(H01, H02, *(replace(one, required=False) for one in OTHERS[1:]), H21)), "without H03"),
        (
            replace(GOOD, tests=(H01, H02, *OTHERS[:-1], replace(OTHERS[-1], required=False, outcome=Outcome.SKIPPED))),
            "without H22",
        ),
    ],
    ids=["simulated", "incomplete", "one test", "one less", "not there", "not required"],
)
def test_only_a_pass_of_all_tests_on_hardware_passes(
    file: Path, certificate: Certificate, objection: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_bytes(sign(certificate, SIGNER))
    assert main(["certificate", "verify", str(file), "--key", SIGNER.public.text]) == 0
    assert "not accepted" not in capsys.readouterr().out
    assert main(["certificate", "verify", str(file), "--key", SIGNER.public.text, "--passed"]) == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "not accepted" in line)
    assert objection in line


def test_one_that_is_not_accepted_is_enough(file: Path) -> None:
    other = file.with_name("other.json")
    other.write_bytes(sign(replace(GOOD, simulated=True), SIGNER))
    for files in ([str(file), str(other)], [str(other), str(file)]):
        assert main(["certificate", "verify", *files, "--key", SIGNER.public.text, "--passed"]) == 1


def test_exit_codes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certificate", "verify", str(file), "--key", Ed25519Signer.generate().public.text]) == 4
    assert main(["certificate", "verify", str(file.with_name("none.json"))]) == 2
    file.write_bytes(changed(operator="x"))
    assert main(["certificate", "verify", str(file)]) == 4
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "CG-CRT-002" in said
