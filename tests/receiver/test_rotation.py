# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How a gateway changes its key, as the platform sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.batch import succession
from agent.batch.keys import Ed25519Signer, ES256Signer, Signer
from agent.batch.model import Reason
from receiver.errors import RegistryError
from receiver.intake import Answer, Intake
from receiver.ledger.chain import OVERLAP_US, Alarm
from receiver.ledger.keys import MAX_ACTIVE_KEYS
from receiver.ledger.writer import LedgerWriter
from tests.receiver.gateway import EUI, Gateway, wire
from tests.receiver.platform import Certificates, platform

BOTH_ENGINES = True
HERE = "test"


class Clock:
    """The platform's."""

    now_us = 1_767_225_600_000_000

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def take(ledger: LedgerWriter, signer: Ed25519Signer, clock: Clock) -> Callable[[bytes], Reason | int]:
    """Submit a batch; return the reason of the refusal, or how far the receipt reaches."""
    intake = Intake(ledger, signer, utc_us=clock)

    def submit(sent: bytes) -> Reason | int:
        answer: Answer = intake.submit(sent, sender=HERE)
        if answer.refusal is not None:
            return answer.refusal.reason
        assert answer.receipt is not None
        return answer.receipt.through

    return submit


Take = Callable[[bytes], "Reason | int"]


def switch(gateway: Gateway, signer: Signer) -> None:
    gateway.signer = signer


def states(ledger: LedgerWriter) -> dict[bytes, str]:
    found = {}
    for key in ledger.registry():
        found[key.kid] = "revoked" if key.revoked_us else "replaced" if key.replaced_us else "active"
    return found


@pytest.mark.parametrize("new", [Ed25519Signer.generate(), ES256Signer.generate()], ids=["Ed25519", "ES256"])
def test_an_announced_key_takes_over(ledger: LedgerWriter, gateway: Gateway, take: Take, new: Signer) -> None:
    old = gateway.signer
    assert take(gateway.wire()) == 1
    assert take(wire(gateway.announce(new))) == 2
    assert states(ledger) == {old.kid: "active", new.kid: "active"}
    assert take(gateway.wire()) == 3, "both are accepted"
    switch(gateway, new)
    assert take(gateway.wire()) == 4
    assert states(ledger) == {old.kid: "replaced", new.kid: "active"}
    (key,) = (key for key in ledger.registry() if key.kid == new.kid)
    assert (key.eui, key.follows) == (gateway.eui, old.kid)
    assert ledger.alarms() == []
    switch(gateway, old)
    assert take(gateway.wire()) is Reason.REVOKED_KEY, "a copy of the old key is worth nothing"
    assert [row.alarm.kind for row in ledger.alarms()] == [Alarm.REVOKED_KEY]


def test_what_was_sealed_before_the_change_travels_after_it(ledger: LedgerWriter, gateway: Gateway, take: Take) -> None:
    new = ES256Signer.generate()
    announcing = wire(gateway.announce(new))
    before = gateway.wires(3)
    switch(gateway, new)
    after = gateway.wires(2)
    assert take(after[0]) is Reason.UNKNOWN_KEY, "the announcement has not come yet"
    assert take(announcing) == 1
    assert take(after[1]) == 1
    assert [take(sent) for sent in reversed(before)] == [1, 1, 4]
    assert take(after[0]) == 6
    assert [take(sent) for sent in before] == [6, 6, 6]


def test_the_chain_says_what_an_old_key_may_fill_in(ledger: LedgerWriter, gateway: Gateway, take: Take) -> None:
    old, new = gateway.signer, Ed25519Signer.generate()
    take(wire(gateway.announce(new)))
    forger = replace(gateway)
    missing = gateway.wire()
    switch(gateway, new)
    take(gateway.wire())
    assert forger.signer is old
    assert take(forger.wire(1)) is Reason.BROKEN_CHAIN
    assert take(missing) == 3


def test_an_old_key_goes_on_elsewhere_for_a_while(
    ledger: LedgerWriter, gateway: Gateway, take: Take, clock: Clock
) -> None:
    new = Ed25519Signer.generate()
    other = Gateway(seed=b"another destination at the same platform", signer=gateway.signer)
    assert take(other.wire()) == 1
    take(wire(gateway.announce(new)))
    switch(gateway, new)
    assert take(gateway.wire()) == 2
    assert take(wire(other.announce(new))) == 2
    clock.now_us += OVERLAP_US
    late = other.wires(2)
    assert take(late[0]) == 3
    clock.now_us += 1
    assert take(late[1]) is Reason.REVOKED_KEY
    switch(other, new)
    assert take(other.wire()) == 3
    assert take(late[1]) == 5, "now the chain says so"


def test_what_was_committed_is_acknowledged_whatever_became_of_its_key(
    ledger: LedgerWriter, gateway: Gateway, take: Take, clock: Clock
) -> None:
    sent = gateway.wires(2)
    assert take(sent[0]) == 1
    ledger.revoke(gateway.eui, None, clock.now_us)
    assert take(sent[0]) == 1
    assert take(sent[1]) is Reason.REVOKED_KEY
    assert ledger.quarantined()[0] == 1


