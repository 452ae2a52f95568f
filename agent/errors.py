# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the agent raises; the shape is that of `drivers.errors`: operation, place, cause, next step, stable code."""

from __future__ import annotations


class AgentError(Exception):
    """Something the agent cannot do.

    Args:
        what: what went wrong, one clause, with the value that was found.
        where: the thing it concerns: a file, a key, a batch, a host.
        hint: one sentence for the person who reads it: what to do next.
        code: stable identifier, e.g. "CG-CFG-001".
        retryable: whether the same call may succeed later without anybody doing anything.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str, hint: str, code: str, retryable: bool = False) -> None:
        super().__init__(f"{where}: {what}")
        self.what = what
        self.where = where
        self.hint = hint
        self.code = code
        self.retryable = retryable


class ForbiddenError(AgentError):
    """Something of the service's that this user may not touch."""

    def __init__(self, where: str, code: str) -> None:
        hint = "use sudo, or join the service's group: sudo adduser $USER civigate, and log in anew"
        super().__init__("this user may not", where=where, hint=hint, code=code)


class ConfigError(AgentError, ValueError):
    """A configuration file that cannot be used."""

    exit_code = 2


class SpoolError(AgentError, OSError):
    """The spool cannot be opened, written or trusted."""


class UplinkError(AgentError, ConnectionError):
    """The platform cannot be reached or did not answer as agreed."""


class IdentityError(AgentError, ValueError):
    """A key or certificate is missing, unreadable or not what it should be."""


class BatchError(AgentError, ValueError):
    """Bytes that are not a valid batch, receipt or refusal."""

    exit_code = 4
