# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate-receiver verify`: check batches in files, without any receiver."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agent.batch.codec import glimpse, open_wire
from agent.batch.errors import RefusedError
from agent.batch.keys import TEXT_PREFIX, PublicKey, Resolve, ring
from agent.batch.model import Account
from receiver import config
from receiver.batchfile import read_batches
from receiver.cli.arguments import add_json
from receiver.errors import EvidenceError
from receiver.evidence import Chain, Step, follow
from receiver.ledger.database import FILE_NAME
from receiver.ledger.port import Withdrawn
from receiver.ledger.reader import LedgerReader

EXIT_INTEGRITY = 4

_EXAMPLES = """examples:
  civigate-receiver verify /media/stick/*.batches --key civigate-key:ed25519:...
  civigate-receiver verify -c receiver.toml export.batches    # keys of the registry
  civigate-receiver verify export.batches --key gateway-key.txt --json

The exit code is 4 when anything does not verify, does not fit, or is missing.
"""


@dataclass(slots=True)
class _Stream:
    """What the files hold of one stream."""

    gateway_eui: bytes
    steps: dict[int, Step] = field(default_factory=dict)
    withdrawn: list[Withdrawn] = field(default_factory=list)
    account: Account = field(default_factory=Account)
    repeats: int = 0
    chain: Chain = field(default_factory=Chain)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "verify",
        help="check batches in files: signatures, chain, sums, gaps",
        description="Check exported batches without any receiver, for an auditor.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument(
        "--key", action="append", default=[], metavar="TEXT|FILE", help="public key of a gateway; may be repeated"
    )
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="take the keys of this receiver's registry")
    add_json(parser)
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    resolve = _keys(args)
    streams: dict[bytes, _Stream] = {}
    refused: list[dict[str, object]] = []
    for path in args.files:
        for number, wire in enumerate(_batches(path, refused), 1):
            _take(wire, f"{path}, batch {number}", resolve, streams, refused)
    for stream in streams.values():
        steps = [stream.steps[number] for number in sorted(stream.steps)]
        follow(stream.chain, steps, stream.withdrawn, from_start=False)
    ok = not refused and all(stream.chain.ok and not stream.chain.missing for stream in streams.values())
    if args.json:
        print(
            json.dumps(
                {
                    "ok": ok,
                    "streams": [_as_json(stream_id, stream) for stream_id, stream in streams.items()],
                    "refused": refused,
                }
            )
        )
    else:
        _print(streams, refused, ok=ok)
    return 0 if ok else EXIT_INTEGRITY


def _keys(args: argparse.Namespace) -> Resolve:
    if args.config is not None:
        path = config.load(args.config).receiver.data_dir / FILE_NAME
        with contextlib.closing(LedgerReader(path)) as ledger:
            return ring(*(PublicKey.from_text(key.public_key) for key in ledger.registry()))
    if not args.key:
        hint = "give --key with the gateway's public key, or -c with a receiver.toml"
        raise EvidenceError("no key to verify with", where="verify", hint=hint, code="CG-EVI-003")
    return ring(*(PublicKey.from_text(_key_text(text)) for text in args.key))


def _key_text(given: str) -> str:
    if given.startswith(TEXT_PREFIX):
        return given
    try:
        return Path(given).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        hint = f"give the line that begins with {TEXT_PREFIX}: or a file that holds it"
        raise EvidenceError("no key in it", where=given, hint=hint, code="CG-EVI-003") from error


def _batches(path: Path, refused: list[dict[str, object]]) -> Iterator[bytes]:
    """Give the batches of a file; what is damaged ends the file, not the report."""
    try:
        yield from read_batches(path)
    except EvidenceError as error:
        if error.code == "CG-EVI-001":
            raise
        refused.append({"where": str(path), "reason": error.what})


def _take(
    wire: bytes, where: str, resolve: Resolve, streams: dict[bytes, _Stream], refused: list[dict[str, object]]
) -> None:
    try:
        opened = open_wire(wire, resolve)
    except RefusedError as error:
        seen = glimpse(wire)
        refused.append({"where": where, "stream": seen.stream_id.hex(), "number": seen.number, "reason": error.what})
        return
    header, body = opened.header, opened.body
    stream = streams.setdefault(header.stream_id, _Stream(header.gateway_eui))
    known = stream.steps.get(header.number)
    if known is not None:
        stream.repeats += 1
        if known.hash != opened.hash:
            stream.chain.flaw(f"two contents under number {header.number}: a fork")
        return
    if header.gateway_eui != stream.gateway_eui:
        stream.chain.flaw(f"batch {header.number} is of another gateway, {header.gateway_eui.hex()}")
    if not body.account.balanced:
        stream.chain.flaw(f"the account of batch {header.number} does not add up")
    stream.steps[header.number] = Step(header, opened.hash)
    stream.account += body.account
    stream.withdrawn += [
        Withdrawn(item.first_number, item.last_number, item.last_hash, item.count)
        for item in body.tombstones
        if item.last_number
    ]


def _as_json(stream_id: bytes, stream: _Stream) -> dict[str, object]:
    chain = stream.chain
    return {
        "stream": stream_id.hex(),
        "gateway": stream.gateway_eui.hex(),
        "first": min(stream.steps),
        "last": max(stream.steps),
        "batches": chain.batches,
        "repeats": stream.repeats,
        "frames": chain.frames,
        "missing": chain.missing,
        "account": asdict(stream.account),
        "chain_ok": chain.ok,
        "flaws": chain.flaws,
    }


def _print(streams: dict[bytes, _Stream], refused: list[dict[str, object]], *, ok: bool) -> None:
    for stream_id, stream in streams.items():
        chain = stream.chain
        print(f"gateway {stream.gateway_eui.hex()}  stream {stream_id.hex()}")
        print(f"  batches {min(stream.steps)} to {max(stream.steps)}: {chain.batches}, {chain.frames} frames")
        print(f"  chain   {'verified' if chain.ok else f'BROKEN, {chain.flaw_count} flaws'}")
        for flaw in chain.flaws:
            print(f"          - {flaw}")
        missing = ", ".join(f"{first}-{last}" if first < last else str(first) for first, last in chain.missing)
        print(f"  missing {missing or 'none'}")
    for entry in refused:
        print(f"NOT ACCEPTED {entry['where']}: {entry['reason']}")
    print("all of it verifies" if ok else "NOT all of it verifies")
