# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Claim codes: what a person types, or a label carries, to let one gateway in once.

Sixteen symbols in four groups, such as `7K9Q-2MXT-04BV-H3R2`: fifteen random ones (75 bits) and a check symbol. The
alphabet is Crockford's base 32, which has no letter that looks like a digit; what people write instead is understood.
"""

from __future__ import annotations

import hashlib
import secrets

from agent.errors import IdentityError

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
SYMBOLS = 16
GROUP = 4
DIGEST_BYTES = 32

_LOOKALIKES = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})
_FIELD_POLYNOMIAL = 0b100101
"""x^5 + x^2 + 1, primitive over GF(2): the powers of x are all 31 symbols but zero."""
_DOMAIN = b"civigate claim code 1\0"


def generate() -> str:
    """Make a new code, as people read it."""
    drawn = [secrets.randbelow(len(ALPHABET)) for _ in range(SYMBOLS - 1)]
    return shown("".join(ALPHABET[value] for value in [*drawn, _check(drawn)]))


def parse(text: str) -> str:
    """Read what somebody typed; case, hyphens and spaces do not matter, O is 0, I and L are 1.

    Returns:
        The sixteen symbols without hyphens.

    Raises:
        IdentityError: CG-ENR-001, it has another length, another symbol, or was mistyped.
    """
    code = text.strip().upper().translate(_LOOKALIKES)
    if len(code) != SYMBOLS:
        raise _unfit(f"{len(code)} symbols, a code has {SYMBOLS}")
    values = [ALPHABET.find(symbol) for symbol in code]
    if -1 in values:
        raise _unfit(f"symbol {values.index(-1) + 1} is none that a code has")
    if _check(values[:-1]) != values[-1]:
        raise _unfit("the check symbol does not fit: something is mistyped")
    return code


def shown(code: str) -> str:
    """Write a code in groups."""
    return "-".join(code[at : at + GROUP] for at in range(0, len(code), GROUP))


def digest(code: str) -> bytes:
    """Return what is stored of a code, 32 bytes.

    A plain hash is enough and a slow one would not help: 75 random bits are not found by trying, not even offline at
    10^12 tries a second (a thousand years), and a code is looked up by its hash, without trying salts one by one.
    """
    return hashlib.sha256(_DOMAIN + code.encode("ascii")).digest()


def _check(values: list[int]) -> int:
    """Return the check symbol: a weighted sum over GF(32), with another weight for each place.

    It differs after any one wrong symbol, and after any two symbols that changed places.
    """
    total = 0
    for value in values:
        total = _double(total ^ value)
    return total


def _double(value: int) -> int:
    doubled = value << 1
    return doubled ^ _FIELD_POLYNOMIAL if doubled & len(ALPHABET) else doubled


def _unfit(what: str) -> IdentityError:
    # the code itself is a secret and stays out of the message
    hint = "type it again as it is printed, four groups of four"
    return IdentityError(what, where="claim code", hint=hint, code="CG-ENR-001")
