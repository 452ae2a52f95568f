# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Arbitrary bytes into every reader: at random, and guided by coverage where atheris is to be had."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.agent.batch.readers import READERS, SEEDS, within_bounds

RUNS = 10_000


@st.composite
def altered(draw: st.DrawFn) -> bytes:
    """Draw a good message with some bytes replaced, taken out, put in, or repeated."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8)))
        data[start:end] = bytes(data[start:end]) * 3 if draw(st.booleans()) else draw(st.binary(max_size=8))
    return bytes(data)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60)
@given(data=st.binary(max_size=300) | altered())
def test_a_reader_takes_any_bytes(name: str, data: bytes) -> None:
    READERS[name](data)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=15)
@given(data=altered())
def test_a_reader_takes_memory_within_bounds(name: str, data: bytes) -> None:
    within_bounds(READERS[name], data)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "start", ["9b00000fffffffffff", "bb00000fffffffffff", "5b00000fffffffffff", "9a00200000", "81" * 20]
)
def test_a_length_that_is_a_lie_takes_no_memory(name: str, start: str) -> None:
    within_bounds(READERS[name], bytes.fromhex(start) + bytes(2000))


def test_readers_hold_against_a_guided_search(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: no wheel for this Python or machine; the tests above have run")
    options = [f"-runs={RUNS}", "-seed=1", "-max_len=4096", f"-artifact_prefix={tmp_path}/", "-max_total_time=60"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.agent.batch.fuzz", "all", *options],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=110,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    runs = re.search(r"Done (\d+) runs", done.stderr)
    assert runs is not None
    assert int(runs[1]) > 100, "the search came to nothing"
