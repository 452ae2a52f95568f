# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import dataclasses
import json
import sqlite3
import ssl
import stat
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from agent.batch.keys import Ed25519Signer, ES256Signer, PublicKey
from agent.batch.model import Reason, Receipt, Refusal
from agent.batch.receipt import open_answer
from agent.enrolment import certificate, claim, message
from agent.enrolment.message import Enrolled, Pending, Turned, TurnedDown
from receiver.enrolment.authority import Authority
from receiver.enrolment.desk import Desk, Policy
from receiver.enrolment.store import FILE_NAME, Applicant, EnrolmentStore
from receiver.ledger.sqlite import SqliteLedger
from receiver.rate import origin
from tests.receiver.enrolment.town import Asking, Town, town
from tests.receiver.gateway import EUI, Gateway
from tests.receiver.platform import Certificates

OTHER_EUI = bytes.fromhex("0016c001ff10ffff")


@pytest.fixture
def here(tmp_path: Path, certificates: Certificates) -> Town:
    return town(tmp_path, certificates)


def turned(said: message.Said) -> Turned:
    assert isinstance(said, TurnedDown), said
    return said.reason


def test_a_code_lets_one_gateway_in_and_its_batches_with_its_certificate(here: Town) -> None:
    gateway = Gateway()
    asking = Asking(here, signer=gateway.signer)
    with here.platform.serving():
        enrolled = asking.enrolled(here.code())
        with asking.batches(enrolled.chain[0]) as client:
            answer = client.post("/v1/batches", content=gateway.wire())
        with pytest.raises(httpx.TransportError), here.platform.client(certificate=False) as stranger:
            stranger.get("/v1/health")
    assert answer.status_code == 200
    assert isinstance(open_answer(answer.content, here.platform.resolve), Receipt)
    (entry,) = here.platform.json("gateways", "list")["gateways"]
    assert (entry["gateway"], entry["kid"], entry["name"]) == (EUI.hex(), gateway.signer.kid.hex(), "town hall")
    settings = json.loads(enrolled.settings)
    assert (settings["name"], settings["url"]) == ("city", here.platform.url)
    assert enrolled.authorities == (ssl.PEM_cert_to_DER_cert(here.platform.certificates.authority.read_text()),)


def test_the_certificate_is_good_for_this_gateway_as_a_client_and_for_nothing_else(here: Town) -> None:
    with here.platform.serving():
        der = Asking(here, signer=ES256Signer.generate()).enrolled(here.code()).chain[0]
    leaf = x509.load_der_x509_certificate(der)
    assert leaf.subject.rfc4514_string() == f"CN={EUI.hex()}"
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [oid._name for oid in usage] == ["clientAuth"]
    root = x509.load_pem_x509_certificate((here.platform.data_dir / "ca" / "ca.pem").read_bytes())
    leaf.verify_directly_issued_by(root)
    constraints = root.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert stat.S_IMODE((here.platform.data_dir / "ca" / "ca.key").stat().st_mode) == 0o600
    # a broker, another user, reads what is public
    assert stat.S_IMODE((here.platform.data_dir / "ca").stat().st_mode) == 0o711
    for public in ("ca.pem", "crl.pem"):
        assert stat.S_IMODE((here.platform.data_dir / "ca" / public).stat().st_mode) == 0o644
    assert stat.S_IMODE((here.platform.data_dir / FILE_NAME).stat().st_mode) == 0o600


def test_a_code_is_used_once_and_again_only_by_the_same_gateway(here: Town) -> None:
    code = here.code(None)
    asking = Asking(here)
    with here.platform.serving():
        first = asking.enrolled(code)
        # the answer was lost: the same gateway, with the same key or a new one for TLS, gets it again
        assert asking.enrolled(code).chain == first.chain
        again = dataclasses.replace(asking, tls_key=ec.generate_private_key(ec.SECP256R1()))
        assert again.enrolled(code).chain != first.chain
        # also without the code, which it may have forgotten by now
        assert asking.enrolled().chain == first.chain
        assert turned(Asking(here, eui=OTHER_EUI).ask(code)) is Turned.BAD_CLAIM
        assert turned(dataclasses.replace(asking, eui=OTHER_EUI).ask(code)) is Turned.OTHER_GATEWAY


