# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The on-device agent: reception, spool, signed batches, uplink, and its command line."""
