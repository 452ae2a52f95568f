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

EXIT_NOT_PASSED = 1

EPILOG = """\
examples:
  civigate certificate verify 0016c001f1500812.json --key bench.pub
  civigate certificate verify 0016c001f1500812.json --key civigate-key:ed25519:... --json
  civigate certificate verify *.json --key bench.pub --passed && echo "mount them"

Needs no network. Exit code: 0 each file is what was signed; 1 that is so, but with --passed one does not say PASS, or
was made without hardware; 2 a key or file that cannot be read; 4 one was changed, is damaged, or is signed by another.
Without --key a file is held against the key that it names itself: that shows that it is whole, not whose it is.
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
    verify.add_argument("--passed", action="store_true", help="end with 1 unless each says PASS, of real hardware")
    verify.add_argument("--json", action="store_true", help="one JSON object for each file instead of lines")
    verify.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Check them all; the first that is not right ends it.

    Raises:
        AgentError: a file cannot be read, or is not what it should be.
    """
    from agent.certificate import Verdict, check, read

    trusted = None if args.key is None else _key(args.key)
    good = True
    for path in args.files:
        signed = read(_bytes(path), where=str(path))
        if trusted is not None:
            check(signed, trusted, where=str(path))
        said = signed.certificate
        good = good and said.verdict is Verdict.PASS and not said.simulated
        if args.json:
            print(json.dumps(_as_json(path, signed, trusted=trusted is not None), ensure_ascii=False))
        else:
            print("\n".join(_lines(path, signed, trusted=trusted is not None)))
    return EXIT_NOT_PASSED if args.passed and not good else 0


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
    whose = "the bench that was named" if trusted else "a key that nobody vouches for; name the bench's with --key"
    lines += [f"  signed by {whose}: {signed.key.text}", f"  digest {signed.digest}"]
    return lines


def _as_json(path: Path, signed: Signed, *, trusted: bool) -> dict[str, object]:
    from agent.certificate import document

    return {
        "file": str(path),
        "whole": True,
        "trusted": trusted,
        "digest": signed.digest,
        "key": signed.key.text,
        "certificate": document(signed.certificate),
    }
