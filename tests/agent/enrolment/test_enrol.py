# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch.keys import Ed25519Signer
from agent.enrolment.client import parse_fingerprint
from agent.enrolment.sets import Roles
from tests.agent.batch.devices import PATIENCE_S, SoftwareToken
from tests.agent.enrolment.pair import GatewayFiles, gateway_files
from tests.receiver.enrolment.town import Town, town
from tests.receiver.gateway import EUI
from tests.receiver.platform import PROGRAM, Certificates
from tests.rights import as_service, give, only_root, open_folder, strangers


def pin(here: Town) -> str:
    return sha256(ssl.PEM_cert_to_DER_cert(here.platform.certificates.server.certificate.read_text())).hexdigest()


def test_one_command_brings_certificate_receipt_key_and_destination(
    tmp_path: Path, certificates: Certificates, gateway: GatewayFiles
) -> None:
    (tmp_path / "platform").mkdir()
    rules = '[enrolment.filter]\ndev_addr = ["26000000/7"]\nf_ports = [1, 2]\nno_crc = true\nnet_ids = ["000013"]'
    here = town(tmp_path / "platform", certificates, section=rules)
    with here.platform.serving():
        said = gateway.json("enrol", here.url, "--claim", here.code().lower(), "--fingerprint", pin(here))
    assert said["configured"]
    (destination,) = gateway.config.destination
    assert destination.name == said["destination"] == "city"
    assert destination.receipt_key.text == here.platform.json("identity", "show")["public_key"]
    assert (destination.url, destination.enrolment) == (here.platform.url, here.url)
    assert destination.filter.f_ports == (1, 2)
    assert destination.filter.no_crc
    assert destination.filter.net_ids == (0x13,)
    assert [tuple(span) for span in destination.filter.dev_addr] == [(0x26000000, 0x27FFFFFF)]
    assert gateway.toml.read_text().startswith("# written by a person\n"), "what was there stays"
    (key,) = here.platform.json("gateways", "list")["gateways"]
    assert key["kid"] == gateway.json("identity", "show")["kid"]
    first = gateway.sets.choose()
    assert first is not None
    assert gateway.sets.roles == Roles(candidate=first.name, factory=first.name)
    assert first.authorities is not None
    assert first.authorities.read_bytes() == certificates.authority.read_bytes()


def test_an_enrolment_can_be_repeated(here: Town, gateway: GatewayFiles) -> None:
    code = here.code()
    with here.platform.serving():
        for configured in (True, False):
            said = gateway.json("enrol", here.url, "--claim", code, "--ca", here.platform.certificates.authority)
            assert said["configured"] is configured
    assert len(gateway.config.destination) == 1


def test_a_gateway_enrols_whose_key_is_in_a_token(here: Town, gateway: GatewayFiles, tmp_path: Path) -> None:
    token = SoftwareToken(tmp_path)
    gateway.toml.write_text(f'{gateway.toml.read_text()}\n[identity]\nkey = "{token.uri()}"\n')
    environment = {**os.environ, "SOFTHSM2_CONF": str(token.configuration)}
    enrol = ("enrol", here.url, "--claim", here.code(), "--ca", str(here.platform.certificates.authority))
    with here.platform.serving():
        # each in a process of its own, as by hand: the token's library starts in the middle of the conversation
        for command in (("identity", "create"), enrol, ("identity", "renew")):
            program = [sys.executable, "-m", "agent.cli.main", *command, "-c", str(gateway.toml)]
            done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("trust", ["system", "another fingerprint", "another authority", "another name"])
def test_nothing_is_said_to_a_platform_that_is_not_certain(
    trust: str, here: Town, gateway: GatewayFiles, tmp_path: Path
) -> None:
    from tests.agent.enrolment.issuing import Issuer

    other = tmp_path / "other.pem"
    other.write_bytes(Issuer().certificate())
    arguments = {
        "system": (here.url,),
        "another fingerprint": (here.url, "--fingerprint", "00" * 32),
        "another authority": (here.url, "--ca", str(other)),
        "another name": (here.url.replace("localhost", "127.0.0.2"), "--ca", str(here.platform.certificates.authority)),
    }[trust]
    code = here.code()
    with here.platform.serving():
        done = gateway.run("enrol", *arguments, "--claim", code)
    assert done.code == 1
    assert "[CG-UPL-005]" in done.err or "[CG-UPL-002]" in done.err
    assert [entry["gateway"] for entry in here.platform.json("gateways", "list")["invited"]] == [EUI.hex()]
    assert "destination" not in gateway.toml.read_text()


@pytest.mark.parametrize(
    ("claim", "code"),
    [("0000-0000-0000-0000", "[CG-ENR-006]"), ("0000-0000-0000-0001", "[CG-ENR-001]"), ("", "[CG-ENR-006]")],
)
def test_who_is_not_invited_is_told_in_one_line(claim: str, code: str, here: Town, gateway: GatewayFiles) -> None:
    with here.platform.serving():
        (gateway.folder / "code").write_text(claim)
        arguments = ("enrol", here.url, "--ca", here.platform.certificates.authority)
        done = gateway.run(*arguments, *(("--claim-file", gateway.folder / "code") if claim else ()))
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert code in done.err


