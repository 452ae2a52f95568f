# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The ledger: who may deliver, what was delivered, what was refused; committed before it is acknowledged."""
