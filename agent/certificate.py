# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The certificate of a board: what it was tested for, on which bench, with which result, signed by the bench.

A file is a JSON object of two members: `certificate`, which people and programs read, and `signature`, a COSE_Sign1
[RFC 9052 §4.2] in base64 over the SHA-256 of the canonical form [RFC 8785] of the first. So white space and the order
of names may change on the way, and nothing else. The signed payload begins with a text, where all that a gateway signs
begins with a number, and with another text where the board was an emulated one: neither is ever taken for another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from agent import canonical
from agent.batch import cbor, cose
from agent.batch.errors import MalformedError
from agent.batch.keys import PublicKey
from agent.batch.kinds import payload_of
from agent.errors import BatchError

if TYPE_CHECKING:
    from agent.batch.keys import Signer

FORMAT: Final = 1
KIND: Final = "civigate-certificate"
SIMULATED_KIND: Final = "civigate-certificate-SIMULATED"
REQUIRED: Final = tuple(f"H{number:02}" for number in range(1, 23) if number != 21)
"""What a board must have passed, whatever its certificate calls required: the list of `docs/hil.md` but the soak."""
MAX_FILE_BYTES: Final = 1 << 20
MAX_TESTS: Final = 100
MAX_VALUES: Final = 100
MAX_TEXT: Final = 2000
_MAX_PAYLOAD_BYTES: Final = 512


class Verdict(StrEnum):
    """Of a board."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    INCOMPLETE = "INCOMPLETE"
    """A test that is required was not done, or not all of it: it says neither yes nor no."""


class Outcome(StrEnum):
    """Of one test of the list."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    ERROR = "ERROR"
    """The bench failed, not the board."""
    PARTLY = "PARTLY"
    """A part of it was skipped or not run; what was done passed."""
    SKIPPED = "SKIPPED"
    NOT_RUN = "NOT RUN"