def test_a_gateway_that_waits_comes_again(
    tmp_path: Path, certificates: Certificates, gateway: GatewayFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "platform").mkdir()
    here = town(tmp_path / "platform", certificates, section='without_claim = "wait"')
    monkeypatch.setattr("agent.cli.enrol.WAIT_S", 0.05)
    with here.platform.serving():
        arguments = ("enrol", here.url, "--ca", certificates.authority)
        done = gateway.run(*arguments)
        assert (done.code, "[CG-ENR-007]" in done.err) == (1, True)
        approve = [*PROGRAM, "gateways", "approve", EUI.hex(), "-c", str(here.platform.toml)]
        with subprocess.Popen(approve, stdout=subprocess.DEVNULL) as approving:
            assert gateway.json(*arguments, "--wait")["configured"]
        assert approving.returncode == 0


def test_a_platform_with_another_receipt_key_is_not_mixed_up(here: Town, gateway: GatewayFiles) -> None:
    with gateway.toml.open("a") as file:
        other = Ed25519Signer.generate().public.text
        file.write(f'[[destination]]\nname = "city"\nurl = "https://localhost:1"\nreceipt_key = "{other}"\n')
    with here.platform.serving():
        arguments = ("enrol", here.url, "--claim", here.code(), "--ca", here.platform.certificates.authority)
        done = gateway.run(*arguments)
        assert (done.code, "[CG-ENR-011]" in done.err) == (2, True)
        assert gateway.json(*arguments, "--name", "town")["destination"] == "town"
    assert [destination.name for destination in gateway.config.destination] == ["city", "town"]


def test_settings_that_the_gateway_does_not_take_change_nothing(here: Town, gateway: GatewayFiles) -> None:
    before = gateway.toml.read_text()
    with here.platform.serving():
        arguments = ("enrol", here.url, "--claim", here.code(), "--ca", here.platform.certificates.authority)
        done = gateway.run(*arguments, "--name", "NOT A NAME")
    assert (done.code, "[CG-ENR-014]" in done.err) == (2, True)
    assert gateway.toml.read_text() == before
    assert not gateway.sets
    assert {path.name for path in gateway.folder.iterdir()} == {"gateway.toml", "state"}


def test_a_configuration_that_cannot_be_written_is_given_to_the_person(here: Town, gateway: GatewayFiles) -> None:
    (gateway.folder / ".gateway.toml.new").mkdir()
    with here.platform.serving():
        arguments = ("enrol", here.url, "--claim", here.code(), "--ca", here.platform.certificates.authority)
        done = gateway.run(*arguments)
    assert (done.code, "[CG-ENR-013]" in done.err) == (2, True)
    assert "[[destination]]" in done.err


@only_root
def test_what_root_made_belongs_to_the_user_of_the_service(tmp_path: Path, certificates: Certificates) -> None:
    (tmp_path / "platform").mkdir()
    here = town(tmp_path / "platform", certificates, section='without_claim = "wait"')
    trust = ("--ca", here.platform.certificates.authority)  # which only root may read
    with open_folder() as folder, here.platform.process():
        gateway = gateway_files(folder / "gateway")
        state = gateway.folder / "state"
        give(state)
        done = gateway.run("enrol", here.url, *trust)
        assert (done.code, "[CG-ENR-007]" in done.err) == (1, True), done.err
        assert strangers(state) == []
        assert len(list(state.rglob("*"))) > 4
        here.platform.json("gateways", "approve", EUI.hex())
        gateway.json("enrol", here.url, *trust)
        gateway.json("identity", "renew")
        gateway.json("identity", "csr")
        assert len(list(state.rglob("*"))) > 8
        assert strangers(state) == []
        assert gateway.toml.stat().st_uid == 0
        renewed = as_service("agent.cli.main", "identity", "renew", "-c", gateway.toml)
    assert renewed.returncode == 0, renewed.stderr


def test_a_gateway_that_does_not_know_its_name_says_so(here: Town, gateway: GatewayFiles) -> None:
    gateway.toml.write_text(re.sub("eui = .*", "", gateway.toml.read_text()))
    done = gateway.run("enrol", here.url, "--claim", here.code())
    assert (done.code, "[CG-ENR-008]" in done.err) == (1, True)


def test_a_platform_that_drips_is_left_in_the_end(
    here: Town, gateway: GatewayFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.enrolment.client.LIMIT_S", 0.5)
    certificates = here.platform.certificates
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server.certificate, certificates.server.key)
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            with context.wrap_socket(connection, server_side=True) as tls:
                try:
                    tls.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                    while not ended.wait(0.02):
                        tls.sendall(b"x")
                except OSError:
                    pass

        server = threading.Thread(target=drip)
        server.start()
        url = f"https://localhost:{listening.getsockname()[1]}"
        done = gateway.run("enrol", url, "--claim", here.code(), "--ca", certificates.authority)
        ended.set()
        server.join()
    assert (done.code, "[CG-UPL-003]" in done.err) == (1, True), done.err


@given(st.binary(min_size=32, max_size=32))
def test_a_fingerprint_is_read_however_it_is_written(digest: bytes) -> None:
    digits = digest.hex()
    for text in (digits, digits.upper(), digest.hex(":"), f" {digits}\n", f"SHA256:{digits}"):
        assert parse_fingerprint(text) == digits
    for text in ("", digits[:-1], digits + "0", "x" * 64):
        with pytest.raises(ValueError, match="64 hex"):
            parse_fingerprint(text)
