# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The ledger: registry, streams, batches, frames, clock anchors, quarantine and alarms, committed before acknowledged."""
