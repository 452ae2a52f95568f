# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Bytes in, signed answer out: verify, commit, then acknowledge; the same for HTTPS, MQTT and files.

A receipt is signed only for what the ledger has committed. Whatever is not accepted is refused with a reason, and
nothing that is committed is ever overwritten.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.batch.codec import Opened, glimpse, open_wire
from agent.batch.errors import RefusedError
from agent.batch.keys import PublicKey, Signer
from agent.batch.model import Account, Reason, Receipt, Refusal
from agent.batch.receipt import sign_receipt, sign_refusal
from receiver.errors import ReceiverError
from receiver.ledger.chain import Alarm, Denied
from receiver.ledger.port import Ledger, Parked, Raised, RegisteredKey, StreamState
from receiver.rate import Buckets
from receiver.tally import Tally

MAX_RANGES = 64
"""Ranges beyond `through` in a receipt; to say less is always safe."""
REVISION_FRAMES = 5000
"""Frames whose time is estimated anew in one transaction."""

_log = logging.getLogger(__name__)

_ALARMS = {Reason.UNKNOWN_KEY: Alarm.UNKNOWN_KEY, Reason.REVOKED_KEY: Alarm.REVOKED_KEY}
_KEPT = {
    Reason.UNKNOWN_KEY,
    Reason.REVOKED_KEY,
    Reason.FORK,
    Reason.BROKEN_CHAIN,
    Reason.UNBALANCED,
    Reason.WRONG_GATEWAY,
    Reason.UNSUPPORTED_VERSION,
}
"""Reasons whose bytes go into quarantine. What does not even verify proves nothing and is only answered."""


NOT_OURS = frozenset({Reason.MALFORMED, Reason.UNKNOWN_KEY, Reason.BAD_SIGNATURE})
"""Reasons that no registered gateway has given."""


