# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch import codec
from agent.batch.keys import Ed25519Signer, ring
from agent.batch.model import Account, HourAccount, Reason, Receipt
from agent.batch.receipt import open_answer
from receiver.intake import Answer, Intake, TooFastError
from receiver.ledger.chain import Alarm
from receiver.ledger.writer import LedgerWriter
from receiver.rate import Buckets
from tests.receiver.gateway import BOOT_ID, Gateway, wire

BOTH_ENGINES = True
HERE = "test"


def kinds(ledger: LedgerWriter) -> dict[str, int]:
    return {row.alarm.kind: row.count for row in ledger.alarms()}


def reason(answer: Answer) -> Reason | None:
    return None if answer.refusal is None else answer.refusal.reason


def test_a_batch_is_committed_and_acknowledged(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway, signer: Ed25519Signer
) -> None:
    sealed = gateway.seal(3)
    answer = intake.submit(wire(sealed), sender=HERE)
    receipt = open_answer(answer.data, ring(signer.public))
    assert isinstance(receipt, Receipt)
    assert (receipt.stream_id, receipt.through, receipt.hash) == (gateway.stream_id, 1, sealed.hash)
    assert [row["seq"] for row in ledger.frames(0, 10)] == [1, 2, 3]
    (row,) = ledger.frames(0, 1)
    assert row["gateway"] == gateway.eui.hex()
    assert row["dev_addr"] == "26011bda"
    assert (row["rssi_dbm"], row["snr_db"], row["coding_rate"], row["crc"]) == (-101.3, -1.75, "4/5", "ok")


def test_a_repeated_batch_gets_the_same_receipt_and_is_stored_once(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway
) -> None:
    sent = gateway.wire()
    first, second = (intake.submit(sent, sender=HERE) for _ in range(2))
    assert first.receipt is not None
    assert second.receipt is not None
    assert (second.repeat, second.receipt.through, second.receipt.hash) == (True, 1, first.receipt.hash)
    assert len(ledger.frames(0, 100)) == 3
    assert ledger.streams()[0].account.heard == 6


def test_another_content_under_a_used_number_is_a_fork(ledger: LedgerWriter, intake: Intake, gateway: Gateway) -> None:
    copy = Gateway(signer=gateway.signer)
    original = gateway.wires(2)
    for sent in original:
        intake.submit(sent, sender=HERE)
    copy.wire(1)
    answer = intake.submit(copy.wire(1), sender=HERE)
    assert reason(answer) is Reason.FORK
    assert kinds(ledger) == {Alarm.FORK: 1}
    assert len(ledger.frames(0, 100)) == 6
    assert ledger.quarantined()[0] == 1
    assert reason(intake.submit(original[1], sender=HERE)) is None


def test_a_restored_card_is_a_rollback_and_two_devices_are_a_clone(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway
) -> None:
    intake.submit(gateway.wire(), sender=HERE)
    restored = Gateway(signer=gateway.signer, number=1, seq=gateway.seq, previous_hash=gateway.previous_hash)
    intake.submit(gateway.wire(), sender=HERE)
    assert reason(intake.submit(restored.wire(2), sender=HERE)) is Reason.FORK
    assert kinds(ledger) == {Alarm.ROLLBACK: 1}
    assert reason(intake.submit(restored.wire(2), sender=HERE)) is Reason.BROKEN_CHAIN
    assert intake.submit(gateway.wire(), sender=HERE).receipt is not None
    assert kinds(ledger) == {Alarm.ROLLBACK: 1, Alarm.BROKEN_CHAIN: 1, Alarm.CLONE: 1}


def test_an_unknown_key_is_refused_until_it_is_registered(ledger: LedgerWriter, intake: Intake) -> None:
    stranger = Gateway()
    sealed = stranger.seal()
    answer = intake.submit(wire(sealed), sender=HERE)
    assert answer.refusal is not None
    assert answer.refusal.reason is Reason.UNKNOWN_KEY
    assert (answer.refusal.stream_id, answer.refusal.number) == (stranger.stream_id, 1)
    assert answer.refusal.batch_hash == sealed.hash
    assert ledger.quarantined()[0] == 1
    ledger.add_key(stranger.registration)
    assert intake.submit(wire(sealed), sender=HERE).receipt is not None
    assert ledger.quarantined()[0] == 0, "what is committed needs no quarantine"


def test_a_revoked_key_is_refused_and_its_batches_are_kept(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway
) -> None:
    intake.submit(gateway.wire(), sender=HERE)
    assert ledger.revoke(gateway.eui, None, 2) == 1
    assert reason(intake.submit(gateway.wire(), sender=HERE)) is Reason.REVOKED_KEY
    assert kinds(ledger) == {Alarm.REVOKED_KEY: 1}
    assert ledger.quarantined()[0] == 1
    assert len(ledger.frames(0, 100)) == 3


def test_only_the_holder_of_a_revoked_key_is_told_so(ledger: LedgerWriter, intake: Intake, gateway: Gateway) -> None:
    ledger.revoke(gateway.eui, None, 2)
    sealed = gateway.seal()
    forged = sealed.signed_header[:-1] + bytes([sealed.signed_header[-1] ^ 1])
    assert reason(intake.submit(codec.pack(forged, sealed.body), sender=HERE)) is Reason.BAD_SIGNATURE
    assert ledger.alarms() == []