@pytest.mark.parametrize("problem", ["unknown", "expired", "for another gateway"])
def test_a_code_that_is_no_good_is_turned_away_without_saying_why_to_strangers(
    problem: str, here: Town, caplog: pytest.LogCaptureFixture
) -> None:
    codes: dict[str, Callable[[], str]] = {
        "unknown": claim.generate,
        "expired": lambda: here.code(EUI, "--hours", "0.0000001"),
        "for another gateway": lambda: here.code(OTHER_EUI),
    }
    code = codes[problem]()
    asking = Asking(here)
    with here.platform.serving():
        said = asking.ask(code)
    assert turned(said) is Turned.BAD_CLAIM
    assert isinstance(said, TurnedDown)
    assert said.detail == "this code does not let this gateway in"
    assert problem in caplog.text
    assert code not in caplog.text
    assert here.platform.json("gateways", "list")["gateways"] == []


def test_the_code_itself_is_nowhere_on_the_disk(here: Town) -> None:
    code = here.code()
    with here.platform.serving():
        Asking(here).enrolled(code)
    for path in (here.platform.folder).rglob("*"):
        if path.is_file() and not path.is_socket():
            data = path.read_bytes()
            assert code.encode() not in data, path
            assert claim.parse(code).encode() not in data, path


def test_a_code_for_anybody_does_not_give_away_the_name_of_a_registered_gateway(here: Town) -> None:
    with here.platform.serving():
        Asking(here).enrolled(here.code())
        assert turned(Asking(here).ask(here.code(None))) is Turned.BAD_CLAIM
        # but the operator may invite this very gateway again, with the new key of its new card
        Asking(here).enrolled(here.code(EUI))
    assert len(here.platform.json("gateways", "list")["gateways"]) == 2


def test_without_a_code_a_person_decides(tmp_path: Path, certificates: Certificates) -> None:
    here = town(tmp_path, certificates, section='without_claim = "wait"')
    asking, other = Asking(here), Asking(here, eui=OTHER_EUI)
    with here.platform.serving():
        assert isinstance(asking.ask(), Pending)
        assert isinstance(other.ask(), Pending)
        (entry, _) = here.platform.json("gateways", "list")["waiting"]
        assert (entry["gateway"], entry["kid"], entry["sender"]) == (EUI.hex(), asking.signer.kid.hex(), "127.0.0.1")
        assert "waits for approval" in here.platform.run("gateways", "list").out
        here.platform.json("gateways", "approve", EUI.hex())
        here.platform.json("gateways", "reject", OTHER_EUI.hex())
        assert here.platform.run("gateways", "approve", EUI.hex()).code == 1
        asking.enrolled()
        assert turned(other.ask()) is Turned.NOT_INVITED
        # who waits may bring a code meanwhile
        third = Asking(here, eui=OTHER_EUI)
        assert isinstance(third.ask(), Pending)
        third.enrolled(here.code(OTHER_EUI))


def test_two_that_say_that_they_are_one_gateway_are_told_apart(tmp_path: Path, certificates: Certificates) -> None:
    here = town(tmp_path, certificates, section='without_claim = "wait"')
    right, wrong = Asking(here), Asking(here)
    with here.platform.serving():
        right.ask()
        wrong.ask()
        done = here.platform.run("gateways", "approve", EUI.hex())
        assert done.code == 1
        assert right.signer.kid.hex() in done.err
        here.platform.json("gateways", "approve", EUI.hex(), "--kid", right.signer.kid.hex())
        right.enrolled()
        assert isinstance(wrong.ask(), Pending)


def test_without_a_code_nobody_comes_in_by_default(here: Town) -> None:
    with here.platform.serving():
        assert turned(Asking(here).ask()) is Turned.NOT_INVITED
    assert here.platform.json("gateways", "list")["waiting"] == []


def test_a_gateway_registered_by_hand_needs_no_code(here: Town) -> None:
    asking = Asking(here)
    here.platform.json("gateways", "add", EUI.hex(), "--key", asking.signer.public.text)
    with here.platform.serving():
        asking.enrolled()


def test_no_request_is_taken_twice_nor_with_a_challenge_of_somebody_else(here: Town) -> None:
    asking = Asking(here)
    code = here.code()
    with here.platform.serving():
        data = asking.request(asking.nonce(), code=code)
        assert asking.send(data).status_code == 200
        for replayed in (data, asking.request(bytes(message.NONCE_BYTES), code=code)):
            response = asking.send(replayed)
            assert response.status_code == 403
            said, _ = message.open_answer(response.content, message.digest_of(replayed), ())
            assert turned(said) is Turned.STALE


