# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Which errors are waited for, and what is said of them: those of a card, and not those of a setting."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from agent.errors import AgentError, SpoolError
from agent.provisioning import card
from agent.spool import store


def caused(cause: BaseException, where: str = "/var/lib/civigate/gateway.key") -> AgentError:
    error = AgentError("cannot be written", where=where, hint="give the file to civigate", code="CG-XYZ-001")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("number", [28, 30, 5, 122])
def test_a_full_or_worn_card_is_waited_for(number: int) -> None:
    for error in (OSError(number, "it fails"), caused(OSError(number, "it fails"))):
        assert card.refuses(error)
        assert card.next_step(error) == card.NEXT_STEP


def test_where_a_permission_lacks_room_is_no_cure() -> None:
    error = caused(PermissionError(13, "Permission denied"))
    assert card.refuses(error), "somebody may give it"
    assert card.next_step(error) == "give the file to civigate"


def test_a_spool_that_is_a_folder_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(SpoolError) as caught:
        store.open_writer(tmp_path, 1 << 20)
    assert isinstance(caught.value.__cause__, sqlite3.Error)
    assert not card.refuses(caught.value)
