# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import strictjson

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def forbidden(name: str) -> None:
    raise ValueError(name)


@given(JSON)
def test_what_is_written_every_reader_can_read(said: Any) -> None:
    text = strictjson.dumps(said)
    assert text.isascii()
    plain = json.loads(text, parse_constant=forbidden)
    assert strictjson.loads(json.dumps(said)) == plain
    assert strictjson.loads(text.encode()) == plain


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999"])
def test_what_is_no_finite_number_is_null(text: str) -> None:
    assert strictjson.loads(f'{{"a": [{text}, 1e3]}}') == {"a": [None, 1000.0]}
    assert strictjson.dumps({"a": float(text)}) == '{"a": null}'


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 300 + "1" + "}" * 300, "[" * 70 + "]" * 70], ids=["open", "objects", "arrays"]
)
def test_what_is_nested_too_deep_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match=r"deep"):
        strictjson.loads(text)
