# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Canonical JSON, with Node.js as the judge: what RFC 8785 asks for is what ECMAScript does."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import struct
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import canonical

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 53), 1 << 53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)
JUDGE = """
const sorted = (v) => Array.isArray(v) ? '[' + v.map(sorted).join(',') + ']'
  : v !== null && typeof v === 'object'
    ? '{' + Object.keys(v).sort().map((k) => JSON.stringify(k) + ':' + sorted(v[k])).join(',') + '}'
    : JSON.stringify(v);
const lines = require('fs').readFileSync(0, 'utf8').split('\\n').filter((l) => l);
for (const line of lines) console.log(sorted(JSON.parse(line)));
"""
# Bits of a double and its text, from RFC 8785 appendix B.
VECTORS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize(("bits", "text"), VECTORS.items())
def test_numbers_are_those_of_the_standard(bits: str, text: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical.number(value) == text


def test_node_writes_the_same() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    samples: list[Any] = []

    @given(st.lists(VALUES, max_size=5))
    def gather(values: list[Any]) -> None:
        samples.extend(values)

    gather()
    samples.append({"€": 1, "\r": 2, "דּ": 3, "1": 4, "😀": 5, "\u0080": 6, "ö": 7})
    given_lines = "".join(json.dumps(value) + "\n" for value in samples)
    done = subprocess.run(
        [node, "-e", JUDGE], input=given_lines, capture_output=True, text=True, timeout=60, check=True
    )
    theirs = done.stdout.split("\n")[:-1]
    assert [canonical.encode(value).decode() for value in samples] == theirs


@given(VALUES)
def test_what_is_written_reads_back(value: object) -> None:
    assert canonical.encode(canonical.decode(canonical.encode(value))) == canonical.encode(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, (1 << 53) + 1, 1 << 2000, {1: 2}, b"", {"a": {1}}, "\ud800"])
def test_what_json_has_no_form_for_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"[a-z]"):
        canonical.encode(value)


@pytest.mark.parametrize(
    "data", [b'{"a":1,"a":2}', b"NaN", b"[Infinity]", b"\xff", b"", b"[" * 100_000, b"{} {}", b"[1,]"]
)
def test_what_has_no_single_meaning_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"[a-z]"):
        canonical.decode(data)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_end_in_no_other_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        canonical.decode(data)
