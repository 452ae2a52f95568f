# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate-receiver quarantine`: look at refused batches, judge them again, or drop them."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from agent.batch.codec import glimpse
from agent.batch.model import Reason
from receiver import config
from receiver.administration import TAKEN, administration
from receiver.cli.arguments import add_config, add_json, eui
from receiver.errors import RegistryError
from receiver.ledger.opening import open_reader
from receiver.ledger.port import ParkedRow

EXIT_INTEGRITY = 4
REASONS = tuple(reason.name.lower() for reason in Reason)

_EXAMPLES = """examples:
  civigate-receiver quarantine list -c receiver.toml
  civigate-receiver quarantine list --gateway 0016c001ff10a235 --reason unknown_key --json -c receiver.toml
  civigate-receiver quarantine show 17 -c receiver.toml
  civigate-receiver quarantine export --all --out refused.batches -c receiver.toml
  civigate-receiver quarantine release --gateway 0016c001ff10a235 -c receiver.toml
  civigate-receiver quarantine drop 17 18 -c receiver.toml

To release is to judge again, by the rules that hold for every batch: after a gateway was registered, or this program
was updated. What is refused again stays. Exported files can be read by 'verify' and 'import'. The exit code of release
is 4 when a batch was refused again. All of it works while the receiver runs.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its verbs."""
    parser = subparsers.add_parser(
        "quarantine",
        help="look at refused batches, judge them again, or drop them",
        description="Batches that were signed but not accepted are kept, within [limits], for a person to look at.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="show what is there")
    listing.set_defaults(func=_list)
    show = verbs.add_parser("show", help="show everything that is known of one batch")
    show.add_argument("id", type=int, metavar="ID")
    show.set_defaults(func=_show)
    export = verbs.add_parser("export", help="write batches into a file, as they came")
    export.add_argument("--out", type=Path, required=True, metavar="FILE")
    export.set_defaults(func=_export)
    release = verbs.add_parser("release", help="judge batches again, as if they came now")
    release.set_defaults(func=_release)
    drop = verbs.add_parser("drop", help="drop batches for good")
    drop.set_defaults(func=_drop)
    for verb in (export, release, drop):
        verb.add_argument("ids", type=int, nargs="*", metavar="ID", help="as in the list")
        verb.add_argument("--all", action="store_true", help="every one")
    for verb in (listing, export, release, drop):
        verb.add_argument("--gateway", type=eui, metavar="EUI", help="those that claim to be of this gateway")
        verb.add_argument(
            "--reason", choices=REASONS, metavar="REASON", help=f"those refused for it: {', '.join(REASONS)}"
        )
    for verb in (listing, show, export, release, drop):
        add_config(verb)
        add_json(verb)


def _rows(args: argparse.Namespace, loaded: config.ReceiverConfig) -> Iterator[ParkedRow]:
    """Give what the arguments choose, the oldest first."""
    wanted = set(getattr(args, "ids", ()))
    with contextlib.closing(open_reader(loaded)) as ledger:
        for row in ledger.quarantine():
            if wanted and row.id not in wanted:
                continue
            if args.reason is not None and row.parked.reason.name.lower() != args.reason:
                continue
            if args.gateway is not None and glimpse(row.parked.wire).gateway_eui != args.gateway:
                continue
            yield row


def _chosen(args: argparse.Namespace, loaded: config.ReceiverConfig) -> list[int]:
    """Return the ids that the arguments choose; everything only on demand.

    Raises:
        RegistryError: CG-QUA-001, nothing was chosen; CG-QUA-002, an id is not there.
    """
    if not (args.ids or args.all or args.gateway or args.reason):
        hint = "give ids, --gateway, --reason or --all"
        raise RegistryError("nothing is chosen", where="quarantine", hint=hint, code="CG-QUA-001")
    found = [row.id for row in _rows(args, loaded)]
    for number in args.ids:
        if number not in found:
            raise _missing(number)
    return found


def _missing(number: int) -> RegistryError:
    hint = "'civigate-receiver quarantine list' shows what is there"
    return RegistryError("no such batch", where=f"quarantine {number}", hint=hint, code="CG-QUA-002")


def _described(row: ParkedRow) -> dict[str, object]:
    parked, seen = row.parked, glimpse(row.parked.wire)
    return {
        "id": row.id,
        "received_us": row.received_us,
        "reason": parked.reason.name.lower(),
        "detail": parked.detail,
        "sender": parked.sender,
        "gateway": seen.gateway_eui.hex(),
        "stream": parked.stream_id.hex(),
        "number": parked.number,
        "kid": (parked.kid or seen.kid).hex(),
        "signature_verified": parked.kid is not None,
        "batch_hash": parked.batch_hash.hex(),
        "bytes": len(parked.wire),
    }


def _list(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    rows = map(_described, _rows(args, loaded))
    if args.json:
        print(json.dumps({"quarantine": list(rows)}, ensure_ascii=False))
        return 0
    count = 0
    for row in rows:
        count += 1
        print(
            f"{row['id']:>6}  {_moment(row['received_us'])}  {row['reason']:<19}  gateway {row['gateway']}"
            f"  batch {row['number']:<8}  {row['bytes']:>8} bytes  from {row['sender']}"
        )
    print(f"{count or 'no'} {'batch' if count == 1 else 'batches'} in quarantine")
    return 0


def _show(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    with contextlib.closing(open_reader(loaded)) as ledger:
        row = ledger.quarantined_row(args.id)
        registered = [] if row is None else ledger.registry()
    if row is None:
        raise _missing(args.id)
    said = _described(row)
    key = next((key for key in registered if key.kid.hex() == said["kid"]), None)
    said["key_registered_for"] = None if key is None else key.eui.hex()
    said["key_revoked_us"] = None if key is None else key.revoked_us
    if args.json:
        print(json.dumps(said, ensure_ascii=False))
        return 0
    for name, value in said.items():
        shown = _moment(value) if name.endswith("_us") and value is not None else value
        print(f"{name.removesuffix('_us'):19} {'-' if shown is None else shown}")
    return 0


def _export(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    chosen = set(_chosen(args, loaded))
    count = 0
    with args.out.open("xb") as file:
        for row in _rows(args, loaded):
            if row.id in chosen:
                file.write(row.parked.wire)
                count += 1
    if args.json:
        print(json.dumps({"exported": count, "file": str(args.out)}))
    else:
        print(f"{count} {'batch' if count == 1 else 'batches'} written to {args.out}")
    return 0


def _release(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    outcomes: Counter[str] = Counter()
    entries = []
    # the oldest first: what follows then finds what it follows
    with administration(loaded) as admin:
        for number in _chosen(args, loaded):
            outcome, detail = admin.release(number)
            outcomes[outcome] += 1
            entries.append({"id": number, "outcome": outcome, "detail": detail})
    refused = sum(count for outcome, count in outcomes.items() if outcome not in (*TAKEN, "gone"))
    if args.json:
        print(json.dumps({"released": sum(outcomes[name] for name in TAKEN), "refused": refused, "batches": entries}))
    else:
        for entry in entries:
            print(f"{entry['id']:>6}  {entry['outcome']}{': ' if entry['detail'] else ''}{entry['detail']}")
    return EXIT_INTEGRITY if refused else 0


def _drop(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    with administration(loaded) as admin:
        dropped = sum(admin.discard(number) for number in _chosen(args, loaded))
    if args.json:
        print(json.dumps({"dropped": dropped}))
    else:
        print(f"{dropped} {'batch' if dropped == 1 else 'batches'} dropped")
    return 0


def _moment(utc_us: object) -> str:
    return datetime.fromtimestamp(int(str(utc_us)) / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
