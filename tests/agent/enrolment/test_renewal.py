# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""From the claim code to the renewed certificate: real receiver, real TLS, real agent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import identity
from agent.batch.keys import Ed25519Signer, PublicKey
from agent.demo.authority import Credentials
from agent.enrolment import renewal
from agent.enrolment.certificate import Validity, fingerprint
from agent.enrolment.claim import parse
from agent.enrolment.client import Trust
from agent.enrolment.enrolling import enrol
from agent.enrolment.renewal import renew, renew_at_us, rest_s
from agent.enrolment.sets import CertificateSets, Roles
from agent.errors import AgentError
from agent.trusted_time import TrustedTime
from agent.uplink.port import LinkError
from receiver.enrolment.authority import BACKDATED
from tests.agent.enrolment.issuing import Issuer
from tests.agent.enrolment.pair import GatewayFiles, gateway_files
from tests.agent.test_trusted_time import Clock
from tests.receiver.enrolment.town import Town, town
from tests.receiver.gateway import EUI
from tests.receiver.platform import LIMIT_S, Certificates, until
from tests.rights import give, only_root, open_folder, strangers

WAIT_S = 60.0


@contextlib.contextmanager
def agent(gateway: GatewayFiles) -> Iterator[subprocess.Popen[bytes]]:
    """Run the agent in a process of its own. It has no concentrator, and asks the platform all the same."""
    with (gateway.folder / "agent.log").open("ab") as log:
        command = [sys.executable, "-m", "agent.cli.main", "run", "-c", str(gateway.toml)]
        started = subprocess.Popen(command, stderr=log)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(LIMIT_S)
        finally:
            started.kill()


def log(gateway: GatewayFiles) -> str:
    return (gateway.folder / "agent.log").read_text()


def test_an_agent_renews_in_time_and_keeps_what_carried_a_receipt(
    tmp_path: Path, certificates: Certificates, gateway: GatewayFiles
) -> None:
    """Certificates for a quarter of an hour, backdated an hour: two thirds are over at once."""
    (tmp_path / "platform").mkdir()
    here = town(tmp_path / "platform", certificates, section="certificate_days = 0.01")
    with here.platform.process():
        gateway.json("enrol", here.url, "--claim", here.code(), "--ca", certificates.authority)
        first = gateway.sets.choose()
        assert first is not None
        with agent(gateway):
            until(lambda: gateway.sets.roles.previous == first.name, WAIT_S)
        roles = gateway.sets.roles
        assert (roles.candidate, roles.factory) == (None, first.name)
        assert len(here.platform.json("ca", "show")["issued"]) == 2
        assert log(gateway).count("event=certificate_current") == 2
        assert "event=renewed destination=city" in log(gateway)
        # and a person may have it renewed by hand
        gateway.json("identity", "renew")
        assert gateway.sets.roles.candidate is not None
        check = gateway.run("uplink", "check")
        assert check.code == 0, check.out
        assert "our certificate (candidate) is valid until" in check.out


@pytest.mark.parametrize("days", [0.01, 0.04, 1, 90])
def test_a_certificate_lives_longer_than_the_rest_after_its_renewal(days: float) -> None:
    validity = Validity(0, round((BACKDATED.total_seconds() + days * 86400) * 1e6))
    assert rest_s(validity) <= min(3600, days * 86400 / 2)


def test_a_bad_renewal_falls_back_and_is_done_again(here: Town, gateway: GatewayFiles) -> None:
    """What comes is of an authority that the platform does not know: the agent goes on with what works."""
    with here.platform.process():
        gateway.json("enrol", here.url, "--claim", here.code(), "--ca", here.platform.certificates.authority)
        good = gateway.sets.choose()
        assert good is not None
        with agent(gateway):
            until(lambda: gateway.sets.roles.current == good.name, WAIT_S)
        bad = gateway.sets.add(Issuer().issue(gateway.sets.next_key().public_key()), b"", enrolled=False)
        assert gateway.sets.roles.candidate == bad.name
        with agent(gateway):
            until(lambda: gateway.sets.roles == Roles(current=good.name, factory=good.name), WAIT_S)
        assert "event=certificate_dropped" in log(gateway)


