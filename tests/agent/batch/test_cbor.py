# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import cbor
from agent.batch.errors import MalformedError, UnwritableError
from tests.agent.batch.damage import ENCODINGS

LIMIT = 10_000
_scalars: st.SearchStrategy[cbor.Item] = (
    st.integers(-(1 << 64), (1 << 64) - 1)
    | st.binary(max_size=20)
    | st.text(max_size=20, alphabet=st.characters(codec="utf-8"))
)


def _containers(inner: st.SearchStrategy[cbor.Item]) -> st.SearchStrategy[cbor.Item]:
    keys: tuple[st.SearchStrategy[int | str], ...] = (
        st.integers(0, 1 << 20),
        st.text(max_size=30, alphabet=st.characters(codec="utf-8")),
    )
    return st.one_of(st.lists(inner, max_size=5), *(st.dictionaries(key, inner, max_size=5) for key in keys))


_items: st.SearchStrategy[cbor.Item] = st.recursive(_scalars, _containers, max_leaves=12)


def decode(data: bytes) -> cbor.Item:
    return cbor.decode(data, where="test", max_bytes=LIMIT)


def deterministic(item: cbor.Item) -> bytes:
    """Encode by RFC 8949 §4.2.1 with cbor2's plain encoder, sorting here."""

    def ordered(part: cbor.Item) -> cbor.Item:
        if isinstance(part, list):
            return [ordered(element) for element in part]
        if isinstance(part, dict):
            return {key: ordered(part[key]) for key in sorted(part, key=cbor2.dumps)}
        return part

    return cbor2.dumps(ordered(item))


@given(_items)
def test_what_is_written_reads_back_and_is_in_deterministic_encoding(item: cbor.Item) -> None:
    try:
        data = cbor.encode(item, where="test", max_bytes=LIMIT)
    except UnwritableError:
        pytest.skip("nested too deeply")
    assert decode(data) == item
    assert deterministic(cbor2.loads(data)) == data


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_the_one_encoding_of_an_item_or_refused(data: bytes) -> None:
    try:
        item = decode(data)
    except MalformedError:
        return
    assert deterministic(item) == data


@pytest.mark.parametrize(("data", "what"), ENCODINGS.items())
def test_every_other_encoding_is_refused(data: str, what: str) -> None:
    with pytest.raises(MalformedError, match=what) as caught:
        decode(bytes.fromhex(data))
    assert caught.value.code == "CG-BAT-001"


def test_limits_hold_before_anything_is_built() -> None:
    with pytest.raises(MalformedError, match="at most 5"):
        cbor.decode(bytes(6), where="test", max_bytes=5)
    with pytest.raises(MalformedError, match="too many items"):
        cbor.decode(b"\x99\x27\x10" + bytes(10_000), where="test", max_bytes=20_000, max_items=9_999)
    assert (
        cbor.decode(b"\x99\x27\x10" + bytes(10_000), where="test", max_bytes=20_000, max_items=10_001) == [0] * 10_000
    )
    assert decode(bytes.fromhex("818181818181818100")) == [[[[[[[[0]]]]]]]]


@pytest.mark.parametrize("item", [1.5, None, True, 1 << 64, {b"k": 1}, {1: 1, -1: 1, "a": 1, 24: 1}])
def test_what_would_not_be_read_back_is_not_written(item: object) -> None:
    with pytest.raises(UnwritableError) as caught:
        cbor.encode(item, where="test", max_bytes=LIMIT)  # type: ignore[arg-type]  # the fault that is tested
    assert caught.value.code == "CG-BAT-020"