def requests_that_cannot_be_granted() -> dict[str, bytes]:
    own = ec.generate_private_key(ec.SECP256R1())
    good = bytearray(certificate.request(EUI, own))
    good[-1] ^= 1
    name = x509.Name([])
    large = rsa.generate_private_key(65537, 2048)
    foreign = x509.CertificateSigningRequestBuilder().subject_name(name).sign(large, hashes.SHA256())
    return {"no request": b"rubbish", "not signed": bytes(good), "RSA": foreign.public_bytes(Encoding.DER)}


@pytest.mark.parametrize("problem", ["no request", "not signed", "RSA", "the signing key"])
def test_a_certificate_request_that_cannot_be_granted_costs_no_code(problem: str, here: Town) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    asking = Asking(here, signer=ES256Signer(private))
    csr = {**requests_that_cannot_be_granted(), "the signing key": certificate.request(EUI, private)}[problem]
    code = here.code()
    with here.platform.serving():
        assert turned(asking.ask(code, csr=csr)) is Turned.BAD_REQUEST
        Asking(here).enrolled(code)


def test_renewal_needs_the_key_and_the_present_certificate(here: Town) -> None:
    asking = Asking(here)
    with here.platform.serving():
        present = asking.enrolled(here.code()).chain[0]
        renewing = dataclasses.replace(asking, tls_key=ec.generate_private_key(ec.SECP256R1()))
        renewed = renewing.enrolled(present=present)
        assert renewed.chain[0] != present
        assert renewed.settings == "", "what the operator of the gateway set stays"
        assert turned(Asking(here).ask(present=present)) is Turned.UNKNOWN
        assert turned(asking.ask(present=b"another certificate")) is Turned.UNKNOWN


def test_an_expired_certificate_is_renewed_within_its_grace_and_not_later(here: Town, ledger: SqliteLedger) -> None:
    """The desk alone, with a clock of ours: certificates for a day, a grace of thirty."""
    folder = here.platform.data_dir
    now_days = [0]

    def utc_us() -> int:
        return time.time_ns() // 1000 + now_days[0] * 86_400_000_000

    policy = Policy(certificate_days=1, grace_days=30, ask=False, authorities=(), settings="")
    with closing(EnrolmentStore(folder)) as store:
        desk = Desk(store, ledger, Authority(folder / "ca"), Ed25519Signer.generate(), policy=policy, utc_us=utc_us)
        asking = Asking(here)

        def ask(asking: Asking, code: str = "", present: bytes | None = None) -> message.Said:
            return desk.answer(asking.request(desk.challenge(), code=code, present=present), "-")[1]

        first = ask(asking, here.code())
        assert isinstance(first, Enrolled)
        present = first.chain[0]
        now_days[0] = 20
        renewing = dataclasses.replace(asking, tls_key=ec.generate_private_key(ec.SECP256R1()))
        assert isinstance(ask(renewing, present=present), Enrolled)
        now_days[0] = 100
        assert turned(ask(asking, present=present)) is Turned.EXPIRED
        # nor does it come in by enrolling again, unless somebody invites it
        assert turned(ask(asking)) is Turned.EXPIRED
        assert isinstance(ask(asking, here.code(EUI, "--hours", "8000")), Enrolled)


