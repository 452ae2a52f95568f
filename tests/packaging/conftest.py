# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Packages of the working tree, built once for all tests here."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import deb
import pytest


@dataclass(frozen=True)
class Built:
    """A package, its bill of materials, and what is in it."""

    deb: Path
    bill: Path
    tree: Path
    control: Path


def unpack(package: Path, folder: Path) -> Built:
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder / "raw"], check=True)
    control = (folder / "raw" / "DEBIAN").rename(folder / "control")
    return Built(package, package.with_suffix(".cdx.json"), folder / "raw", control)


@pytest.fixture(scope="session")
def source() -> deb.Source:
    return deb.read_source()


@pytest.fixture(scope="session", params=[package.name for package in deb.PACKAGES])
def built(request: pytest.FixtureRequest, source: deb.Source, tmp_path_factory: pytest.TempPathFactory) -> Built:
    package = next(package for package in deb.PACKAGES if package.name == request.param)
    folder = tmp_path_factory.mktemp("built")
    return unpack(deb.build(package, source, folder), folder)
