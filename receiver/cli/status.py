# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate-receiver status`: what is there, what is missing, and whether it proves to be what was signed."""

from __future__ import annotations

import argparse
import contextlib
import json
from dataclasses import asdict
from datetime import UTC, datetime

from receiver import config
from receiver.cli.arguments import add_config, add_json
from receiver.evidence import StreamReport, report
from receiver.ledger.opening import open_reader
from receiver.ledger.port import AlarmRow

EXIT_INTEGRITY = 4
_SHOWN_ALARMS = 10
_SHOWN_RANGES = 10

_EXAMPLES = """examples:
  civigate-receiver status -c receiver.toml
  civigate-receiver status -c receiver.toml --json | jq '.streams[] | {gateway, frames, missing}'

The exit code is 4 when stored evidence does not verify or sums do not match; a batch that has not come is no error.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "status",
        help="account for every stream and verify the stored evidence",
        description="Verify every signed header in the ledger anew, follow the chains, and check the accounts.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser)
    add_json(parser)
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    loaded = config.load(args.config)
    with (
        contextlib.closing(open_reader(loaded)) as ledger,
        ledger.snapshot() as state,
    ):
        reports = [report(state, summary) for summary in state.streams()]
        gateways = len({key.eui for key in state.registry()})
        alarms = state.alarms()
        batches, size = state.quarantined()
    if args.json:
        whole = {
            "ok": all(stream.ok for stream in reports),
            "gateways": gateways,
            "frames": sum(stream.summary.frames for stream in reports),
            "batches": sum(stream.summary.batches for stream in reports),
            "streams": [_as_json(stream) for stream in reports],
            "alarms": [_alarm_as_json(row) for row in alarms],
            "quarantine": {"batches": batches, "bytes": size},
        }
        print(json.dumps(whole, ensure_ascii=False))
    else:
        _print(reports, gateways, alarms, (batches, size))
    return 0 if all(stream.chain.ok and stream.sums_match for stream in reports) else EXIT_INTEGRITY


def _as_json(stream: StreamReport) -> dict[str, object]:
    summary = stream.summary
    return {
        "stream": summary.stream_id.hex(),
        "gateway": summary.eui.hex(),
        "name": summary.name,
        "through": summary.through,
        "highest": summary.highest,
        "missing": summary.missing,
        "batches": summary.batches,
        "frames": summary.frames,
        "frames_waiting": stream.frames_waiting,
        "account": asdict(summary.account),
        "sums_match": stream.sums_match,
        "chain_ok": stream.chain.ok,
        "flaws": stream.chain.flaws,
        "ok": stream.ok,
        "first_seen_us": summary.first_seen_us,
        "last_seen_us": summary.last_seen_us,
    }


def _alarm_as_json(row: AlarmRow) -> dict[str, object]:
    return {
        "kind": row.alarm.kind.value,
        "subject": row.alarm.subject,
        "stream": row.alarm.stream_id.hex(),
        "number": row.alarm.number,
        "detail": row.alarm.detail,
        "first_us": row.first_us,
        "last_us": row.last_us,
        "count": row.count,
    }


def _print(reports: list[StreamReport], gateways: int, alarms: list[AlarmRow], quarantine: tuple[int, int]) -> None:
    print(f"{gateways} gateways registered, {len(reports)} streams")
    for stream in reports:
        summary, account = stream.summary, stream.summary.account
        print(f"\ngateway {summary.eui.hex()}  {summary.name}\n  stream    {summary.stream_id.hex()}")
        print(f"  last seen {_moment(summary.last_seen_us)}")
        print(f"  batches   {summary.batches}, all through {summary.through}; missing: {_ranges(summary.missing)}")
        print(f"  frames    {summary.frames} delivered, {stream.frames_waiting} still on the gateway")
        print(
            f"  account   heard {account.heard} = bad CRC {account.bad_crc} + filtered {account.filtered}"
            f" + duplicate {account.duplicate} + kept {account.spooled}; overrun {account.overrun}"
        )
        print(
            f"            of those kept: evicted {account.evicted}, expired {account.expired},"
            f" quarantined {account.quarantined}; sums {'match' if stream.sums_match else 'DO NOT MATCH'}"
        )
        print(f"  chain     {'verified' if stream.chain.ok else f'BROKEN, {stream.chain.flaw_count} flaws'}")
        for flaw in stream.chain.flaws:
            print(f"            - {flaw}")
    if quarantine[0]:
        print(f"\nquarantine: {quarantine[0]} batches, {quarantine[1]} bytes")
    for row in alarms[:_SHOWN_ALARMS]:
        alarm = row.alarm
        print(f"\nALARM {alarm.kind}, {row.count} times, last {_moment(row.last_us)}: {alarm.subject}")
        print(f"  batch {alarm.number} of stream {alarm.stream_id.hex()}: {alarm.detail}")
    if len(alarms) > _SHOWN_ALARMS:
        print(f"\n{len(alarms) - _SHOWN_ALARMS} more alarms: --json shows all")


def _moment(utc_us: int) -> str:
    return datetime.fromtimestamp(utc_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _ranges(missing: tuple[tuple[int, int], ...]) -> str:
    shown = ", ".join(f"{first}-{last}" if first < last else str(first) for first, last in missing[:_SHOWN_RANGES])
    more = len(missing) - _SHOWN_RANGES
    return (shown or "none") + (f" and {more} more ranges" if more > 0 else "")
