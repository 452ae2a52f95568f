# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A receiver that kills itself (SIGKILL) at one step of the first enrolment: `python -m ... STEP receiver.toml`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from agent.enrolment import message
from receiver.cli.main import main
from receiver.enrolment.authority import Authority
from receiver.enrolment.store import EnrolmentStore
from receiver.ledger.sqlite import SqliteLedger

STEPS: dict[str, tuple[Any, str, bool]] = {
    "before the code is used up": (EnrolmentStore, "claimed", False),
    "after the code is used up": (EnrolmentStore, "claimed", True),
    "before the key is registered": (SqliteLedger, "add_key", False),
    "after the key is registered": (SqliteLedger, "add_key", True),
    "before the certificate is issued": (Authority, "issue", False),
    "before the certificate is kept": (EnrolmentStore, "keep", False),
    "after the certificate is kept": (EnrolmentStore, "keep", True),
    "before the answer is signed": (message, "sign_answer", False),
    "after the answer is signed": (message, "sign_answer", True),
}


def _deadly(call: Callable[..., Any], after: bool) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if after:
            call(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    return wrapped


if __name__ == "__main__":
    holder, name, after = STEPS[sys.argv[1]]
    setattr(holder, name, _deadly(getattr(holder, name), after))
    sys.exit(main(["serve", "-c", sys.argv[2]]))
