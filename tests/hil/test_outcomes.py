# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a whole run makes of tests that fail more than once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 150

BEGIN = """
import pytest

from hil_tests.bench.model import Bench
from hil_tests.bench.roles import BenchError
from hil_tests.marks import hil
from hil_tests.report.plugin import BENCH


@pytest.fixture(scope="session", autouse=True)
def bench(pytestconfig):
    opened = Bench("lab", simulated=False)
    pytestconfig.stash[BENCH] = opened
    return opened


@pytest.fixture
def unplugged():
    yield
    raise BenchError("does not answer", role="node", hint="plug it in")


@pytest.fixture
def loose():
    yield
    assert False, "the board is gone"

"""
"""A bench of hardware without any role, and fixtures whose end goes wrong."""


def run(folder: Path, tests: str, *arguments: str) -> Path:
    """Run tests on that bench, and return the folder of the report."""
    (folder / "test_inner.py").write_text(BEGIN + tests)
    report = folder / "report"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "hil_tests.conftest", "-p", "no:cacheprovider", "-q"),
            *(str(folder / "test_inner.py"), "--rootdir", str(folder), "--hil-report", str(report), *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        cwd=ROOT,
    )
    assert (report / "report.html").exists(), done.stdout + done.stderr
    return report


def lines(report: Path) -> dict[str, Any]:
    """Return the lines of the certificate by their number."""
    (file,) = report.glob("*.json")
    return {one["id"]: one for one in json.loads(file.read_text())["certificate"]["tests"]}


def test_a_failure_of_the_board_is_not_the_benchs_because_that_fails_later(tmp_path: Path) -> None:
    report = run(
        tmp_path,
        """
@hil("H01")
def test_h01_fails(unplugged):
    assert False, "wrong chip version"


@hil("H02")
def test_h02_is_not_asked(loose):
    raise BenchError("is not plugged in", role="node", hint="plug it in")


@hil("H03")
def test_h03_is_left_by_the_bench(unplugged):
    pass
""",
    )
    said = lines(report)
    assert said["H01"]["outcome"] == "FAIL"
    assert "wrong chip version" in said["H01"]["reasons"][0]
    assert said["H02"]["outcome"] == "ERROR"
    assert "is not plugged in" in said["H02"]["reasons"][0]
    assert said["H03"]["outcome"] == "ERROR"
