# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Fuzz the readers, guided by coverage: `python -m tests.agent.batch.fuzz READER [libFuzzer's options] [corpus]`.

READER is a name in `tests.agent.batch.readers`, or "all": then the first byte of an input chooses. `make fuzz` runs
each for a minute. An input that breaks a reader is kept where it was started (crash-...); it belongs into a test.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["agent", "receiver"]):
    from tests.agent.batch.readers import READERS, SEEDS


def _any(data: bytes) -> None:
    if data:
        list(READERS.values())[data[0] % len(READERS)](data[1:])


def main() -> None:
    """Run one reader until libFuzzer's limits, or until it breaks."""
    name, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        choices = [bytes([choice]) for choice in range(len(READERS))] if name == "all" else [b""]
        for number, seed in enumerate(choice + seed for choice in choices for seed in SEEDS):
            (Path(folder) / str(number)).write_bytes(seed)
        atheris.Setup(
            [sys.argv[0], "-rss_limit_mb=512", "-timeout=30", *options, folder],
            _any if name == "all" else READERS[name],
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
