# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Which key signs the next batch of a stream, while the gateway changes its key.

Stream by stream: the old key announces the new one in a batch and goes on until the platform has acknowledged that
batch; from then on the new one signs. All that decides lies in the spool, so a crash between any two steps changes
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.batch.keys import Signer
from agent.spool.state import State, Stream


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of the gateway.

    Attributes:
        current: the newest one.
        previous: the one before it, while batches may still have to be signed with it; None otherwise.
    """

    current: Signer
    previous: Signer | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Who signs the next batch, and whom it announces (None for nobody)."""

    signer: Signer
    successor: Signer | None = None


def choose(stream: Stream, keys: Keys) -> Choice:
    """Choose the key of a stream's next batch.

    A new stream begins with the old key, as long as there is one: that is what a platform knows for certain. One whose
    last batch was signed with a key that is not here any more takes the newest: nobody can announce that, so somebody
    has to register it at the platform.

    Raises:
        IdentityError: a key cannot be asked who it is.
    """
    current, previous = keys.current, keys.previous
    if previous is None or previous.kid == current.kid:
        return Choice(current)
    new = stream.next_number == 1 and not stream.signed_by
    if not new and stream.signed_by != previous.kid:
        return Choice(current)
    if stream.successor != current.kid:
        return Choice(previous, current)
    return Choice(current if stream.through >= stream.announced else previous)


def note(stream: Stream, number: int, choice: Choice) -> None:
    """Remember who signed a batch, and whom it announces."""
    if stream.signed_by != choice.signer.kid:
        stream.signed_by, stream.signed_from = choice.signer.kid, number
    if choice.successor is not None:
        stream.successor, stream.announced = choice.successor.kid, number


def inherit(new: Stream, old: Stream) -> None:
    """Let a stream that replaces another begin with what the platform knows of the keys."""
    new.signed_by = old.signed_by
    if old.announced and old.through >= old.announced:
        new.successor = old.successor


def forget_announcement(stream: Stream, number: int) -> None:
    """Announce again what a batch has announced that never travels."""
    if stream.announced == number:
        stream.successor, stream.announced = b"", 0


def waiting_for(state: State, kid: bytes) -> list[str]:
    """Return the destinations that have not acknowledged a batch signed with a key yet."""
    return [
        stream.destination
        for stream in state.open_streams()
        if stream.signed_by != kid or stream.through < stream.signed_from
    ]
