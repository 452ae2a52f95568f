# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Chips, off and running."""

from __future__ import annotations

import pytest

from tests.drivers.emulator.bench import Bench


@pytest.fixture
def bench() -> Bench:
    """A chip after power-up."""
    return Bench()


@pytest.fixture
def receiving() -> Bench:
    """A chip that receives."""
    return Bench().start()
