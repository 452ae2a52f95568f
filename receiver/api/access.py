# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Who may read: the bearer token, and where it is kept."""

from __future__ import annotations

import hmac
from pathlib import Path

from fastapi import Request
from fastapi.responses import JSONResponse

from receiver.errors import ServiceError

MIN_TOKEN_CHARACTERS = 16
MAX_TOKEN_CHARACTERS = 512


def read_token(path: Path) -> str:
    """Read the token that readers must present.

    Raises:
        ServiceError: CG-SRV-004, the file cannot be read or holds no fit token.
    """
    try:
        with path.open(encoding="ascii") as file:
            token = file.readline(MAX_TOKEN_CHARACTERS + 2).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII"
        hint = "write a random token into it, for instance with: openssl rand -hex 32"
        raise ServiceError(f"cannot be read: {reason}", where=str(path), hint=hint, code="CG-SRV-004") from error
    if not MIN_TOKEN_CHARACTERS <= len(token) <= MAX_TOKEN_CHARACTERS or " " in token:
        what = f"a token has {MIN_TOKEN_CHARACTERS} to {MAX_TOKEN_CHARACTERS} characters without spaces"
        hint = "write a random one into it, for instance with: openssl rand -hex 32"
        raise ServiceError(what, where=str(path), hint=hint, code="CG-SRV-004")
    return token


def refusal(request: Request, token: str | None) -> JSONResponse | None:
    """Return what to answer to who does not present the token; None to who does, or where there is none."""
    given = request.headers.get("authorization", "")
    if token is None or hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        return None
    return JSONResponse({"detail": "bearer token required"}, 401, {"www-authenticate": "Bearer"})
