# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The spool: every frame is kept here, durably, from reception until the platform's signed receipt."""
