# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The platform side: verify, store, acknowledge, account for every frame of every gateway."""
