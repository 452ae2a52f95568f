# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Kinds of values that the configurations of gateway and receiver have in common."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


def parse_name(text: str) -> str:
    """Read the name of a destination: 1 to 32 of a-z, 0-9 and -.

    Raises:
        ValueError: it is none.
    """
    if not _NAME.fullmatch(text):
        raise ValueError("other characters or too long")
    return text


def parse_url(text: str, schemes: Collection[str]) -> str:
    """Read SCHEME://HOST[:PORT], for https also with a path.

    Raises:
        ValueError: it is none, of another scheme, or has a user, a query or a fragment.
    """
    url = urlsplit(text)
    if url.scheme not in schemes:
        raise ValueError(f'unknown scheme "{url.scheme}"')
    if url.username is not None or url.password is not None:
        raise ValueError("user and password do not belong into it")
    if not url.hostname or any(char <= " " for char in text):
        raise ValueError("no host")
    if url.query or url.fragment or (url.scheme != "https" and url.path not in ("", "/")):
        raise ValueError("more than host, port and, for https, a path")
    _ = url.port  # says no by itself beyond 65535
    return text