def test_what_is_revoked_is_turned_away_by_name(here: Town) -> None:
    gateway = Gateway()
    asking = Asking(here, signer=gateway.signer)
    with here.platform.serving():
        der = asking.enrolled(here.code()).chain[0]
        (issued,) = here.platform.json("ca", "show")["issued"]
        with asking.batches(der) as client:
            assert client.post("/v1/batches", content=gateway.wire()).status_code == 200
            said = here.platform.json("gateways", "revoke", EUI.hex(), "--serial", issued["serial"])
            assert (said["revoked"], said["certificates"]) == (0, 1)
            # on the connection that is open already
            answer = client.post("/v1/batches", content=gateway.wire())
            assert answer.status_code == 422
            refusal = open_answer(answer.content, here.platform.resolve)
            assert isinstance(refusal, Refusal)
            assert (refusal.reason, refusal.detail) == (
                Reason.REVOKED_KEY,
                "the certificate that the gateway came with was revoked",
            )
            receipt = client.get(f"/v1/streams/{gateway.stream_id.hex()}/receipt")
            assert (receipt.status_code, receipt.text) == (
                403,
                "the certificate that the gateway came with was revoked\n",
            )
        assert turned(asking.ask(present=der)) is Turned.REVOKED
        # for its key there is nothing, for another key only with a new code
        assert turned(asking.ask()) is Turned.EXPIRED
        fresh = dataclasses.replace(asking, tls_key=ec.generate_private_key(ec.SECP256R1()))
        fresh.enrolled(here.code(EUI))
        # the whole gateway
        assert here.platform.json("gateways", "revoke", EUI.hex())["revoked"] == 1
        assert turned(fresh.ask()) is Turned.REVOKED
    crl = x509.load_pem_x509_crl((here.platform.data_dir / "ca" / "crl.pem").read_bytes())
    assert int(issued["serial"], 16) in {entry.serial_number for entry in crl}
    assert len(list(crl)) == 2
    root = x509.load_pem_x509_certificate((here.platform.data_dir / "ca" / "ca.pem").read_bytes())
    public = root.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert crl.is_signature_valid(public)


def test_after_a_revocation_neither_the_old_code_nor_an_older_certificate_lets_it_in(here: Town) -> None:
    asking, code = Asking(here), here.code()
    newer = dataclasses.replace(asking, tls_key=ec.generate_private_key(ec.SECP256R1()))
    with here.platform.serving():
        first = asking.enrolled(code).chain[0]
        newer.enrolled(present=first)
        latest = here.platform.json("ca", "show")["issued"][-1]
        here.platform.json("gateways", "revoke", EUI.hex(), "--serial", latest["serial"])
        fresh = dataclasses.replace(asking, tls_key=ec.generate_private_key(ec.SECP256R1()))
        # the code may stand on a label of the very gateway
        assert turned(fresh.ask(code)) is Turned.BAD_CLAIM
        assert turned(fresh.ask(present=first)) is Turned.REVOKED
        assert turned(fresh.ask()) is Turned.EXPIRED
        fresh.enrolled(here.code(EUI))


def test_an_older_certificate_can_be_revoked_without_harm(here: Town) -> None:
    asking = Asking(here)
    newer = dataclasses.replace(asking, tls_key=ec.generate_private_key(ec.SECP256R1()))
    with here.platform.serving():
        first = asking.enrolled(here.code()).chain[0]
        latest = newer.enrolled(present=first).chain[0]
        oldest = here.platform.json("ca", "show")["issued"][0]
        here.platform.json("gateways", "revoke", EUI.hex(), "--serial", oldest["serial"])
        newest = dataclasses.replace(asking, tls_key=ec.generate_private_key(ec.SECP256R1()))
        newest.enrolled(present=latest)


def test_an_invitation_is_taken_back_also_where_nobody_has_come_yet(here: Town) -> None:
    here.code(), here.code()
    said = here.platform.json("gateways", "revoke", EUI.hex())
    assert (said["revoked"], said["certificates"], said["invitations"]) == (0, 0, 2)
    with here.platform.serving():
        code = here.code()
        assert here.platform.json("gateways", "revoke", EUI.hex())["invitations"] == 1
        assert here.platform.json("gateways", "list")["invited"] == []
        assert turned(Asking(here).ask(code)) is Turned.BAD_CLAIM


def test_what_cannot_be_revoked_is_an_error(here: Town) -> None:
    with here.platform.serving():
        asking = Asking(here)
        asking.enrolled(here.code())
        unknown = here.platform.run("gateways", "revoke", EUI.hex(), "--serial", "abcdef")
        assert unknown.code == 1
        assert "no such certificate" in unknown.err
        both = ("--kid", asking.signer.kid.hex(), "--serial", "abcdef")
        with pytest.raises(SystemExit):
            here.platform.run("gateways", "revoke", EUI.hex(), *both)


def test_the_answer_is_signed_with_the_receipt_key(here: Town) -> None:
    key = PublicKey.from_text(here.platform.json("identity", "show")["public_key"])
    with here.platform.serving():
        assert isinstance(Asking(here).ask(here.code(), key=key), Enrolled)


def test_strangers_are_not_listened_to_after_a_while(tmp_path: Path, certificates: Certificates) -> None:
    here = town(tmp_path, certificates, section="strangers_per_minute = 3")
    asking = Asking(here)
    with here.platform.serving():
        statuses = [asking.send(b"rubbish").status_code for _ in range(5)]
        assert statuses == [400, 400, 400, 429, 429]
        held = asking.send(asking.request(asking.nonce()))
        assert held.status_code == 429
        assert 1 <= int(held.headers["retry-after"]) <= 20


