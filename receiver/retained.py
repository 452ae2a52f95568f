# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Receipts that stay at a broker, where several receivers leave them: the last one there must not say less.

Two receivers commit two batches of one stream, one after the other; their receipts reach the broker in any order, and
the older one may stay. So each receiver looks at the ledger again once the broker has its receipt, and when that says
less by now, it leaves a new one. Whichever receipt is the last to arrive was looked at after it had arrived: what stays
is the ledger's state. In between, and after a receiver that was killed in between, an older one costs a gateway that
connects just then the repetition of a batch, never a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from agent.batch.model import Receipt
from receiver.intake import Answer


class Delivery(Protocol):
    """A message on its way to the broker."""

    def is_published(self) -> bool:
        """Tell whether the broker has it; raises ValueError or RuntimeError when it did not go out at once."""
        ...


class RetainedReceipts:
    """The receipts that one receiver has left and not yet looked after. For one thread.

    Args:
        newer: gives what is to be said beyond a receipt, None when it says everything.
        publish: leaves an answer on the topic of a gateway.
    """

    def __init__(self, newer: Callable[[Receipt], Answer | None], publish: Callable[[bytes, bytes], Delivery]) -> None:
        self._newer = newer
        self._publish = publish
        self._left: dict[tuple[bytes, bytes], tuple[Receipt, Delivery]] = {}

    def __bool__(self) -> bool:
        return bool(self._left)

    def leave(self, eui: bytes, receipt: Receipt, data: bytes) -> None:
        """Publish a receipt, and remember to look after it."""
        self._left[eui, receipt.stream_id] = (receipt, self._publish(eui, data))

    def look_after(self) -> None:
        """Look after those that the broker has.

        Raises:
            LedgerError: the ledger cannot be read; nothing is forgotten.
        """
        for (eui, stream_id), (receipt, delivery) in list(self._left.items()):
            if not _arrived(delivery):
                continue
            answer = self._newer(receipt)
            del self._left[eui, stream_id]
            if answer is not None and answer.receipt is not None:
                self.leave(eui, answer.receipt, answer.data)


def _arrived(delivery: Delivery) -> bool:
    try:
        return delivery.is_published()
    except (ValueError, RuntimeError):
        # there was no connection: nobody says when it goes out, so what is to be said is said anew
        return True
