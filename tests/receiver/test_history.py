# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A new stream that says which one it takes the place of: what the platform makes of it."""

from __future__ import annotations

import pytest

from agent.batch.model import GENESIS_HASH, Predecessor
from receiver.intake import Intake
from receiver.ledger.chain import Alarm
from receiver.ledger.writer import LedgerWriter
from tests.receiver.gateway import Gateway, wire

BOTH_ENGINES = True


def alarms(ledger: LedgerWriter) -> list[tuple[Alarm, bytes, int]]:
    return sorted((row.alarm.kind, row.alarm.stream_id, row.alarm.number) for row in ledger.alarms())


def follows(gateway: Gateway, through: int, digest: bytes) -> tuple[Gateway, bytes]:
    """Begin a new stream of the gateway, as a spool does that knows the old one so far; return its first batch too."""
    new = Gateway(seed=b"new stream", signer=gateway.signer)
    sealed = new.seal(predecessor=Predecessor(gateway.stream_id, through, digest))
    return new, wire(sealed)


def test_a_gateway_that_went_back_is_told_and_then_the_clone(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway
) -> None:
    sealed = [gateway.seal() for _ in range(4)]
    for one in sealed:
        intake.submit(wire(one), sender="test")
    new, first = follows(gateway, 2, sealed[1].hash)
    for _ in range(2):
        assert intake.submit(first, sender="test").receipt is not None
    assert alarms(ledger) == [(Alarm.ROLLBACK, gateway.stream_id, 3)]
    assert intake.submit(wire(sealed[3]), sender="test").repeat
    assert len(alarms(ledger)) == 1, "a repeat is no second device"
    assert intake.submit(gateway.wire(), sender="test").receipt is not None
    assert alarms(ledger) == [(Alarm.CLONE, gateway.stream_id, 3), (Alarm.ROLLBACK, gateway.stream_id, 3)]
    assert intake.submit(new.wire(), sender="test").receipt is not None
    assert len(ledger.frames(0, 100)) == 7 * 3


@pytest.mark.parametrize("what", ["all of it", "more than is here", "nothing of an unknown one"])
def test_a_new_stream_for_another_reason_is_no_alarm(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway, what: str
) -> None:
    sealed = [gateway.seal() for _ in range(2)]
    if what != "nothing of an unknown one":
        for one in sealed:
            intake.submit(wire(one), sender="test")
    through, digest = (0, GENESIS_HASH) if what.startswith("nothing") else (2, sealed[1].hash)
    if what.startswith("more"):
        through, digest = 5, b"\x01" * 32
    _, first = follows(gateway, through, digest)
    assert intake.submit(first, sender="test").receipt is not None
    assert alarms(ledger) == []


def test_another_content_under_the_same_number_is_another_history(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway
) -> None:
    intake.submit(gateway.wire(), sender="test")
    assert intake.submit(follows(gateway, 1, b"\x07" * 32)[1], sender="test").receipt is not None
    assert alarms(ledger) == [(Alarm.ROLLBACK, gateway.stream_id, 2)]


def test_a_stream_of_another_gateway_is_none_of_its_business(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway
) -> None:
    other = Gateway(eui=bytes(8), seed=b"other")
    ledger.add_key(other.registration)
    intake.submit(other.wire(), sender="test")
    gateway.wire()
    new = Gateway(seed=b"new", signer=gateway.signer)
    sealed = new.seal(predecessor=Predecessor(other.stream_id, 0, GENESIS_HASH))
    assert intake.submit(wire(sealed), sender="test").receipt is not None
    assert alarms(ledger) == []
