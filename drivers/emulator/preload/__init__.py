# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Any program on the virtual concentrator: /dev/spidev*, /dev/i2c-* and /dev/gpiochip* served by a preloaded library.

The library is a C file of ours (`devices.c`), built with the system's compiler when it is first needed and kept in the
user's cache. What it does not serve is written at its top.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Final

from drivers.errors import BusError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SOURCE: Final = files(__package__) / "devices.c"
_FLAGS: Final = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared")
_LIBRARIES: Final = ("-ldl", "-lpthread")
_COMPILE_TIMEOUT_S: Final = 120
_HINT: Final = "install a C compiler and the headers of the C library: apt install gcc libc6-dev"

SOCKET_VARIABLE: Final = "CIVIGATE_EMULATOR"
"""Tells the library where the emulator's bus is."""


def library(cache: Path | None = None, compiler: str | None = None) -> Path:
    """Return the path of the built library; build it when it is missing or the source has changed.

    Args:
        cache: folder to keep it in; the user's cache unless given.
        compiler: name or path; that of $CC, else cc.

    Raises:
        BusError: there is no compiler, or it fails.
    """
    source = _SOURCE.read_bytes()
    compiler = compiler or os.environ.get("CC") or "cc"
    found = shutil.which(compiler)
    if found is None:
        raise _error(f"there is no C compiler {compiler!r}")
    machine = subprocess.run([found, "-dumpmachine"], capture_output=True, check=False, timeout=_COMPILE_TIMEOUT_S)
    key = hashlib.sha256(source + machine.stdout + " ".join(_FLAGS).encode()).hexdigest()[:16]
    folder = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "civigate"
    path = folder / f"devices-{key}.so"
    if not path.exists():
        _build(found, path)
    return path


def environment(spi_socket: Path, library_path: Path, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment in which a program finds the virtual devices."""
    preload = " ".join(filter(None, (str(library_path), base.get("LD_PRELOAD"))))
    return {**base, "LD_PRELOAD": preload, SOCKET_VARIABLE: str(spi_socket.absolute())}


def _build(compiler: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A second process may be building at the same time: each builds its own, and renaming is atomic.
        with as_file(_SOURCE) as source, NamedTemporaryFile(dir=path.parent, suffix=".so", delete=False) as output:
            built = Path(output.name)
            command = [compiler, *_FLAGS, "-o", output.name, str(source), *_LIBRARIES]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_COMPILE_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _error(str(error)) from error
    if done.returncode != 0:
        built.unlink(missing_ok=True)
        first = next(iter(done.stderr.splitlines()), f"exit status {done.returncode}")
        raise _error(f"the compiler says: {first}")
    built.rename(path)


def _error(what: str) -> BusError:
    return BusError(what, op="build", where="library for virtual devices", hint=_HINT, code="CG-EMU-005")
