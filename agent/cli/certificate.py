# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate certificate`: is the certificate of a board what the bench wrote, and what does it say?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.batch.keys import PublicKey
    from agent.certificate import Signed

EXIT_OBJECTIONS = 1

EPILOG = """\
examples:
  civigate certificate verify 0016c001f1500812.json --key bench.pub
  civigate certificate verify 0016c001f1500812.json --key civigate-key:ed25519:... --json
  civigate certificate verify *.json --key bench.pub --passed && echo "mount them"

Needs no network. Exit code: 0 each file is whole and of the bench of --key; 1 each is whole, but there is no --key, or
with --passed one does not say PASS, lacks a test that PASS needs, or was made without hardware; 2 a key or file that
cannot be read; 4 one was changed, is damaged, or is signed by another. Without --key a file is held against the key
that it names itself: that shows that it is whole, not whose it is, and anybody can make one.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "certificate",
        help="check the test certificate of a board",
        description="What a test bench has certified of a board.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    verify = verbs.add_parser(
        "verify",
        help="check signature and content",
        description="Check that certificates are what the bench signed, and say what they say.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verify.add_argument("files", type=Path, nargs="+", metavar="FILE", help="certificate, a .json file")
    verify.add_argument("--key", metavar="KEY", help="public key of the bench: its line, or a file that has it")
    verify.add_argument(
        "--passed", action="store_true", help="end with 1 unless each says PASS, of all tests on hardware"
    )
    verify.add_argument("--json", action="store_true", help="one JSON object for each file instead of lines")
    verify.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Check them all; the first that is not right ends it. 0 when nothing stands against any of them, else 1.

    Raises:
        AgentError: a file cannot be read, or is not what it should be.
    """
    from agent.certificate import check, read

    trusted = None if args.key is None else _key(args.key)
    good = True
    for path in args.files:
        signed = read(_bytes(path), where=str(path))
        if trusted is not None:
            check(signed, trusted, where=str(path))
        objections = _objections(signed, trusted=trusted is not None, passed=args.passed)
        good = good and not objections
        if args.json:
            print(json.dumps(_as_json(path, signed, objections, trusted=trusted is not None), ensure_ascii=False))
        else:
            lines = _lines(path, signed, trusted=trusted is not None)
            print("\n".join([*lines, *(f"  not accepted: {one}" for one in objections)]))
    return 0 if good else EXIT_OBJECTIONS


def _objections(signed: Signed, *, trusted: bool, passed: bool) -> list[str]:
    """Say what stands against a certificate that is whole; `passed`: one that a board may be mounted on."""
    said = signed.certificate
    whose = "nobody vouches for its key, which anybody can have made: give the bench's with --key bench.pub"
    found = [] if trusted else [whose]
    if not passed:
        return found
    if said.verdict != "PASS":
        found.append(f"it says {said.verdict}")
    elif said.lacks:
        found.append(f"it says PASS without {', '.join(said.lacks)}; test the board with the whole list")
    if said.simulated:
        found.append("no hardware was tested")
    return found


def _key(text: str) -> PublicKey:
    from agent.batch.keys import TEXT_PREFIX, PublicKey

    if text.startswith(f"{TEXT_PREFIX}:"):
        return PublicKey.from_text(text)
    return PublicKey.from_text(_bytes(Path(text), 4096).decode("utf-8", errors="replace"))


def _bytes(path: Path, limit: int | None = None) -> bytes:
    from agent.certificate import MAX_FILE_BYTES
    from agent.errors import ConfigError

    try:
        with path.open("rb") as file:
            return file.read((limit or MAX_FILE_BYTES) + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", where=str(path), hint="check the path", code="CG-CRT-004"
        ) from error


def _lines(path: Path, signed: Signed, *, trusted: bool) -> list[str]:
    said = signed.certificate
    board = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in said.board.items() if value)
    simulated = "  SIMULATED: no hardware was tested" if said.simulated else ""
    lines = [
        f"{path}: {said.verdict}{simulated}",
        f"  board: {board or 'not named'}",
        f"  bench {said.bench.get('name', '')}, operator {said.operator or 'not named'}, {said.began} to {said.ended}",
    ]
    lines += [
        f"  {one.id} {one.outcome}{'' if one.required else ' (not required)'}: {one.title}"
        + (f" ({'; '.join(one.reasons)})" if one.reasons else "")
        for one in said.tests
        if one.outcome != "PASS"
    ]
    whose = "the bench that was named" if trusted else "a key that only the file itself names"
    lines += [f"  signed by {whose}: {signed.key.text}", f"  digest {signed.digest}"]
    return lines


def _as_json(path: Path, signed: Signed, objections: list[str], *, trusted: bool) -> dict[str, object]:
    from agent.certificate import document

    return {
        "file": str(path),
        "whole": True,
        "trusted": trusted,
        "objections": objections,
        "digest": signed.digest,
        "key": signed.key.text,
        "certificate": document(signed.certificate),
    }
