# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The way to the platform: transports, and the sender that brings every sealed batch over one of them, exactly once."""
