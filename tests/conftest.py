# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What holds for all tests."""

from __future__ import annotations

import signal

from hypothesis import settings

# What is started in the background of a shell inherits an ignored SIGINT, and would pass it on to what is interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that is busy, or a small Pi, is slow now and then: that is no finding.
settings.register_profile("civigate", deadline=None)
settings.load_profile("civigate")
