# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Verify what the platform answers, and draw from it what else it proves: the time, and that a certificate works."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent.batch.keys import PublicKey, ring
from agent.batch.model import Receipt, Refusal
from agent.batch.receipt import open_answer
from agent.errors import IdentityError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.enrolment.sets import CertificateSets
    from agent.trusted_time import TrustedTime

logger = logging.getLogger(__name__)


class Verifier:
    """Opens the signed answers of one platform.

    Args:
        keys: the platform's.
        time: that a signed answer narrows.
        sets: whose set in use a receipt confirms.
    """

    def __init__(self, keys: Sequence[PublicKey], time: TrustedTime, sets: CertificateSets) -> None:
        self._resolve = ring(*keys)
        self._time = time
        self._sets = sets
        self._said = False

    def __call__(self, data: bytes) -> Receipt | Refusal:
        """Verify an answer.

        Raises:
            BatchError: it is none, or not the platform's.
        """
        signed = open_answer(data, self._resolve)
        self._time.signed(signed.utc_us)
        if isinstance(signed, Receipt) and self._sets.using:
            self._confirm(self._sets.using)
        return signed

    def _confirm(self, name: str) -> None:
        """Note that a certificate set works. A card that is full must not keep a receipt from making room on it."""
        try:
            self._sets.carried(name)
        except IdentityError as error:
            level = logging.DEBUG if self._said else logging.WARNING
            self._said = True
            logger.log(level, "event=certificate_not_noted problem=%s; %s [%s]", error, error.hint, error.code)
