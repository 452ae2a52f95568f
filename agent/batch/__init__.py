# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The contract with the platform: signed, chained batches and signed receipts.

Importable without any hardware package; the receiver shares exactly this. `docs/batch-format.md` is the specification.
"""
