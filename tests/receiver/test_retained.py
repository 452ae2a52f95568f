# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Receipts of several receivers at one broker."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.batch.model import Receipt
from receiver.intake import Answer
from receiver.retained import RetainedReceipts

EUI = bytes(8)
STREAM = bytes(16)
STEPS = 30
LONGEST = 4 * STEPS
"""Rounds after which everything has arrived and was looked after."""


@dataclass
class Message:
    """On its way; a broker that has it keeps the last."""

    through: int
    arrived: bool = False
    fails: bool = False

    def is_published(self) -> bool:
        if self.fails:
            raise RuntimeError("not connected")
        return self.arrived


@dataclass
class Receiver:
    """One of several, over a ledger that all of them have."""

    ledger: Ledger
    sent: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.retained = RetainedReceipts(self._newer, self._publish)

    def _newer(self, said: Receipt) -> Answer | None:
        now = receipt(self.ledger.through)
        return None if now == said else Answer(str(now.through).encode(), receipt=now)

    def _publish(self, eui: bytes, data: bytes) -> Message:
        self.sent.append(Message(int(data)))
        return self.sent[-1]


@dataclass
class Ledger:
    through: int = 0


def receipt(through: int) -> Receipt:
    return Receipt(STREAM, through, bytes(32), 0, ())


class Broker(RuleBasedStateMachine):
    """Commits, receipts that travel for a while, and looks at them, in any order."""

    @initialize()
    def begin(self) -> None:
        self.ledger = Ledger()
        self.receivers = [Receiver(self.ledger) for _ in range(3)]
        self.kept = 0

    @rule(who=st.integers(0, 2))
    def commit(self, who: int) -> None:
        self.ledger.through += 1
        now = receipt(self.ledger.through)
        self.receivers[who].retained.leave(EUI, now, str(now.through).encode())

    @rule(who=st.integers(0, 2))
    def arrive(self, who: int) -> None:
        """One connection keeps the order of its messages."""
        for message in self.receivers[who].sent:
            if not message.arrived:
                message.arrived = True
                self.kept = message.through
                return

    @rule(who=st.integers(0, 2))
    def look(self, who: int) -> None:
        self.receivers[who].retained.look_after()

    @invariant()
    def what_stays_is_the_ledger(self) -> None:
        if not any(receiver.retained for receiver in self.receivers):
            assert self.kept == self.ledger.through

    def teardown(self) -> None:
        for _ in range(LONGEST):
            for who in range(3):
                self.arrive(who)
                self.look(who)
        assert self.kept == self.ledger.through
        assert not any(receiver.retained for receiver in self.receivers)


TestBroker = Broker.TestCase
TestBroker.settings = settings(max_examples=40, stateful_step_count=STEPS, deadline=None)


@given(st.integers(1, 5))
def test_a_receipt_that_found_no_connection_is_said_anew(ahead: int) -> None:
    receiver = Receiver(Ledger(1))
    receiver.retained.leave(EUI, receipt(1), b"1")
    receiver.sent[0].fails = True
    receiver.ledger.through += ahead
    receiver.retained.look_after()
    assert [message.through for message in receiver.sent] == [1, 1 + ahead]
