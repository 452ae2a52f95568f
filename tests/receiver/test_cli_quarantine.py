# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Refused batches: looked at, judged again, dropped; while a receiver runs and while none does, on both engines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from receiver import config
from receiver.administration import administration
from receiver.batchfile import read_batches
from tests.receiver.gateway import Gateway
from tests.receiver.platform import Certificates, Platform, platform
from tests.receiver.postgres import Cluster

STRANGE = Gateway(eui=b"\x33" * 8, seed=b"strange")


@pytest.fixture(params=["stopped", "running", "postgres"])
def made(request: pytest.FixtureRequest, tmp_path: Path, certificates: Certificates) -> Iterator[Platform]:
    extra = ""
    if request.param == "postgres":
        server: Cluster = request.getfixturevalue("postgres")
        extra = f'[ledger]\nurl = "{server.url(server.database())}"'
    made = platform(tmp_path, certificates, extra=extra)
    with made.serving() if request.param == "running" else nullcontext():
        yield made


def submit(made: Platform, *wires: bytes) -> list[str]:
    with administration(config.load(made.toml)) as admin:
        return [admin.submit(wire, "mqtt 3333333333333333")[0] for wire in wires]


def listed(made: Platform, *options: str) -> list[dict[str, object]]:
    return list(made.json("quarantine", "list", *options)["quarantine"])


def test_what_is_refused_can_be_seen_released_and_dropped(made: Platform, tmp_path: Path) -> None:
    known, strange = Gateway(), Gateway(eui=STRANGE.eui, seed=b"s")
    made.json("gateways", "add", known.eui.hex(), "--key", known.signer.public.text)
    sent = strange.wires(3)
    forked = Gateway(signer=known.signer).wire(5)
    assert submit(made, *sent) == ["unknown_key"] * 3
    assert submit(made, known.wire(), forked) == ["accepted", "fork"]

    everything = listed(made)
    assert [(row["reason"], row["gateway"], row["number"], row["bytes"]) for row in everything] == [
        *(("unknown_key", strange.eui.hex(), number, len(wire)) for number, wire in enumerate(sent, 1)),
        ("fork", known.eui.hex(), 1, len(forked)),
    ]
    assert [row["signature_verified"] for row in everything] == [False] * 3 + [True]
    assert listed(made, "--gateway", known.eui.hex()) == everything[3:]
    assert listed(made, "--reason", "unknown_key") == everything[:3]
    shown = made.json("quarantine", "show", str(everything[3]["id"]))
    assert shown["detail"] == "another content is committed under number 1"
    assert shown["sender"] == "mqtt 3333333333333333"
    assert shown["key_registered_for"] == known.eui.hex()
    text = made.run("quarantine", "list").out
    assert "4 batches in quarantine" in text
    assert f"gateway {strange.eui.hex()}  batch 1" in text

    out = tmp_path / "refused.batches"
    assert made.json("quarantine", "export", "--all", "--out", str(out))["exported"] == 4
    assert list(read_batches(out)) == [*sent, forked]

    # nothing changes what is refused for good; what a registration was missing for goes in
    again = made.run("quarantine", "release", "--gateway", strange.eui.hex())
    assert (again.code, again.out.count("unknown_key")) == (4, 3)
    made.json("gateways", "add", strange.eui.hex(), "--key", strange.signer.public.text)
    assert made.json("quarantine", "release", "--gateway", strange.eui.hex())["released"] == 3
    assert made.run("quarantine", "release", "--all").code == 4
    (left,) = listed(made)
    assert left["reason"] == "fork"
    streams = {row["gateway"]: row["through"] for row in made.json("status")["streams"]}
    assert streams == {known.eui.hex(): 1, strange.eui.hex(): 3}

    assert made.json("quarantine", "drop", str(left["id"]))["dropped"] == 1
    assert listed(made) == []
    assert made.run("quarantine", "list").out == "no batches in quarantine\n"


def test_what_came_in_the_meantime_leaves_the_quarantine(made: Platform) -> None:
    strange = Gateway(eui=STRANGE.eui, seed=b"s")
    (sent,) = strange.wires(1)
    assert submit(made, sent) == ["unknown_key"]
    made.json("gateways", "add", strange.eui.hex(), "--key", strange.signer.public.text)
    assert submit(made, sent) == ["accepted"]
    assert listed(made) == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["release"], "CG-QUA-001"),
        (["drop"], "CG-QUA-001"),
        (["drop", "99"], "CG-QUA-002"),
        (["show", "99"], "CG-QUA-002"),
    ],
)
def test_what_is_not_there_is_one_line(words: list[str], code: str, tmp_path: Path, certificates: Certificates) -> None:
    made = platform(tmp_path, certificates)
    submit(made, Gateway().wire())
    done = made.run("quarantine", *words)
    assert done.code == 1
    assert done.err.strip().endswith(f"[{code}]")
    assert done.err.count("\n") == 1
    assert len(listed(made)) == 1


def test_an_auditor_hears_of_keys_that_were_revoked(tmp_path: Path, certificates: Certificates) -> None:
    made = platform(tmp_path, certificates)
    gateway = Gateway()
    made.json("gateways", "add", gateway.eui.hex(), "--key", gateway.signer.public.text)
    files = tmp_path / "export.batches"
    files.write_bytes(b"".join(gateway.wires(2)))
    (key,) = made.json("verify", files)["streams"][0]["keys"]
    assert key["revoked_us"] is None
    made.json("gateways", "revoke", gateway.eui.hex())
    said = made.json("verify", files)
    (key,) = said["streams"][0]["keys"]
    (registered,) = made.json("gateways", "list")["gateways"]
    assert key["revoked_us"] == registered["revoked_us"]
    assert said["ok"], "what was signed before is still what the gateway said"
    assert "REVOKED since" in made.run("verify", files).out


def test_claim_codes_for_whichever_gateway_can_be_taken_back(tmp_path: Path, certificates: Certificates) -> None:
    made = platform(tmp_path, certificates, extra='[enrolment]\nurl = "https://localhost"')
    made.json("gateways", "add", "0016c001ff10a235", "--key", Gateway().signer.public.text)
    made.json("ca", "create", "--name", "Town of Example")
    made.json("gateways", "invite", "--count", "3")
    made.json("gateways", "invite", "0016c001ff10ffff")
    invited = made.json("gateways", "list")["invited"]
    assert len(invited) == 4
    one = next(claim["id"] for claim in invited if claim["gateway"] is None)
    assert made.json("gateways", "withdraw", "--id", one)["withdrawn"] == 1
    assert made.run("gateways", "withdraw", "--id", one).err.endswith("[CG-REG-011]\n")
    assert made.json("gateways", "withdraw", "--any")["withdrawn"] == 2
    (left,) = made.json("gateways", "list")["invited"]
    assert left["gateway"] == "0016c001ff10ffff"
    assert made.json("gateways", "withdraw", "0016c001ff10ffff")["withdrawn"] == 1
    with contextlib.suppress(SystemExit):
        assert made.run("gateways", "withdraw").code == 2
