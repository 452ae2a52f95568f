# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate-receiver` that answers falsely while a file says so. A program.

    python -m hil_tests.bench.lying_receiver FILE serve -c receiver.toml

The file holds one of `roles.LIES`, or nothing for the truth; it is read at each batch. FILE.told counts the lies. Only
what goes back to the gateway is false: the ledger takes what it is given, as it always does.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import receiver.service
from agent.batch.receipt import sign_receipt
from receiver.cli.main import main
from receiver.intake import Answer, Intake

FILE: Final = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
SILENCE_S: Final = 60.0
"""Longer than a gateway waits for an answer (`answer_timeout_s`, 20 s unless configured), or it would get one."""


class LyingIntake(Intake):
    """An intake with a loose tongue."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]
        self._first: dict[bytes, Answer] = {}
        self._last: dict[bytes, Answer] = {}

    def submit(self, wire: bytes, *, sender: str, topic_eui: bytes | None = None) -> Answer:
        """Take a batch, and answer as told."""
        if _lie() == "nothing":
            _count()
            deadline = time.monotonic() + SILENCE_S
            while _lie() == "nothing" and time.monotonic() < deadline:
                time.sleep(0.05)
        answer = super().submit(wire, sender=sender, topic_eui=topic_eui)
        if answer.receipt is None:
            return answer
        stream = answer.receipt.stream_id
        before = self._last.get(stream, answer)
        self._last[stream] = answer
        first = self._first.setdefault(stream, answer)
        match _lie():
            case "wrong digest":
                _count()
                wrong = bytes(byte ^ 0xFF for byte in answer.receipt.hash)
                receipt = replace(answer.receipt, hash=wrong)
                return Answer(sign_receipt(receipt, self._signer), receipt=receipt)
            case "old acknowledgement":
                _count()
                return first
            case "duplicate acknowledgement":
                _count()
                return before
            case _:
                return answer


def _lie() -> str:
    return FILE.read_text() if FILE.exists() else ""


def _count() -> None:
    told = FILE.with_suffix(".told")
    told.write_text(str(int(told.read_text() if told.exists() else "0") + 1))


if __name__ == "__main__":
    receiver.service.Intake = LyingIntake  # type: ignore[attr-defined]  # the seam of this bench
    sys.argv = ["civigate-receiver", *sys.argv[2:]]
    sys.exit(main())