def test_a_stranger_at_the_same_address_keeps_nobody_out_who_was_invited(
    tmp_path: Path, certificates: Certificates
) -> None:
    """One address may stand for many, behind a mobile network or a town hall's router."""
    here = town(tmp_path, certificates, section="strangers_per_minute = 3")
    asking = Asking(here)
    code = here.code()
    with here.platform.serving():
        assert [asking.send(b"rubbish").status_code for _ in range(4)] == [400, 400, 400, 429]
        other = Asking(here, eui=OTHER_EUI)
        assert other.send(other.request(other.nonce(), code=claim.generate())).status_code == 429
        issued = asking.enrolled(code).chain[0]
        assert asking.enrolled(present=issued)


def test_strangers_who_wait_keep_nobody_out_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.enrolment.store.MAX_PENDING", 3)

    def waiting(number: int, minute: int) -> Applicant:
        asked_us = minute * 60_000_000
        return Applicant(bytes([number]) * 32, EUI, "-", "-", "-", "pending", asked_us, asked_us)

    with closing(EnrolmentStore(tmp_path)) as store:
        for number in range(3):
            assert store.applied(waiting(number, number)) is not None
        assert store.applied(waiting(3, 60)) is None
        assert store.applied(waiting(0, 60)) is not None, "it asks again, and stays"
        assert store.applied(waiting(3, 62)) is not None
        assert [one.kid[0] for one in store.applicants("pending")] == [0, 2, 3]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("unknown", "unknown", True),
    ],
)
def test_who_has_a_network_has_one_share(one: str, other: str, same: bool) -> None:
    assert (origin(one) == origin(other)) is same


def test_one_key_cannot_ask_for_ever(here: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.enrolment.desk.REQUESTS_PER_HOUR", 5)
    asking = Asking(here)
    code = here.code()
    with here.platform.serving():
        asking.enrolled(code)
        statuses = {asking.send(asking.request(asking.nonce())).status_code for _ in range(6)}
    assert statuses == {200, 429}


def test_a_body_of_any_size_is_turned_away(here: Town) -> None:
    with here.platform.serving():
        assert Asking(here).send(bytes(message.MAX_REQUEST_BYTES + 1)).status_code == 413


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("gateways", "invite", EUI.hex(), "--count", "2"), "[CG-REG-006]"),
        (("gateways", "approve", EUI.hex()), "[CG-REG-009]"),
        (("ca", "create"), "[CG-CA-004]"),
    ],
)
def test_what_a_command_cannot_do_is_one_line(arguments: tuple[str, ...], code: str, here: Town) -> None:
    done = here.platform.run(*arguments)
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert code in done.err


def test_without_an_authority_the_receiver_says_what_to_do(tmp_path: Path, certificates: Certificates) -> None:
    here = town(tmp_path, certificates, https="")
    (here.platform.data_dir / "ca" / "ca.pem").unlink()
    done = here.platform.run("serve")
    assert done.code == 1
    assert "run 'civigate-receiver ca create' [CG-CA-001]" in done.err
    # a creation that was interrupted is finished with the key that is there
    before = (here.platform.data_dir / "ca" / "ca.key").read_bytes()
    here.platform.json("ca", "create")
    assert (here.platform.data_dir / "ca" / "ca.key").read_bytes() == before


def test_a_store_of_a_newer_program_is_left_alone(here: Town) -> None:
    here.code()
    with closing(sqlite3.connect(here.platform.data_dir / FILE_NAME)) as db:
        db.execute("PRAGMA user_version = 2")
    done = here.platform.run("gateways", "invite")
    assert (done.code, "[CG-LED-006]" in done.err) == (1, True)


def test_fifty_codes_for_labels(here: Town) -> None:
    said = here.platform.json("gateways", "invite", "--count", "50")
    assert len({claim.parse(code) for code in said["claims"]}) == 50
    assert said["labels"][0] == f"GW1:-:{said['claims'][0]}"
    assert len(said["fingerprint"]) == 64
    assert said["url"] == here.url
    out = here.platform.run("gateways", "invite", EUI.hex()).out
    assert f"civigate enrol {here.url} --claim" in out
