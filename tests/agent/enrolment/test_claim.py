# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.enrolment import claim
from agent.errors import IdentityError

codes = st.builds(claim.generate)


@given(codes)
def test_a_code_is_read_however_people_write_it(code: str) -> None:
    plain = code.replace("-", "")
    assert len(plain) == claim.SYMBOLS
    lookalikes = code.lower().replace("0", "o").replace("1", "l")
    for written in (code, plain, f" {code.lower()} ", plain[:3] + " " + plain[3:], lookalikes):
        assert claim.parse(written) == plain
    assert claim.shown(claim.parse(code)) == code


@given(codes, st.integers(0, claim.SYMBOLS - 1), st.sampled_from(claim.ALPHABET))
def test_any_one_wrong_symbol_is_noticed(code: str, at: int, symbol: str) -> None:
    plain = code.replace("-", "")
    wrong = plain[:at] + symbol + plain[at + 1 :]
    if wrong != plain:
        with pytest.raises(IdentityError, match="mistyped"):
            claim.parse(wrong)


@given(codes, st.integers(0, claim.SYMBOLS - 1), st.integers(0, claim.SYMBOLS - 1))
def test_any_two_symbols_that_changed_places_are_noticed(code: str, one: int, other: int) -> None:
    symbols = list(code.replace("-", ""))
    symbols[one], symbols[other] = symbols[other], symbols[one]
    wrong = "".join(symbols)
    if wrong != code.replace("-", ""):
        with pytest.raises(IdentityError, match="mistyped"):
            claim.parse(wrong)


@pytest.mark.parametrize(
    ("text", "what"),
    [("", "0 symbols"), ("AAAA-BBBB", "8 symbols"), ("A" * 400, "400 symbols"), ("!AAAAAAAAAAAAAAA", "symbol 1")],
)
def test_what_is_no_code_is_named_without_being_repeated(text: str, what: str) -> None:
    with pytest.raises(IdentityError) as caught:
        claim.parse(text)
    assert what in str(caught.value)
    assert "AAAA" not in str(caught.value)


def test_what_is_stored_of_two_codes_differs() -> None:
    assert claim.digest(claim.parse(claim.generate())) != claim.digest(claim.parse(claim.generate()))