class TooFastError(ReceiverError):
    """A gateway brings more than it may.

    Attributes:
        wait_s: seconds until it may bring the next batch.
    """

    def __init__(self, eui: bytes, wait_s: float) -> None:
        super().__init__(
            "brings more batches than it may",
            where=f"gateway {eui.hex()}",
            hint="it tries again by itself; [limits] batches_per_s and burst say how many",
            code="CG-INT-001",
            retryable=True,
        )
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the gateway.

    Attributes:
        data: signed receipt or refusal, COSE_Sign1.
        receipt: what the receipt says, None for a refusal.
        refusal: what the refusal says, None for a receipt.
        repeat: whether the batch had been committed before.
    """

    data: bytes
    receipt: Receipt | None = None
    refusal: Refusal | None = None
    repeat: bool = False


class Intake:
    """The way of a batch into the ledger. Safe to use from several threads.

    Args:
        ledger: where it is committed.
        signer: signs receipts and refusals.
        utc_us: the platform's clock, microseconds since 1970-01-01.
        committed: called after each commit of a new batch.
        rate: of verified batches, by gateway; None for no limit.
        tally: where it is counted.
    """

    def __init__(
        self,
        ledger: Ledger,
        signer: Signer,
        *,
        utc_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        committed: Callable[[], None] = lambda: None,
        rate: Buckets[bytes] | None = None,
        tally: Tally | None = None,
    ) -> None:
        self._ledger = ledger
        self._signer = signer
        self._utc_us = utc_us
        self._committed = committed
        self._rate = rate
        self.tally = tally or Tally()

    def submit(self, wire: bytes, *, sender: str, topic_eui: bytes | None = None) -> Answer:
        """Take a batch.

        Args:
            wire: as received, any bytes.
            sender: address, topic or file, for the operator.
            topic_eui: EUI of the gateway to which the way it came belongs, None where it belongs to none.

        Raises:
            LedgerError: nothing was decided; the batch must come again.
            TooFastError: nothing was decided; it may come again after a while.
        """
        signed_by: list[RegisteredKey] = []
        started_s = time.perf_counter()
        try:
            opened = open_wire(wire, lambda kid: self._resolve(kid, signed_by))
        except RefusedError as error:
            return self._refuse_unopened(wire, error.reason, error.what, sender)
        finally:
            verified_s = time.perf_counter()
            self.tally.verify.add(verified_s - started_s)
        key = signed_by[0]
        wait_s = self._rate.take(key.eui) if self._rate is not None else 0
        if wait_s:
            self.tally.hold_back("gateway")
            raise TooFastError(key.eui, wait_s)
        denied = _not_of(opened, key, topic_eui)
        if denied is None:
            now_us = self._utc_us()
            outcome = self._ledger.admit(opened, now_us, MAX_RANGES)
            self.tally.commit.add(time.perf_counter() - verified_s)
            if not isinstance(outcome, Denied):
                return self._accepted(opened, outcome.state, outcome.repeat, wire)
            denied = outcome
        header = opened.header
        parked = Parked(
            wire, denied.reason, denied.detail, sender, opened.hash, header.stream_id, header.number, opened.kid
        )
        return self._refuse(parked, denied.alarm, key.eui.hex())

    def turn_away(self, wire: bytes, detail: str, sender: str) -> Answer:
        """Refuse a batch unread because of who brings it.

        Raises:
            LedgerError: nothing was decided; the batch must come again.
        """
        return self._refuse_unopened(wire, Reason.REVOKED_KEY, detail, sender)

    def receipt(self, stream_id: bytes) -> bytes:
        """Sign what is committed of a stream (16 bytes); through 0 for one that was never seen.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        return self._sign(self._receipt(self._ledger.state(stream_id, MAX_RANGES)))

    def newer(self, said: Receipt) -> Answer | None:
        """Sign what is committed of a stream by now, None if a receipt has said all of it.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        state = self._ledger.state(said.stream_id, MAX_RANGES)
        if (state.through, state.beyond) == (said.through, said.beyond):
            return None
        receipt = self._receipt(state)
        return Answer(self._sign(receipt), receipt=receipt)

    def revise(self) -> bool:
        """Estimate a portion of the frames anew whose time later anchors tell better; True while more are waiting."""
        return self._ledger.revise(REVISION_FRAMES)

    def is_known(self, wire: bytes) -> bool:
        """Tell whether bytes claim to be a batch of a registered gateway; nothing of it is verified.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        kid = glimpse(wire).kid
        return bool(kid) and self._ledger.key(kid) is not None

    def is_stream(self, stream_id: bytes) -> bool:
        """Tell whether anything of a stream (16 bytes) is committed.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        state = self._ledger.state(stream_id, 1)
        return bool(state.through or state.beyond)

    def _resolve(self, kid: bytes, signed_by: list[RegisteredKey]) -> PublicKey | None:
        """Find the key that is said to have signed; a revoked one too, so that only its holder is told so."""
        key = self._ledger.key(kid)
        if key is None:
            return None
        if self._rate is not None and (wait_s := self._rate.wait_s(key.eui)):
            # before anything is verified or decompressed, whoever it is; only what verifies is counted
            self.tally.hold_back("gateway")
            raise TooFastError(key.eui, wait_s)
        signed_by.append(key)
        return PublicKey.from_text(key.public_key)

    def _receipt(self, state: StreamState) -> Receipt:
        return Receipt(state.stream_id, state.through, state.hash, self._utc_us(), state.beyond)

    def _sign(self, receipt: Receipt) -> bytes:
        self.tally.acknowledge()
        return sign_receipt(receipt, self._signer)

    def _accepted(self, opened: Opened, state: StreamState, repeat: bool, wire: bytes) -> Answer:
        receipt = self._receipt(state)
        data = self._sign(receipt)
        self.tally.accept(frames=opened.header.frame_count, wire_bytes=len(wire), repeat=repeat)
        if not repeat:
            if opened.body.succession:
                # whoever has a gateway's key can do this: somebody should be able to see that it was meant
                _log.warning("event=key_announced gateway=%s kid=%s", opened.header.gateway_eui.hex(), opened.kid.hex())
            self._committed()
        return Answer(data, receipt=receipt, repeat=repeat)

    def _refuse_unopened(self, wire: bytes, reason: Reason, detail: str, sender: str) -> Answer:
        seen = glimpse(wire)
        parked = Parked(wire, reason, detail, sender, seen.batch_hash, seen.stream_id, seen.number)
        return self._refuse(parked, _ALARMS.get(reason), seen.kid.hex())

    def _refuse(self, parked: Parked, alarm: Alarm | None, subject: str) -> Answer:
        now_us = self._utc_us()
        if parked.reason in _KEPT:
            raised = None
            if alarm is not None:
                raised = Raised(alarm, subject, parked.stream_id, parked.number, parked.detail)
            self._ledger.park(parked, raised, now_us)
        refusal = Refusal(parked.stream_id, parked.number, parked.batch_hash, parked.reason, parked.detail, now_us)
        self.tally.refuse(parked.reason, len(parked.wire))
        _log.warning(
            "event=refused reason=%s sender=%s subject=%s stream=%s number=%d detail=%r",
            parked.reason.name,
            parked.sender,
            subject or "-",
            parked.stream_id.hex(),
            parked.number,
            parked.detail,
        )
        return Answer(sign_refusal(refusal, self._signer), refusal=refusal)


def _not_of(opened: Opened, key: RegisteredKey, topic_eui: bytes | None) -> Denied | None:
    """Say why a batch with a good signature is not looked at any further, None if it is."""
    header = opened.header
    if key.eui != header.gateway_eui:
        detail = f"the key is registered for gateway {key.eui.hex()}, the batch is of {header.gateway_eui.hex()}"
        return Denied(Reason.WRONG_GATEWAY, detail, Alarm.WRONG_GATEWAY)
    if topic_eui is not None and topic_eui != header.gateway_eui:
        detail = f"came on the topic of gateway {topic_eui.hex()}, the batch is of {header.gateway_eui.hex()}"
        return Denied(Reason.WRONG_GATEWAY, detail, Alarm.WRONG_GATEWAY)
    if not opened.body.account.balanced:
        detail = "heard is not the sum of bad CRC, filtered, duplicate and spooled"
        return Denied(Reason.UNBALANCED, detail, Alarm.UNBALANCED)
    body = opened.body
    if body.hours and sum((part.account for part in body.hours), Account()) != body.account:
        return Denied(Reason.UNBALANCED, "the account is not the sum of its hours", Alarm.UNBALANCED)
    return None
