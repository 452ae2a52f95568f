# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# A machine that is busy, or a small Pi, is slow now and then: that is no finding.
settings.register_profile("civigate", deadline=None)
settings.load_profile("civigate")
