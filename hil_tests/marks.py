# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a test says of itself: its number in the list, the roles it needs, the state it begins in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from hil_tests.bench.roles import ROLES
from hil_tests.bench.strategy import State

F = TypeVar("F", bound=Callable[..., object])


def hil(number: str, *, required: bool = True) -> Callable[[F], F]:
    """Say which test of the list it belongs to.

    Args:
        number: in `catalogue`, like "H01".
        required: whether that test is incomplete when this part of it is skipped.
    """
    return pytest.mark.hil(number, required=required)


def needs(*roles: str) -> Callable[[F], F]:
    """Say which roles the bench must fill; without one of them the test is skipped, and says which."""
    unknown = set(roles) - set(ROLES)
    if unknown:
        raise ValueError(f"roles {sorted(unknown)}: a bench has {', '.join(ROLES)}")
    return pytest.mark.needs(*roles)


def begins(state: State) -> Callable[[F], F]:
    """Say in which state the gateway under test must be when it begins."""
    return pytest.mark.begins(state)