def test_a_key_speaks_only_for_its_own_gateway(ledger: LedgerWriter, intake: Intake, gateway: Gateway) -> None:
    impostor = Gateway(eui=bytes(8), signer=gateway.signer)
    assert reason(intake.submit(impostor.wire(), sender=HERE)) is Reason.WRONG_GATEWAY
    assert reason(intake.submit(gateway.wire(), sender=HERE, topic_eui=bytes(8))) is Reason.WRONG_GATEWAY
    other = Gateway(eui=b"\1" * 8)
    ledger.add_key(other.registration)
    intake.submit(other.wire(), sender=HERE)
    stolen = Gateway(signer=gateway.signer)  # the same stream id, under another gateway's key
    assert reason(intake.submit(stolen.wire(), sender=HERE)) is Reason.WRONG_GATEWAY


def test_an_account_that_does_not_add_up_is_refused(ledger: LedgerWriter, intake: Intake, gateway: Gateway) -> None:
    answer = intake.submit(wire(gateway.seal(3, account=Account(heard=9, spooled=3))), sender=HERE)
    assert reason(answer) is Reason.UNBALANCED
    assert ledger.streams() == []


def test_an_account_that_is_not_the_sum_of_its_hours_is_refused(intake: Intake, gateway: Gateway) -> None:
    other = Gateway(signer=gateway.signer)
    parts = (
        HourAccount(BOOT_ID, 7, Account(heard=2, spooled=2)),
        HourAccount(BOOT_ID, 8, Account(heard=2, filtered=2)),
    )
    account = Account(heard=4, spooled=2, filtered=2)
    answer = intake.submit(wire(gateway.seal(2, account=account, hours=parts[:1])), sender=HERE)
    assert reason(answer) is Reason.UNBALANCED
    answer = intake.submit(wire(other.seal(2, account=account, hours=parts)), sender=HERE)
    assert answer.receipt is not None


def test_a_chain_that_does_not_join_is_refused_from_either_side(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway
) -> None:
    other = Gateway(signer=gateway.signer)
    first, second, third = gateway.wires(3)
    other.wire(1)
    alien = Gateway(signer=gateway.signer, number=1, seq=gateway.seq, previous_hash=other.previous_hash)
    intake.submit(first, sender=HERE)
    intake.submit(third, sender=HERE)
    assert reason(intake.submit(alien.wire(), sender=HERE)) is Reason.BROKEN_CHAIN
    right_hash = Gateway(signer=gateway.signer, number=1, seq=4)
    right_hash.previous_hash = ledger.state(gateway.stream_id, 9).hash
    assert reason(intake.submit(right_hash.wire(1), sender=HERE)) is Reason.BROKEN_CHAIN
    answer = intake.submit(second, sender=HERE)
    assert answer.receipt is not None
    assert answer.receipt.through == 3


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_garbage_is_answered_and_never_kept(data: bytes) -> None:
    signer = Ed25519Signer.generate()

    class Nothing:
        def key(self, _kid: bytes) -> None:
            return None

    answer = Intake(Nothing(), signer).submit(data, sender=HERE)  # type: ignore[arg-type] # it must not reach further
    assert reason(answer) is Reason.MALFORMED


def test_the_quarantine_keeps_the_first_evidence_within_its_limits(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway
) -> None:
    ledger.revoke(gateway.eui, None, 2)
    for sent in gateway.wires(70, frames=1):
        assert reason(intake.submit(sent, sender=HERE)) is Reason.REVOKED_KEY
    assert ledger.quarantined()[0] == 64, "one key fills only its own share"
    for _ in range(260):
        intake.submit(Gateway().wire(1), sender=HERE)
    assert ledger.quarantined()[0] == 64 + 250, "strangers fill only theirs"


def test_a_gateway_that_brings_too_much_waits_and_others_do_not(
    ledger: LedgerWriter, signer: Ed25519Signer, gateway: Gateway
) -> None:
    now_s = 0.0
    intake = Intake(ledger, signer, rate=Buckets(per_s=2, burst=3, monotonic_s=lambda: now_s))
    sent = gateway.wires(4)
    for batch in sent[:3]:
        intake.submit(batch, sender=HERE)
    with pytest.raises(TooFastError) as caught:
        intake.submit(sent[3], sender=HERE)
    assert caught.value.wait_s == 0.5
    other = Gateway(eui=b"\1" * 8, seed=b"other")
    ledger.add_key(other.registration)
    assert intake.submit(other.wire(), sender=HERE).receipt is not None
    now_s = 0.5
    assert intake.submit(sent[3], sender=HERE).receipt is not None


def test_the_receipt_of_a_stream_never_seen_is_through_nothing(intake: Intake, signer: Ed25519Signer) -> None:
    receipt = open_answer(intake.receipt(b"\7" * 16), ring(signer.public))
    assert isinstance(receipt, Receipt)
    assert (receipt.through, receipt.hash, receipt.beyond) == (0, bytes(32), ())
