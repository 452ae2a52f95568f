# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a whole run makes of tests that fail twice, are broken off, or are left out: none is certified as passed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.cli.main import main

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


def run(folder: Path, tests: str, *arguments: str, begin: str = BEGIN) -> Path:
    """Run tests on that bench, and return the folder of the report."""
    (folder / "test_inner.py").write_text(begin + tests)
    return again(folder, folder / "test_inner.py", *arguments)


def again(folder: Path, *arguments: str | Path) -> Path:
    """Run what is in a folder already, or a part of it."""
    report = folder / "report"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "hil_tests.conftest", "-p", "no:cacheprovider", "-q"),
            *("--rootdir", str(folder), "--hil-report", str(report), *map(str, arguments)),
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


@pytest.mark.parametrize(
    ("broken_off", "outcome"),
    [
        ('@hil("H01")\ndef test_h01_first():\n    raise KeyboardInterrupt\n', "NOT RUN"),
        ('@hil("H01")\ndef test_h01_first():\n    pytest.exit("enough")\n', "NOT RUN"),
        ('@hil("H01")\ndef test_h01_first(request):\n    request.addfinalizer(stop)\n', "NOT RUN"),
        ('@hil("H01")\ndef test_h01_first(request):\n    request.addfinalizer(stop)\n    assert False\n', "FAIL"),
    ],
    ids=["in the test", "by the test", "after the test", "after its failure"],
)
def test_a_test_that_is_broken_off_has_not_passed(tmp_path: Path, broken_off: str, outcome: str) -> None:
    stop = "def stop():\n    raise KeyboardInterrupt\n\n"
    done = '@hil("H01")\ndef test_h01_before():\n    pass\n\n'
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    alone.mkdir()
    beside.mkdir()
    report = run(alone, stop + broken_off)
    assert lines(report)["H01"]["outcome"] == outcome
    if outcome == "NOT RUN":
        assert "broken off" in lines(report)["H01"]["reasons"][0]
        assert "broken off" in (report / "report.html").read_text()
        assert lines(run(beside, stop + done + broken_off))["H01"]["outcome"] == "PARTLY"


TWO_PARTS = """
@hil("H14")
def test_h14_hung_agent():
    pass


@hil("H14")
def test_h14_hung_kernel():
    pass


@hil("H18", required=False)
def test_h18_with_gnss():
    pass


@hil("H18")
def test_h18_clock():
    pass


@hil("H19")
@pytest.mark.parametrize("kind", ["full", "slow"])
def test_h19_disk(kind):
    assert kind != "slow"
"""


def test_a_part_that_was_left_out_is_missing_from_its_line(tmp_path: Path) -> None:
    report = run(tmp_path, TWO_PARTS, "-k", "not kernel and not gnss and not slow")
    said = lines(report)
    assert said["H14"]["outcome"] == said["H19"]["outcome"] == "PARTLY"
    assert "left out" in said["H14"]["reasons"][0]
    assert said["H18"]["outcome"] == "PASS", "that part is not required"
    assert "hung kernel" in (report / "report.html").read_text()
    assert 'name="test_h14_hung_kernel"' in (report / "junit.xml").read_text()


def test_what_was_not_named_is_missing_from_its_line(tmp_path: Path) -> None:
    beside = '@hil("H18")\ndef test_h18_elsewhere():\n    pass\n'
    run(tmp_path, TWO_PARTS)
    (tmp_path / "test_other.py").write_text(f"from hil_tests.marks import hil\n\n{beside}")
    inner = tmp_path / "test_inner.py"

    said = lines(again(tmp_path, f"{inner}::test_h14_hung_agent", f"{inner}::test_h19_disk[full]"))
    assert said["H14"]["outcome"] == said["H19"]["outcome"] == "PARTLY"
    assert "left out" in said["H14"]["reasons"][0]
    assert said["H18"]["outcome"] == "NOT RUN"

    said = lines(again(tmp_path, inner))
    assert (said["H14"]["outcome"], said["H18"]["outcome"]) == ("PASS", "PARTLY"), "a part of H18 is in another file"
    assert "left out" in said["H18"]["reasons"][0]

    said = lines(again(tmp_path, tmp_path))
    assert (said["H14"]["outcome"], said["H18"]["outcome"]) == ("PASS", "PASS")


def test_what_a_run_did_not_come_to_is_missing_from_its_line(tmp_path: Path) -> None:
    said = lines(run(tmp_path, TWO_PARTS.replace("    pass", "    assert False", 1), "-x"))
    assert said["H14"]["outcome"] == "FAIL"
    assert said["H18"]["outcome"] == said["H19"]["outcome"] == "NOT RUN"
    assert "broken off" in said["H19"]["reasons"][0]


@pytest.mark.parametrize("simulated", [False, True])
def test_no_private_key_lies_in_the_folder_that_is_handed_out(tmp_path: Path, simulated: bool) -> None:
    begin = BEGIN.replace("simulated=False", f"simulated={simulated}")
    report = run(tmp_path, '@hil("H01")\ndef test_h01_passes():\n    pass\n', begin=begin)
    (file,) = report.glob("*.json")
    assert main(["certificate", "verify", str(file), "--key", str(report / "bench.pub")]) == 0
    files = [path for path in report.rglob("*") if path.is_file()]
    assert [path.name for path in files if b"PRIVATE KEY" in path.read_bytes()] == []
    assert {path.suffix for path in files} == {".html", ".json", ".pub", ".xml"}
