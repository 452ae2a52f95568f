# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate-receiver verify`: check batches in files, without any receiver."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from agent.batch.keys import TEXT_PREFIX, PublicKey
from agent.enrolment.certificate import day
from receiver import config
from receiver.audit import Audit, StreamAudit, audit
from receiver.cli.arguments import add_json
from receiver.errors import EvidenceError
from receiver.ledger.opening import open_reader
from receiver.ledger.port import RegisteredKey

MAX_KEY_FILE_BYTES = 4096
EXIT_INTEGRITY = 4
Revoked = Mapping[bytes, int]
"""Since when a key is revoked, by its kid; UTC, microseconds."""

_EXAMPLES = """examples:
  civigate-receiver verify /media/stick/*.batches --key civigate-key:ed25519:...
  civigate-receiver verify -c receiver.toml export.batches    # keys of the registry
  civigate-receiver verify export.batches --key gateway-key.txt --json

One key of a gateway is enough: keys that follow it are learnt from the batches that announce them.
The exit code is 4 when anything does not verify, does not fit, or is missing.
"""


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
        "--key", action="append", default=[], metavar="TEXT|FILE", help="a public key of a gateway; may be repeated"
    )
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="take the keys of this receiver's registry")
    add_json(parser)
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    registered = _registered(args.config)
    keys, owners = _keys(args, registered)
    found = audit(args.files, keys, owners)
    revoked = {key.kid: key.revoked_us for key in registered if key.revoked_us is not None}
    if args.json:
        print(json.dumps(_as_json(found, revoked)))
    else:
        for line in _lines(found, revoked):
            print(line)
    return 0 if found.ok else EXIT_INTEGRITY


def _registered(path: Path | None) -> list[RegisteredKey]:
    """Read the registry of a receiver, where one is given."""
    if path is None:
        return []
    with contextlib.closing(open_reader(config.load(path))) as ledger:
        return ledger.registry()


def _keys(args: argparse.Namespace, registered: list[RegisteredKey]) -> tuple[list[PublicKey], dict[bytes, bytes]]:
    """Return the keys to verify with, and whose they are where the registry says it."""
    if args.config is not None:
        keys = [PublicKey.from_text(key.public_key) for key in registered]
        return keys, {key.kid: key.eui for key in registered}
    if not args.key:
        hint = "give --key with the gateway's public key, or -c with a receiver.toml"
        raise EvidenceError("no key to verify with", where="verify", hint=hint, code="CG-EVI-003")
    return [PublicKey.from_text(_key_text(text)) for text in args.key], {}


def _key_text(given: str) -> str:
    if given.startswith(TEXT_PREFIX):
        return given
    try:
        with Path(given).open(encoding="ascii") as file:
            return file.read(MAX_KEY_FILE_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        hint = f"give the line that begins with {TEXT_PREFIX}: or a file that holds it"
        raise EvidenceError("no key in it", where=given, hint=hint, code="CG-EVI-003") from error


def _as_json(found: Audit, revoked: Revoked) -> dict[str, object]:
    return {
        "ok": found.ok,
        "files": [asdict(file) for file in found.files],
        "streams": [_stream_json(stream, revoked) for stream in found.streams],
        "refused": [
            {"where": one.where, "stream": one.stream_id.hex(), "number": one.number, "reason": one.reason}
            for one in found.refused
        ],
        "refused_count": found.refused_count,
    }


def _stream_json(stream: StreamAudit, revoked: Revoked) -> dict[str, object]:
    chain = stream.chain
    return {
        "stream": stream.stream_id.hex(),
        "gateway": stream.gateway_eui.hex(),
        "ok": stream.ok,
        "first": stream.first,
        "last": stream.last,
        "batches": chain.batches,
        "repeats": stream.repeats,
        "frames": chain.frames,
        "missing": chain.missing,
        "account": asdict(stream.account),
        "waiting": stream.waiting,
        "withdrawn_frames": stream.withdrawn_frames,
        "chain_ok": chain.ok,
        "flaws": chain.flaws,
        "flaw_count": chain.flaw_count,
        "keys": [
            {
                "kid": key.kid.hex(),
                "first": key.first,
                "last": key.last,
                "batches": key.batches,
                "announced_by": None if key.announced_by is None else key.announced_by.hex(),
                "revoked_us": revoked.get(key.kid),
            }
            for key in stream.keys
        ],
        "declared_gaps": [
            {
                "batch": number,
                "frames": stone.count,
                "reason": stone.reason.name.lower(),
                "first_withdrawn": stone.first_number or None,
                "last_withdrawn": stone.last_number or None,
            }
            for number, stone in stream.tombstones
        ],
    }


def _lines(found: Audit, revoked: Revoked) -> Iterator[str]:
    for file in found.files:
        yield f"{file.path}: {file.messages:,} batches, SHA-256 {file.sha256}"
    for stream in found.streams:
        yield ""
        yield from _stream_lines(stream, revoked)
    if found.refused:
        yield ""
    for one in found.refused:
        yield f"NOT ACCEPTED {one.where}: {one.reason}"
    if found.refused_count > len(found.refused):
        yield f"NOT ACCEPTED and not listed: {found.refused_count - len(found.refused):,} more"
    yield ""
    yield "all of it verifies" if found.ok else "NOT all of it verifies"


def _stream_lines(stream: StreamAudit, revoked: Revoked) -> Iterator[str]:
    chain, account = stream.chain, stream.account
    yield f"gateway {stream.gateway_eui.hex()}  stream {stream.stream_id.hex()}"
    yield f"  batches     {stream.first:,} to {stream.last:,}: {chain.batches:,}, and {stream.repeats:,} copies"
    if not stream.from_start:
        yield f"              those before {stream.first:,} are not in these files"
    yield f"  frames      {chain.frames:,}"
    for key in stream.keys:
        said = "given" if key.announced_by is None else f"announced by {key.announced_by.hex()[:16]}"
        yield f"  key         {key.kid.hex()}: batches {key.first:,} to {key.last:,}, {said}"
        if key.kid in revoked:
            yield f"              REVOKED since {day(revoked[key.kid])}: what it signed later is not the gateway's word"
    yield f"  chain       {'verified' if chain.ok else f'BROKEN, {chain.flaw_count} flaws'}"
    for flaw in chain.flaws:
        yield f"              - {flaw}"
    missing = ", ".join(f"{first}-{last}" if first < last else str(first) for first, last in chain.missing)
    yield f"  missing     {missing or 'none'}"
    for number, stone in stream.tombstones:
        batches = f" in batches {stone.first_number:,} to {stone.last_number:,}" if stone.last_number else ""
        yield f"  declared    {stone.count:,} frames {stone.reason.name.lower()}{batches}, says batch {number:,}"
    yield (
        f"  heard       {account.heard:,} = bad CRC {account.bad_crc:,} + filtered {account.filtered:,} + "
        f"duplicate {account.duplicate:,} + kept {account.spooled:,}"
    )
    if stream.waiting is not None:
        yield (
            f"  kept        {account.spooled:,} = here {chain.frames - stream.withdrawn_frames:,} + "
            f"evicted {account.evicted:,} + expired {account.expired:,} + quarantined {account.quarantined:,} + "
            f"not here {stream.waiting:,}"
        )
    yield f"  overrun     {account.overrun:,}"
