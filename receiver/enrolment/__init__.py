# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How gateways come to belong to this platform: claim codes, approvals, certificates, renewals, revocations."""