def test_a_revoked_gateway_is_told_so_and_stays_out(here: Town, gateway: GatewayFiles) -> None:
    with here.platform.serving():
        gateway.json("enrol", here.url, "--claim", here.code(), "--ca", here.platform.certificates.authority)
        here.platform.json("gateways", "revoke", EUI.hex())
        done = gateway.run("identity", "renew")
        assert (done.code, "REVOKED" in done.err, "[CG-ENR-006]" in done.err) == (1, True, True)
        check = gateway.run("uplink", "check")
        assert check.code == 1
        assert "HTTP status 403" in check.out


@pytest.mark.parametrize(
    ("first_day", "last_day"), [(1000, 1090), (-15, -5)], ids=["the clock is three years behind", "the clock is ahead"]
)
def test_a_clock_that_is_off_prevents_neither_enrolment_nor_renewal(
    first_day: float, last_day: float, tmp_path: Path, gateway: GatewayFiles
) -> None:
    """The platform's certificate is valid at a time that this machine's clock is far from; nobody has set the clock."""
    issuer = Issuer()
    (tmp_path / "platform").mkdir()
    ca = tmp_path / "ca.pem"
    ca.write_bytes(issuer.certificate())
    server = Credentials(*issuer.write(tmp_path, "server", first_day, last_day))
    here = town(tmp_path / "platform", Certificates(ca, server, server))
    wrong = Clock()
    code = here.code()
    with here.platform.serving():
        with pytest.raises(LinkError, match=r"not valid before|expired"):
            enrol(gateway.toml, here.url, claim=parse(code), trust=Trust(ca), clock=host_clock())
        enrol(gateway.toml, here.url, claim=parse(code), trust=Trust(ca), clock=wrong)
        (destination,) = gateway.config.destination
        time = TrustedTime(None, wrong)
        made = renew(destination, gateway.sets, identity.signer(gateway.config), EUI, time)
        assert gateway.sets.roles.candidate == made.name
        # the platform has signed its time: from now on that is known, as far as its certificate reaches
        before_us = TrustedTime(None, Clock()).bounds().earliest_us
        assert (time.bounds().earliest_us > before_us) is (last_day > 0)


