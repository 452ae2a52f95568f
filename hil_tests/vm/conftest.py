# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the tests of the virtual machine share. They are run by `--bench vm` alone: each takes minutes.

Tests that share a machine stay together in one process of pytest-xdist: those of a module, on one Debian.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)  # xdist looks at the groups after that
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    others = config.getoption("--bench", default="emulator") != "vm"
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(3600))
            chosen = getattr(getattr(item, "callspec", None), "params", {})
            item.add_marker(pytest.mark.xdist_group("-".join((item.path.stem, *chosen.values()))))
            if others:
                item.add_marker(pytest.mark.skip(reason="needs --bench vm (make hil-vm)"))


@pytest.fixture(scope="module")
def work() -> Iterator[Path]:
    """Return a folder for disks, on a real disk: they are large, and sparse."""
    folder = Path(tempfile.mkdtemp(prefix="civigate-vm-work-", dir="/var/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
