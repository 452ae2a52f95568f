# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the receiver raises; the shape is that of `agent.errors`: place, cause, next step, stable code."""

from __future__ import annotations

from agent.errors import AgentError


class ReceiverError(AgentError):
    """Something the platform side cannot do."""


class LedgerError(ReceiverError, OSError):
    """The ledger cannot be opened, written or trusted."""


class RegistryError(ReceiverError, ValueError):
    """A gateway, key or state that the registry does not allow."""


class ServiceError(ReceiverError, OSError):
    """A listener, certificate or broker that cannot be used."""


class CertificateError(ReceiverError, ValueError):
    """A certificate authority that cannot be used, or a certificate that it does not grant."""


class ExportError(ReceiverError, OSError):
    """A file that cannot be exported into."""


class EvidenceError(ReceiverError, ValueError):
    """Batches or stored rows that do not prove what they should."""

    exit_code = 4
