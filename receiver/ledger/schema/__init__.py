# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The versions of the ledger's schema, one folder of scripts per engine.

A script NNNN_name.sql leads from the version before to version NNNN; there is one for each engine, and after it both
have the same tables, columns and views. What is there is never changed, only added to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources

SCHEMA_VERSION = 5


def scripts(engine: str, version: int) -> Iterator[tuple[int, str]]:
    """Give the scripts ("sqlite" or "postgres") that lead on from a version, 0 for an empty database."""
    for entry in sorted(resources.files(__name__).joinpath(engine).iterdir(), key=lambda entry: entry.name):
        match = re.fullmatch(r"(\d{4})_\w+\.sql", entry.name)
        if match is not None and int(match[1]) > version:
            yield int(match[1]), entry.read_text(encoding="utf-8")
