# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Benches by name: which there are, and how one is opened for a run."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

from hil_tests.bench.lock import held
from hil_tests.bench.model import Bench, Run, with_log
from hil_tests.bench.roles import BenchError

KNOWN: Final = {
    "emulator": "hil_tests.bench.emulator",
    "vm": "hil_tests.vm.bench",
    "local-pi": "hil_tests.bench.local",
}
"""Modules with a context manager `bench(run)`; a name that ends with .toml is a bench file, opened by `bench.rig`."""

SHARED: Final = frozenset({"emulator", "vm"})
"""Benches that each run makes for itself: nobody else has them, and nothing needs to be locked."""


@contextmanager
def open_bench(
    name: str, *, seed: int = 1, options: Mapping[str, str] | None = None, wanted: Iterable[str] = ()
) -> Iterator[Bench]:
    """Open a bench, alone.

    Args:
        name: one of `KNOWN`, or a path to a .toml file.
        seed: of the run.
        options: see `Run`.
        wanted: likewise.

    Raises:
        BenchError: there is no such bench, somebody else has it, or it cannot be opened.
        ProfileError: its file cannot be used as it is written.
    """
    path = Path(name) if name.endswith(".toml") else None
    if path is None and name not in KNOWN:
        raise BenchError("no such bench", role=name, hint=f"use one of {', '.join(KNOWN)}, or a bench file FILE.toml")
    module = importlib.import_module("hil_tests.bench.rig" if path else KNOWN[name])
    lock = nullcontext() if name in SHARED else held(str(path.resolve()) if path else name)
    with lock, tempfile.TemporaryDirectory(prefix="cg-hil-") as folder:
        run = Run(Path(folder), seed, dict(options or {}) | ({"file": str(path)} if path else {}), frozenset(wanted))
        with module.bench(run) as opened:
            yield with_log(opened, seed=seed, file=path.read_bytes() if path else None)