def host_clock() -> Clock:
    """A clock that shows what this machine's shows, and is sure of it."""
    import time

    return Clock(utc_us=time.time_ns() // 1000, synchronised=True)


def test_an_answer_that_was_lost_is_fetched_again_with_the_same_key(
    here: Town, gateway: GatewayFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    with here.platform.serving():
        gateway.json("enrol", here.url, "--claim", here.code(), "--ca", here.platform.certificates.authority)
        (destination,) = gateway.config.destination
        signer = identity.signer(gateway.config)

        def lose(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(CertificateSets, "add", lose)
            with pytest.raises(KeyboardInterrupt):
                renew(destination, gateway.sets, signer, EUI, TrustedTime(None, Clock()))
        issued = here.platform.json("ca", "show")["issued"]
        assert len(issued) == 2
        made = renew(destination, gateway.sets, signer, EUI, TrustedTime(None, Clock()))
        assert here.platform.json("ca", "show")["issued"] == issued
        assert fingerprint(made.der).hex() in {entry["fingerprint"] for entry in issued}


def test_a_new_key_that_the_platform_does_not_know_yet_renews_with_the_one_before(
    here: Town, gateway: GatewayFiles
) -> None:
    with here.platform.serving():
        gateway.json("enrol", here.url, "--claim", here.code(), "--ca", here.platform.certificates.authority)
        loaded, sets = gateway.config, gateway.sets
        first = sets.choose()
        assert first is not None
        sets.carried(first.name)
        for _ in range(3):
            sets.failed(first.name, certain=True)
        assert sets.urgent
        renewals = renewal.Renewals([Ed25519Signer.generate(), identity.signer(loaded)], EUI, lambda: 0)
        woken: list[bool] = []
        renewals.add(loaded.destination[0], sets, TrustedTime(None, Clock()), lambda: woken.append(True))
        renewals._look(renewals._courses[0])
    assert woken
    assert sets.roles.candidate is not None


@only_root
def test_root_signs_as_root_and_leaves_certificates_to_their_owner(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TPM may be open to the service by a group that only its unit gives it, and to root in any case."""
    (tmp_path / "platform").mkdir()
    here = town(tmp_path / "platform", certificates)
    signing_as: list[int] = []
    signs = Ed25519Signer.sign

    def sign(signer: Ed25519Signer, data: bytes) -> bytes:
        signing_as.append(os.geteuid())
        return signs(signer, data)

    with open_folder() as folder, here.platform.process():
        gateway = gateway_files(folder / "gateway")
        give(folder / "gateway/state")
        gateway.json("enrol", here.url, "--claim", here.code(), "--ca", here.platform.certificates.authority)
        monkeypatch.setattr(Ed25519Signer, "sign", sign)
        gateway.json("identity", "renew")
        assert set(signing_as) == {0}
        assert strangers(folder / "gateway/state") == []


def test_a_platform_with_another_receipt_key_renews_nothing(here: Town, gateway: GatewayFiles) -> None:
    with here.platform.serving():
        gateway.json("enrol", here.url, "--claim", here.code(), "--ca", here.platform.certificates.authority)
        text = gateway.toml.read_text()
        key = here.platform.json("identity", "show")["public_key"]
        gateway.toml.write_text(text.replace(key, Ed25519Signer.generate().public.text))
        done = gateway.run("identity", "renew")
    assert (done.code, "[CG-UPL-011]" in done.err) == (1, True)
    assert gateway.sets.roles.candidate == gateway.sets.roles.factory


def test_a_certificate_of_an_authority_of_ones_own(gateway: GatewayFiles, tmp_path: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    key = PublicKey.from_text(gateway.json("identity", "create")["public_key"])
    with gateway.toml.open("a") as file:
        file.write(f'[[destination]]\nname = "city"\nurl = "https://localhost:1"\nreceipt_key = "{key.text}"\n')
    request = tmp_path / "town-hall.csr"
    assert gateway.run("identity", "csr", "-o", request).code == 0
    csr = x509.load_pem_x509_csr(request.read_bytes())
    assert csr.is_signature_valid
    public = csr.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    signed = tmp_path / "signed.pem"
    signed.write_bytes(Issuer().issue(public, name="somebody else"))
    assert "[CG-ENR-012]" in gateway.run("identity", "install", signed).err
    signed.write_bytes(Issuer().issue(public, name=EUI.hex()))
    assert gateway.run("identity", "install", signed).code == 0
    assert gateway.sets.roles.candidate is not None
    assert "[CG-ENR-015]" in gateway.run("identity", "renew").err, "whoever signed it must do so again"
    assert "[CG-ENR-004]" in gateway.run("identity", "install", signed).err, "it was for the key before"


@given(st.integers(0, 1 << 50), st.integers(1_000_000, 1 << 48), st.text(max_size=20))
def test_a_renewal_is_due_after_two_thirds_and_well_before_the_end(start_us: int, span_us: int, name: str) -> None:
    moment = renew_at_us(Validity(start_us, start_us + span_us), name)
    assert start_us + span_us * 2 // 3 <= moment + 1
    assert moment <= start_us + span_us * 3 // 4 + 1


def test_gateways_that_were_enrolled_together_do_not_come_together() -> None:
    dates = Validity(0, 90 * 86_400_000_000)
    moments = {renew_at_us(dates, f"{number:016x}") // 3_600_000_000 for number in range(50)}
    assert len(moments) > 30


def test_a_platform_that_is_away_is_not_asked_all_the_time(
    gateway: GatewayFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway.toml.open("a") as file:
        key = Ed25519Signer.generate().public.text
        file.write(
            f'[[destination]]\nname = "city"\nurl = "https://localhost:1"\nreceipt_key = "{key}"\n'
            'enrolment = "https://localhost:1"\n'
        )
    loaded = gateway.config
    old = gateway.sets.add(Issuer().issue(gateway.sets.next_key().public_key(), -80, 10), b"", enrolled=True)
    gateway.sets.carried(old.name)
    asked: list[int] = []
    now_us = [0]

    def refuse(*_: object) -> None:
        asked.append(now_us[0])
        raise AgentError("away", where="platform", hint="-", code="CG-TEST")

    monkeypatch.setattr(renewal, "renew", refuse)
    time = TrustedTime(None, host_clock())
    renewals = renewal.Renewals([identity.signer(loaded)], EUI, lambda: now_us[0])
    renewals.add(loaded.destination[0], gateway.sets, time, lambda: None)
    while now_us[0] < 86_400_000_000:
        renewals._look(renewals._courses[0])
        now_us[0] += 30_000_000
    assert 8 <= len(asked) <= 25
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert max(pauses) <= 6 * 3_600_000_000