@dataclass(frozen=True, slots=True)
class Value:
    """A measured value.

    Attributes:
        name, unit: what it is.
        value: how much.
        low, high: limits; None where there is none.
    """

    name: str
    value: float
    unit: str
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Trial:
    """One test of the list.

    Attributes:
        id: "H01" to "H22".
        title: what it tests.
        required: whether PASS needs it.
        outcome: how it went.
        values: what was measured.
        reasons: why it failed, or was skipped or not run.
    """

    id: str
    title: str
    required: bool
    outcome: Outcome
    values: tuple[Value, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is signed.

    Attributes:
        board: `model`, `serial`, `eui`, `chip_version`; empty texts for what is not known.
        versions: `civigate`, `commit`, `emulator`, `image`.
        bench: `name`, `digest` (SHA-256 of its file, hex).
        operator: who did it.
        began, ended: UTC, like 2026-08-25T12:00:00Z, by the clock of the bench.
        seed: of all that was drawn at random.
        simulated: no hardware was there.
        tests: the whole list, what was not run as well.
    """

    board: dict[str, str]
    versions: dict[str, str]
    bench: dict[str, str]
    operator: str
    began: str
    ended: str
    seed: int
    simulated: bool
    tests: tuple[Trial, ...]

    @property
    def verdict(self) -> Verdict:
        """What all tests together say."""
        return verdict_of(self.tests)

    @property
    def not_run(self) -> list[str]:
        """Tests of which nothing was done."""
        return [one.id for one in self.tests if one.outcome in {Outcome.NOT_RUN, Outcome.SKIPPED}]

    @property
    def lacks(self) -> list[str]:
        """Tests that a board must have passed and of which it does not say so; the verdict alone goes by its list."""
        passed = {one.id for one in self.tests if one.outcome is Outcome.PASS}
        return [number for number in REQUIRED if number not in passed]


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate as it was read.

    Attributes:
        certificate: what it says.
        digest: SHA-256 of its canonical form, hex: the text beside the QR code.
        key: the public key that it names itself; proves nothing about who signed.
        kid: thumbprint of the key that signed.
    """

    certificate: Certificate
    digest: str
    key: PublicKey
    kid: bytes
    message: cose.Sign1


def verdict_of(tests: Iterable[Trial]) -> Verdict:
    """Return what tests together say: one that fails is enough, and PASS needs every one that is required."""
    done = list(tests)
    if any(one.outcome is Outcome.FAIL for one in done):
        return Verdict.FAIL
    if not done or any(one.required and one.outcome is not Outcome.PASS for one in done):
        return Verdict.INCOMPLETE
    return Verdict.PASS


def document(certificate: Certificate) -> dict[str, Any]:
    """Return a certificate as the JSON object that is signed."""
    return {
        "format": FORMAT,
        "verdict": str(certificate.verdict),
        "not_run": certificate.not_run,
        **json.loads(json.dumps(asdict(certificate))),
    }


def digest_of(certificate: Certificate, key: PublicKey) -> str:
    """Return the SHA-256 of the canonical form, hex."""
    return hashlib.sha256(canonical.encode(document(certificate) | {"key": key.text})).hexdigest()


def sign(certificate: Certificate, signer: Signer) -> bytes:
    """Return the file of a certificate.

    Raises:
        IdentityError: the key does not sign.
        ValueError: a value that JSON has no form for.
    """
    said = document(certificate) | {"key": signer.public.text}
    digest = hashlib.sha256(canonical.encode(said)).digest()
    kind = SIMULATED_KIND if certificate.simulated else KIND
    payload = cbor.encode([kind, FORMAT, digest], where="certificate", max_bytes=_MAX_PAYLOAD_BYTES)
    signature = base64.b64encode(cose.sign(payload, signer)).decode()
    return (json.dumps({"certificate": said, "signature": signature}, indent=1, ensure_ascii=False) + "\n").encode()


def read(data: bytes, *, where: str) -> Signed:
    """Read a file, and see that content, digest and signature belong together. Whose key it is, `check` says.

    Raises:
        MalformedError: CG-CRT-001, it is no certificate, or contradicts itself.
        BatchError: CG-CRT-002, it was changed after it was signed; CG-BAT-005, the signature is not of the key that
            it names.
    """
    if len(data) > MAX_FILE_BYTES:
        raise _malformed(f"longer than {MAX_FILE_BYTES} bytes", where)
    try:
        match canonical.decode(data):
            case {"certificate": dict(said), "signature": str(encoded), **rest} if not rest:
                signature = base64.b64decode(encoded, validate=True)
            case _:
                raise _malformed("not an object of certificate and signature", where)
        found = _certificate(said)
        digest = hashlib.sha256(canonical.encode(said)).digest()
        key = PublicKey.from_text(_text(said["key"]))
    except (ValueError, LookupError, TypeError, binascii.Error) as error:
        if isinstance(error, BatchError):
            raise
        raise _malformed(f"not a certificate: {type(error).__name__}: {error}"[:200], where) from error
    message = cose.read(signature, where=where)
    match payload_of(message.payload, where=where):
        case [str(kind), int(version), bytes(signed)] if version == FORMAT and kind in {KIND, SIMULATED_KIND}:
            pass
        case _:
            raise _malformed("the signature is of something else", where)
    if signed != digest or (kind == SIMULATED_KIND) is not found.simulated:
        raise BatchError(
            "was changed after it was signed",
            where=where,
            hint="take no word of it for true; get the file anew from whoever tested the board",
            code="CG-CRT-002",
        )
    cose.verify(message, {key.kid: key}.get, where=where)
    return Signed(found, digest.hex(), key, message.kid, message)


def check(signed: Signed, trusted: PublicKey, *, where: str) -> None:
    """See that a certificate is of the bench that is trusted.

    Raises:
        BatchError: CG-CRT-003, another key signed it.
    """
    if signed.kid != trusted.kid:
        raise BatchError(
            f"signed by key {signed.kid.hex()}, not by {trusted.kid.hex()}",
            where=where,
            hint="ask for the public key of the bench that the certificate names",
            code="CG-CRT-003",
        )


def _certificate(said: dict[str, Any]) -> Certificate:
    """Read the signed object; whatever is not as it must be ends in a ValueError, LookupError or TypeError."""
    expected = {"format", "verdict", "not_run", "board", "versions", "bench", "operator", "began", "ended"}
    expected |= {"seed", "simulated", "tests", "key"}
    _exactly(said, expected)
    if said["format"] != FORMAT:
        raise ValueError(f"format {said['format']}, this program knows {FORMAT}")
    if len(said["tests"]) > MAX_TESTS or not isinstance(said["seed"], int) or not isinstance(said["simulated"], bool):
        raise ValueError("tests, seed or simulated")
    found = Certificate(
        board=_texts(said["board"]),
        versions=_texts(said["versions"]),
        bench=_texts(said["bench"]),
        operator=_text(said["operator"]),
        began=_text(said["began"]),
        ended=_text(said["ended"]),
        seed=said["seed"],
        simulated=said["simulated"],
        tests=tuple(_test(one) for one in said["tests"]),
    )
    if said["verdict"] != found.verdict or said["not_run"] != found.not_run:
        raise ValueError(f"it says {said['verdict']}, its tests say {found.verdict}")
    return found


def _test(said: dict[str, Any]) -> Trial:
    _exactly(said, {"id", "title", "required", "outcome", "values", "reasons"})
    if len(said["values"]) > MAX_VALUES or len(said["reasons"]) > MAX_VALUES or not isinstance(said["required"], bool):
        raise ValueError("values, reasons or required")
    for one in said["values"]:
        _exactly(one, {"name", "value", "unit", "low", "high"})
    values = tuple(
        Value(
            _text(one["name"]), _number(one["value"]), _text(one["unit"]), _optional(one["low"]), _optional(one["high"])
        )
        for one in said["values"]
    )
    reasons = tuple(map(_text, said["reasons"]))
    return Trial(_text(said["id"]), _text(said["title"]), said["required"], Outcome(said["outcome"]), values, reasons)


def _exactly(said: dict[str, Any], members: set[str]) -> None:
    if not isinstance(said, dict) or set(said) != members:
        raise ValueError("members that are too many, or missing")


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise TypeError(f"{str(value)[:40]!r} is no text of up to {MAX_TEXT} characters")
    return value


def _texts(value: dict[str, object]) -> dict[str, str]:
    return {_text(name): _text(one) for name, one in value.items()}


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return value


def _optional(value: object) -> float | None:
    return None if value is None else _number(value)


def _malformed(what: str, where: str) -> MalformedError:
    hint = "name the .json file of a certificate as the bench wrote it"
    return MalformedError(what, where=where, code="CG-CRT-001", hint=hint)
