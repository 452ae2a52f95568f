# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The spool as a sender sees it: the batches of one destination, and where answers about them go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from agent.batch.model import Anchor, Receipt, Refusal
from agent.errors import AgentError, SpoolError
from agent.spool.reader import DamagedBatchError, SpoolReader, StreamHead
from agent.spool.salvage import DAMAGED
from agent.spool.writer import SpoolWriter
from agent.uplink.port import Outgoing, UnreadableBatchError


class StreamSource:
    """Sealed batches of one stream (`agent.uplink.port.Source`). For one thread."""

    def __init__(self, reader: SpoolReader, destination: str) -> None:
        self._reader = reader
        self._ahead: Outgoing | None = None
        self._stream_id = reader.head_to_send(destination).stream_id

    @property
    def stream_id(self) -> bytes:
        """The stream, 16 bytes."""
        return self._stream_id

    def through(self) -> int:
        """Return the batch number up to which everything is acknowledged, 0 for nothing."""
        return self._head().through

    def newest(self) -> int:
        """Return the number of the batch sealed last, 0 for none."""
        return self._head().newest

    def load(self, number: int) -> Outgoing | None:
        """Return a batch, or None when it no longer waits.

        Raises:
            UnreadableBatchError: its rows are damaged; it can never be sent again.
            SpoolError: the spool cannot be read at present, or the stream was replaced.
        """
        head = self._head()
        sealed = self._reader.batch(head, number)
        if sealed is None:
            return None
        try:
            ahead, self._ahead = self._ahead, None
            if ahead is not None and ahead.header_hash == sealed.hash:
                return ahead
            return Outgoing(number, sealed.hash, self._reader.wire(sealed))
        except DamagedBatchError as error:
            if self._reader.batch(head, number) is None:
                return None  # freed while it was being read
            raise UnreadableBatchError(error.what, where=error.where, hint=error.hint, code=error.code) from error

    def prepare(self, number: int) -> None:
        """Read a batch that is likely to be asked for next. Whatever is wrong with it, `load` tells."""
        with suppress(AgentError):
            self._ahead = self.load(number)

    def hash_of(self, number: int) -> bytes | None:
        """Return the SHA-256 of a batch's signed header, None where the spool no longer has it."""
        return self._reader.hash_of(self._reader.head_of(self._stream_id), number)

    def _head(self) -> StreamHead:
        if self._reader.replaced:
            raise SpoolError(
                "another file has taken its place",
                where=str(self._reader.path),
                hint="nothing to do: the agent goes on with the new one",
                code="CG-SPL-014",
                retryable=True,
            )
        head = self._reader.head_of(self._stream_id)
        if self._reader.over(head):
            raise SpoolError(
                "a new stream has replaced this one",
                where=f"stream {self._stream_id.hex()}",
                hint="nothing to do: the agent goes on with the new stream",
                code="CG-SPL-014",
                retryable=True,
            )
        return head


class Outlet:
    """A destination's way out of the spool: where its sender reads, where answers go (`agent.uplink.port.Sink`).

    Args:
        writer: of the spool.
        destination: its name.
        on_anchor: is told the anchors that receipts give, too.
    """

    def __init__(
        self, writer: SpoolWriter, destination: str, on_anchor: Callable[[Anchor], None] = lambda _: None
    ) -> None:
        self._writer = writer
        self._on_anchor = on_anchor
        self._destination = destination
        self._stream_id = b""

    @contextmanager
    def open(self) -> Iterator[StreamSource]:
        """Open the destination's present stream, for the calling thread.

        Raises:
            SpoolError: the spool cannot be read.
        """
        try:
            with self._writer.reader() as reader:
                source = StreamSource(reader, self._destination)
                self._stream_id = source.stream_id
                yield source
        except SpoolError as error:
            if error.code == DAMAGED:
                self._writer.audit()  # which finds the same, and has the file salvaged
            raise

    def reached(self, *, up: bool) -> None:
        """Note whether the platform can be reached."""
        self._writer.reached(self._destination, up=up)

    def receipt(self, receipt: Receipt) -> None:
        """Free what a verified receipt covers."""
        self._writer.receipt(receipt)

    def refusal(self, number: int, refusal: Refusal) -> None:
        """Park a batch that the platform refused, or hold its stream, as the reason demands."""
        self._writer.refusal(self._stream_id, number, refusal)

    def unreadable(self, number: int, error: AgentError) -> None:
        """Withdraw a batch that cannot be rebuilt."""
        del error  # the writer looks at the rows itself
        self._writer.unreadable(self._stream_id, number)

    def contradicted(self, newest: int) -> None:
        """Begin a new stream: the platform has another history of this one, up to a batch number."""
        self._writer.contradicted(self._stream_id, newest)

    def anchor(self, anchor: Anchor) -> None:
        """Keep a clock anchor that a receipt gave."""
        self._on_anchor(anchor)
        self._writer.anchor(anchor)
