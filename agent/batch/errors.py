# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What readers of batches, receipts and refusals raise: one class for each reason that a platform can give back."""

from __future__ import annotations

from typing import ClassVar

from agent.batch.model import Reason
from agent.errors import BatchError


class RefusedError(BatchError):
    """Bytes from outside that are not accepted.

    Attributes:
        reason: what a platform writes into its refusal.
    """

    reason: ClassVar[Reason] = Reason.MALFORMED
    default_hint: ClassVar[str] = "the bytes were damaged on the way or come from another program; send them again"

    def __init__(self, what: str, *, where: str, code: str, hint: str | None = None) -> None:
        super().__init__(what, where=where, hint=hint or self.default_hint, code=code)


class MalformedError(RefusedError):
    """The bytes are not of this format."""


class UnknownKeyError(RefusedError):
    """Nobody is registered with the key that is said to have signed."""

    reason = Reason.UNKNOWN_KEY
    default_hint = "register the key, then send the batch again"


class RevokedKeyError(RefusedError):
    """The key that signed was revoked. Raised by resolvers of keys, passed on by the readers."""

    reason = Reason.REVOKED_KEY
    default_hint = "the gateway needs a new key; its batches stay in quarantine until somebody decides"


class BadSignatureError(RefusedError):
    """The signature does not fit content and key."""

    reason = Reason.BAD_SIGNATURE


class BodyMismatchError(RefusedError):
    """The body is not the one that was signed."""

    reason = Reason.BODY_MISMATCH
    default_hint = "the body was damaged on the way or in the spool; send the batch again"


class UnsupportedVersionError(RefusedError):
    """A version of the format that this program does not read."""

    reason = Reason.UNSUPPORTED_VERSION
    default_hint = "update the side that is older"


class UnwritableError(BatchError):
    """A value that the format has no place for, found before anything was signed."""

    def __init__(self, what: str, *, where: str) -> None:
        super().__init__(
            what,
            where=where,
            hint="this is a fault in the program that made the value; report it",
            code="CG-BAT-020",
        )