def test_a_revoked_key_announces_nothing(ledger: LedgerWriter, gateway: Gateway, take: Take, clock: Clock) -> None:
    new = Ed25519Signer.generate()
    ledger.revoke(gateway.eui, None, clock.now_us)
    assert take(wire(gateway.announce(new))) is Reason.REVOKED_KEY
    assert new.kid not in states(ledger)


def announcements(gateway: Gateway, ledger: LedgerWriter) -> dict[str, bytes]:
    new, stranger = Ed25519Signer.generate(), Gateway(eui=bytes(8), seed=b"stranger")
    ledger.add_key(stranger.registration)
    revoked = Gateway(signer=Ed25519Signer.generate())
    ledger.add_key(revoked.registration)
    ledger.revoke(gateway.eui, revoked.signer.kid, 1)

    def announced(signer: Signer, eui: bytes = gateway.eui, old: bytes = gateway.signer.kid) -> bytes:
        return succession.announce(signer, gateway_eui=eui, predecessor=old)

    return {
        "damaged": announced(new)[:-1],
        "of another gateway": announced(new, eui=bytes(8)),
        "of another predecessor": announced(new, old=bytes(32)),
        "of a key that another gateway has": announced(stranger.signer),
        "of a key that was revoked": announced(revoked.signer),
    }


@pytest.mark.parametrize("what", range(5))
def test_an_announcement_that_cannot_be_is_told_and_the_batch_taken(
    ledger: LedgerWriter, gateway: Gateway, take: Take, what: int
) -> None:
    name, said = list(announcements(gateway, ledger).items())[what]
    before = states(ledger)
    assert take(wire(gateway.seal(succession=said))) == 1, name
    assert states(ledger) == before
    (row,) = ledger.alarms()
    assert (row.alarm.kind, row.alarm.subject) == (Alarm.SUCCESSION, gateway.eui.hex())


def test_a_gateway_does_not_fill_the_registry(ledger: LedgerWriter, gateway: Gateway, take: Take) -> None:
    for number in range(1, 2 * MAX_ACTIVE_KEYS):
        assert take(wire(gateway.announce(Ed25519Signer.generate()))) == number
    assert len(states(ledger)) == MAX_ACTIVE_KEYS
    assert {row.alarm.kind for row in ledger.alarms()} == {Alarm.SUCCESSION}


def test_a_replaced_key_does_not_come_back(ledger: LedgerWriter, gateway: Gateway, take: Take) -> None:
    old, new = gateway.signer, Ed25519Signer.generate()
    take(wire(gateway.announce(new)))
    switch(gateway, new)
    assert take(wire(gateway.announce(old))) == 2
    assert [row.alarm.kind for row in ledger.alarms()] == [Alarm.SUCCESSION]
    assert states(ledger) == {old.kid: "replaced", new.kid: "active"}


def test_a_key_registered_by_hand_is_the_one_announced(ledger: LedgerWriter, gateway: Gateway, take: Take) -> None:
    old, new = gateway.signer, Ed25519Signer.generate()
    ledger.add_key(replace(gateway.registration, kid=new.kid, public_key=new.public.text))
    take(wire(gateway.announce(new)))
    switch(gateway, new)
    take(gateway.wire())
    assert states(ledger) == {old.kid: "replaced", new.kid: "active"}
    third = Ed25519Signer.generate()
    take(wire(gateway.announce(third)))
    switch(gateway, third)
    take(gateway.wire())
    assert states(ledger) == {old.kid: "replaced", new.kid: "replaced", third.kid: "active"}


def test_nothing_takes_the_place_of_no_key(ledger: LedgerWriter, gateway: Gateway) -> None:
    stranger = Gateway(eui=bytes(8))
    with pytest.raises(RegistryError) as caught:
        ledger.rotate_key(stranger.registration)
    assert caught.value.code == "CG-REG-003"
    with pytest.raises(RegistryError) as caught:
        ledger.rotate_key(gateway.registration)
    assert caught.value.code == "CG-REG-003"


@pytest.mark.parametrize("running", [False, True])
def test_an_operator_changes_a_key(tmp_path: Path, certificates: Certificates, running: bool) -> None:
    made = platform(tmp_path, certificates)
    gateway, new, third = Gateway(), Ed25519Signer.generate(), Ed25519Signer.generate()
    made.json("gateways", "add", EUI.hex(), "--key", gateway.signer.public.text)

    def rotate() -> None:
        said = made.json("gateways", "rotate", EUI.hex(), "--key", new.public.text)
        assert (said["follows"], said["revoked"]) == (gateway.signer.kid.hex(), 0)
        said = made.json("gateways", "rotate", EUI.hex(), "--key", third.public.text, "--revoke")
        assert (said["follows"], said["revoked"]) == (new.kid.hex(), 2)

    if running:
        with made.serving():
            rotate()
    else:
        rotate()
    keys = {entry["kid"]: entry for entry in made.json("gateways", "list")["gateways"]}
    assert keys[third.kid.hex()]["revoked_us"] is None
    assert keys[new.kid.hex()]["revoked_us"] is not None
    assert keys[new.kid.hex()]["follows"] == gateway.signer.kid.hex()
    assert "active" in made.run("gateways", "list").out
