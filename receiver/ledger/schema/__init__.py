# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The versions of the ledger's schema, one folder of scripts per engine.

A script NNNN_name.sql leads from the version before to version NNNN; there is one for each engine, and after it both
have the same tables, columns and views. What is there is never changed, only added to.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from importlib import resources

SCHEMA_VERSION = 5


def scripts(engine: str, version: int) -> Iterator[tuple[int, str]]:
    """Give the scripts ("sqlite" or "postgres") that lead on from a version, 0 for an empty database."""
    return (script for script in load(engine) if script[0] > version)


@functools.cache
def load(engine: str) -> tuple[tuple[int, str], ...]:
    """Read all scripts; who becomes another user may not get at the program's own files any more."""
    entries = sorted(resources.files(__name__).joinpath(engine).iterdir(), key=lambda entry: entry.name)
    matches = [(entry, re.fullmatch(r"(\d{4})_\w+\.sql", entry.name)) for entry in entries]
    return tuple((int(match[1]), entry.read_text(encoding="utf-8")) for entry, match in matches if match is not None)
