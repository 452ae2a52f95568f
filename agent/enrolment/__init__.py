# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How a gateway comes to belong to a platform and stays so: claim codes, proof of possession, certificates, renewal.

`claim` and `message` are shared with the receiver and know nothing of the rest. `docs/enrolment.md` describes the way.
"""
