# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate spool`: what the box has heard, what waits, whether all is accounted for.

Most verbs only read, and the agent may run. `forget`, `import` and `salvage` write: the agent has to be stopped.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.batch.keys import PublicKey
    from agent.lorawan import Header
    from agent.spool.reader import SealedBatch, SpoolReader, StoredFrame, StreamStatus
    from agent.timeline import Timeline, Utc

EXIT_INTEGRITY = 4

_EXAMPLES = """examples:
  civigate spool status -c /etc/civigate/gateway.toml
  civigate spool list -c /etc/civigate/gateway.toml --dev-addr 26000000/7 --since 2h
  civigate spool list --path /var/lib/civigate/spool.db --port 2 --last 100 --json | jq .dev_addr
  civigate spool show 4711 -c /etc/civigate/gateway.toml
  civigate spool verify -c /etc/civigate/gateway.toml
  civigate spool export /media/stick -c /etc/civigate/gateway.toml
  civigate spool acknowledge /media/stick -c /etc/civigate/gateway.toml
  civigate spool import /media/old-card/spool.db -c /etc/civigate/gateway.toml
  civigate spool forget old-town -c /etc/civigate/gateway.toml

No keys of devices are needed or used. status and verify end with 4 when something does not add up or is damaged.
"""

_AGO = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its verbs."""
    parser = subparsers.add_parser(
        "spool",
        help="look into the store of frames, check it, carry it away",
        description="The frames that wait on this gateway, and the account of all it has heard.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    from agent.cli import spool_acknowledge, spool_export

    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    status = _verb(verbs, "status", _status, "counts for each destination, and whether they add up")
    status.add_argument("--hours", action="store_true", help="also by the hour in which frames were heard")
    listing = _verb(verbs, "list", _list, "the frames that are stored, oldest first")
    listing.add_argument(
        "--dev-addr", type=_dev_addrs, metavar="ADDR", help="only of these devices: 26011f4a, 26000000/7 or FIRST-LAST"
    )
    listing.add_argument("--port", type=_whole(0, 255), metavar="N", help="only with this FPort")
    listing.add_argument("--since", type=_moment, metavar="TIME", help="UTC as 2026-08-25T12:00, or how long ago: 90m")
    listing.add_argument("--until", type=_moment, metavar="TIME", help="the same")
    listing.add_argument("--destination", metavar="NAME", help="only for this destination")
    listing.add_argument(
        "--last", type=_whole(1, 10_000_000), default=50, metavar="N", help="the newest N that fit (50)"
    )
    show = _verb(verbs, "show", _show, "one frame with all that is known of it")
    show.add_argument("seq", type=_whole(1, 1 << 62), metavar="NUMBER", help="first column of list")
    _verb(verbs, "verify", _verify, "read everything; check each frame, each batch, the chain and the sums")
    spool_export.add_arguments(
        _verb(verbs, "export", spool_export.run, "write what waits onto a stick; nothing is freed")
    )
    spool_acknowledge.add_parser(verbs)
    forget = _verb(verbs, "forget", _forget, "give up all that waits for a destination that is gone; it is counted")
    forget.add_argument("destination", metavar="DESTINATION", help="as status names it")
    forget.add_argument("--yes", action="store_true", help="do not ask")
    bring = _verb(verbs, "import", _import, "take over what is not sealed in the spool of another card of this gateway")
    bring.add_argument("source", type=Path, metavar="SPOOL", help="the other card's spool.db; it is only read")
    _verb(verbs, "salvage", _salvage, "save what can be read of a damaged spool into a new one; the old file is kept")


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("-c", "--config", type=Path, metavar="FILE", help="gateway.toml")
    place.add_argument("--path", type=Path, metavar="FILE", help="the spool's database file")
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    parser.set_defaults(func=run)
    return parser


def _open(args: argparse.Namespace) -> SpoolReader:
    from agent import config
    from agent.spool.reader import SpoolReader

    return SpoolReader(args.path or config.load(args.config).spool_path)


def _path(args: argparse.Namespace) -> Path:
    from agent import config

    path: Path = args.path or config.load(args.config).spool_path
    return path


# ---------------------------------------------------------------------- status


def _status(args: argparse.Namespace) -> int:
    from agent import config
    from agent.cli import running

    # first what does not need the card: it may be the card that is the matter
    agent = None if args.path else running.newest(config.load(args.config).gateway.runtime_dir)
    if not args.path and not args.json:
        print("\n".join(running.lines(agent)) + "\n", flush=True)
    with _open(args) as reader:
        now = reader.status()
        wrong = reader.check()
        times = _timeline(reader)
    if args.json:
        said = {
            "spool_id": now.spool_id.hex(),
            "gateway_eui": None if now.gateway_eui is None else now.gateway_eui.hex(),
            "frames": now.frames,
            "used_bytes": now.used_bytes,
            "file_bytes": now.file_bytes,
            "destinations": [_stream_json(stream) for stream in now.streams],
            "wrong": wrong,
            "agent": running.as_json(agent),
        }
        print(json.dumps(said))
    else:
        eui = "not known yet" if now.gateway_eui is None else now.gateway_eui.hex()
        print(f"spool {now.spool_id.hex()}  gateway {eui}")
        print(f"{now.frames:,} frames in {now.used_bytes / 1e6:,.1f} MB of a file of {now.file_bytes / 1e6:,.1f} MB")
        for stream in now.streams:
            print("\n" + "\n".join(_stream_lines(stream)))
            if args.hours:
                print("\n".join(_hour_lines(stream, times)))
        print("\n" + ("all sums match" if not wrong else "\n".join(f"DOES NOT ADD UP: {line}" for line in wrong)))
    return EXIT_INTEGRITY if wrong else 0


def _stream_json(stream: StreamStatus) -> dict[str, object]:
    said = asdict(stream)
    said["stream_id"] = stream.stream_id.hex()
    said["hold_reason"] = None if stream.hold_reason is None else stream.hold_reason.name
    said["waiting"] = stream.unsealed + stream.sealed
    said["hours"] = [
        {
            "boot_id": hour.boot_id.hex(),
            "hour": hour.hour,
            **asdict(hour.account),
            "delivered": hour.delivered,
            "waiting": hour.waiting,
        }
        for hour in stream.hours
    ]
    return said


def _stream_lines(stream: StreamStatus) -> Iterator[str]:
    account = stream.account
    ended = "" if stream.open else "  (replaced by a newer stream)"
    yield f"{stream.destination}  stream {stream.stream_id.hex()}{ended}"
    yield (
        f"  heard {account.heard:,} = bad CRC {account.bad_crc:,} + filtered {account.filtered:,} + "
        f"duplicate {account.duplicate:,} + spooled {account.spooled:,}"
    )
    yield (
        f"  spooled {account.spooled:,} = delivered {stream.delivered:,} + "
        f"waiting {stream.unsealed + stream.sealed:,} + evicted {account.evicted:,} + "
        f"expired {account.expired:,} + quarantined {stream.quarantined:,}"
    )
    yield f"  radio overrun {account.overrun:,}"
    yield (
        f"  batches: {stream.newest:,} sealed, acknowledged through {stream.through:,}, "
        f"{stream.batches:,} waiting with {stream.sealed:,} frames, {stream.unsealed:,} frames not sealed yet"
    )
    if stream.hold_reason is not None:
        yield f"  HELD by the platform: {stream.hold_reason.name}: {stream.hold_detail}"
    if stream.quarantined_batches:
        yield f"  QUARANTINE: {stream.quarantined_batches:,} batches, refused; export them with --quarantine"
    if stream.foreign_answers:
        yield f"  {stream.foreign_answers:,} answers of the platform did not fit what was sealed here"


def _hour_lines(stream: StreamStatus, times: Timeline) -> Iterator[str]:
    from agent.batch.model import HOUR_US, UNKNOWN_BOOT

    for hour in stream.hours:
        utc = times.utc(hour.boot_id, hour.hour * HOUR_US)
        name = f"boot {hour.boot_id.hex()[:4]} hour {hour.hour}" if utc is None else f"from {_iso(utc.utc_us)}"
        name = "earlier or unknown" if hour.boot_id == UNKNOWN_BOOT else name
        account = hour.account
        yield (
            f"    {name:<32} heard {account.heard:,}: bad CRC {account.bad_crc:,}, filtered {account.filtered:,}, "
            f"duplicate {account.duplicate:,}, delivered {hour.delivered:,}, waiting {hour.waiting:,}, "
            f"evicted {account.evicted:,}, expired {account.expired:,}, quarantined {account.quarantined:,}, "
            f"overrun {account.overrun:,}"
        )


# ---------------------------------------------------------------------- list, show


def _list(args: argparse.Namespace) -> int:
    from agent.spool.row import DamagedRowError

    with _open(args) as reader:
        times = _timeline(reader)
        found: list[tuple[StoredFrame, Utc | None]] = []
        damaged = timeless = 0
        for item in reader.rows(newest_first=True):
            if isinstance(item, DamagedRowError):
                damaged += 1
                continue
            utc = times.utc(item.frame.session.boot_id, item.frame.boottime_us)
            if utc is None and (args.since or args.until):
                timeless += 1
                continue
            if _fits(item, utc, args):
                found.append((item, utc))
                if len(found) == args.last:
                    break
    for stored, utc in reversed(found):
        print(json.dumps(_frame_json(stored, utc)) if args.json else _frame_line(stored, utc))
    for count, what in ((timeless, "without a known time left out"), (damaged, "damaged: run civigate spool verify")):
        if count:
            print(f"{count:,} frames {what}", file=sys.stderr)
    return 0


def _show(args: argparse.Namespace) -> int:
    from agent.errors import SpoolError

    with _open(args) as reader:
        times = _timeline(reader)
        stored = next(reader.frames(args.seq, args.seq), None)
        if stored is None:
            raise SpoolError(
                f"no frame {args.seq}",
                where=str(reader.path),
                hint="it was delivered and freed, or never heard; civigate spool list shows what is there",
                code="CG-SPL-017",
            )
    said = _frame_json(stored, times.utc(stored.frame.session.boot_id, stored.frame.boottime_us))
    if args.json:
        print(json.dumps(said))
    else:
        width = max(map(len, said))
        for name, value in said.items():
            print(f"{name:{width}}  {'-' if value is None else value}")
    return 0


def _timeline(reader: SpoolReader) -> Timeline:
    from agent.timeline import Boot, Timeline

    return Timeline(reader.anchors(), [Boot(boot_id, last_us) for boot_id, last_us in reader.boots()])


def _fits(stored: StoredFrame, utc: Utc | None, args: argparse.Namespace) -> bool:
    from agent.lorawan import Data, decode

    if args.destination and args.destination not in stored.destinations:
        return False
    if args.since and (utc is None or utc.utc_us < args.since):
        return False
    if args.until and (utc is None or utc.utc_us > args.until):
        return False
    if args.dev_addr is None and args.port is None:
        return True
    header = decode(stored.frame.phy_payload)
    if not isinstance(header, Data):
        return False
    if args.dev_addr is not None and not args.dev_addr.first <= header.dev_addr <= args.dev_addr.last:
        return False
    return args.port is None or header.f_port == args.port


def _header_json(header: Header) -> dict[str, object]:
    from agent.lorawan import Data, JoinRequest, NotLoRaWAN, Rejoin

    said: dict[str, object] = {"message": type(header).__name__}
    match header:
        case Data():
            said |= {
                "message": ("Confirmed" if header.confirmed else "Unconfirmed") + ("Up" if header.uplink else "Down"),
                "dev_addr": f"{header.dev_addr:08x}",
                "f_cnt": header.f_cnt,
                "f_port": header.f_port,
                "payload_bytes": header.payload_bytes,
            }
        case JoinRequest():
            said |= {"dev_eui": f"{header.dev_eui:016x}", "join_eui": f"{header.join_eui:016x}"}
        case Rejoin():
            said |= {"dev_eui": f"{header.dev_eui:016x}"}
        case NotLoRaWAN(reason):
            said |= {"reason": reason.value}
    return said


def _frame_json(stored: StoredFrame, utc: Utc | None) -> dict[str, object]:
    from agent.lorawan import decode

    frame = stored.frame
    source = None if utc is None else "neighbouring boots" if utc.source is None else utc.source.name.lower()
    return {
        "seq": stored.seq,
        "utc": None if utc is None else _iso(utc.utc_us),
        "utc_error_ms": None if utc is None else round(utc.error_us / 1000, 3),
        "utc_source": source,
        **_header_json(decode(frame.phy_payload)),
        "frequency_hz": frame.frequency_hz,
        "modulation": frame.modulation.name,
        "bandwidth_hz": frame.bandwidth_hz,
        "datarate": frame.datarate,
        "coding_rate": f"4/{frame.coding_rate + 4}" if frame.coding_rate else None,
        "crc": frame.crc.name,
        "rssi_dbm": frame.rssi_ddbm / 10,
        "rssi_signal_dbm": None if frame.rssis_ddbm is None else frame.rssis_ddbm / 10,
        "snr_db": None if frame.snr_qdb is None else frame.snr_qdb / 4,
        "frequency_offset_hz": frame.frequency_offset_hz,
        "if_chain": frame.if_chain,
        "rf_chain": frame.rf_chain,
        "boot_id": frame.session.boot_id.hex(),
        "session": frame.session.number,
        "boottime_us": frame.boottime_us,
        "counter_us": frame.counter_us,
        "fine_timestamp_ns": frame.fine_timestamp_ns,
        "destinations": list(stored.destinations),
        "phy_payload": frame.phy_payload.hex(),
    }


def _frame_line(stored: StoredFrame, utc: Utc | None) -> str:
    frame = stored.frame
    said = _frame_json(stored, utc)
    moment = (
        f"boot {frame.session.boot_id.hex()[:4]} +{frame.boottime_us / 1e6:.3f} s"
        if utc is None
        else f"{_iso(utc.utc_us)} ±{_error(utc.error_us)}"
    )
    device = said.get("dev_addr") or said.get("dev_eui") or ""
    details = " ".join(
        f"{label} {said[name]}" for label, name in (("fcnt", "f_cnt"), ("port", "f_port")) if said.get(name) is not None
    )
    rate = f"SF{frame.datarate}" if frame.modulation.name == "LORA" else f"FSK{frame.datarate}"
    snr = "" if frame.snr_qdb is None else f" {frame.snr_qdb / 4:+.1f} dB"
    return (
        f"{stored.seq:>8}  {moment:<32}  {said['message']:<15} {device:<16} {details:<18} "
        f"{frame.frequency_hz / 1e6:.1f} MHz {rate:<5} {frame.rssi_ddbm / 10:.0f} dBm{snr}  "
        f"{len(frame.phy_payload)} B  {','.join(stored.destinations)}"
    )


# ---------------------------------------------------------------------- verify


def _verify(args: argparse.Namespace) -> int:
    from agent.spool.row import DamagedRowError

    with _open(args) as reader:
        frames = 0
        ranges: list[list[int]] = []
        for item in reader.rows():
            frames += 1
            if isinstance(item, DamagedRowError):
                if ranges and ranges[-1][1] == item.seq - 1:
                    ranges[-1][1] = item.seq
                else:
                    ranges.append([item.seq, item.seq])
        batches, faults = _verify_batches(reader, _public_keys(args))
        faults = [f"frames {first} to {last} are damaged" for first, last in ranges] + faults + reader.check()
    if args.json:
        print(json.dumps({"frames": frames, "batches": batches, "damaged": ranges, "faults": faults}))
    else:
        for fault in faults:
            print(fault)
        outcome = f"{len(faults):,} faults" if faults else "all good"
        print(f"{frames:,} frames and {batches:,} batches read, {outcome}")
    return EXIT_INTEGRITY if faults else 0


def _verify_batches(reader: SpoolReader, keys: Mapping[bytes, PublicKey]) -> tuple[int, list[str]]:
    """Rebuild every batch; follow the chain of each stream; verify signatures where the key is known."""
    from agent.batch import codec
    from agent.batch.errors import RefusedError
    from agent.spool.reader import DamagedBatchError

    count = 0
    faults: list[str] = []
    before: SealedBatch | None = None
    for batch in reader.batches():
        count += 1
        name = f"batch {batch.number} of stream {batch.stream.stream_id.hex()}"
        try:
            wire = reader.wire(batch)
            header = codec.read_header(batch.signed_header)
            if codec.glimpse(wire).kid in keys:  # one of an earlier key was verified when that signed
                codec.open_wire(wire, keys.get)
            follows = before is not None and (before.stream.key, before.number + 1) == (batch.stream.key, batch.number)
            if follows and before is not None and header.previous_hash != before.hash:
                faults.append(f"{name} does not follow batch {before.number}")
        except (DamagedBatchError, RefusedError) as error:
            faults.append(str(error))
        before = batch
    return count, faults


def _public_keys(args: argparse.Namespace) -> dict[bytes, PublicKey]:
    """Return the gateway's keys by kid, where the configuration leads to them and they may be read."""
    from agent import config, identity
    from agent.errors import AgentError

    if args.config is None:
        return {}
    try:
        gateway = identity.load(config.load(args.config))
        signers = [gateway.signer] if gateway.previous is None else [gateway.signer, gateway.previous]
        return {signer.kid: signer.public for signer in signers}
    except AgentError as error:
        print(f"signatures are not checked: {error}", file=sys.stderr)
        return {}


# ---------------------------------------------------------------------- forget, import, salvage


def _forget(args: argparse.Namespace) -> int:
    from agent import config
    from agent.errors import SpoolError
    from agent.spool.upkeep import forget_destination

    path = _path(args)
    if args.config is not None and args.destination in {one.name for one in config.load(args.config).destination}:
        raise SpoolError(
            f"destination {args.destination} is still configured",
            where=str(args.config),
            hint="remove its [[destination]] first; what waits for it would only grow again",
            code="CG-SPL-020",
        )
    with _open(args) as reader:
        streams = [s for s in reader.status().streams if s.destination == args.destination]
    waiting = sum(stream.unsealed + stream.sealed for stream in streams)
    parked = sum(stream.quarantined for stream in streams)
    if streams and not args.yes:
        print(f"{waiting:,} frames wait for {args.destination} and {parked:,} are quarantined. They will be deleted.")
        if input(f"Type {args.destination} to go on: ").strip() != args.destination:
            print("nothing was changed")
            return 1
    gone = forget_destination(path, args.destination)
    if args.json:
        print(json.dumps({"destination": args.destination, "forgotten": gone}))
    else:
        print(f"{gone:,} frames given up, counted as evicted; their room is free")
    return 0


def _import(args: argparse.Namespace) -> int:
    from agent.spool.upkeep import import_frames

    done = import_frames(_path(args), args.source)
    if args.json:
        print(json.dumps({"imported": done.frames, "damaged": done.damaged, "sealed": done.sealed}))
    else:
        print(f"{done.frames:,} frames taken over; they travel with the next batches")
        if done.damaged:
            print(f"{done.damaged:,} frames there are damaged and were left out")
        if done.sealed:
            print(
                f"{done.sealed:,} frames there are in batches that may have been sent: bring them to the platform with "
                f"civigate spool export --path {args.source} STICK"
            )
    return EXIT_INTEGRITY if done.damaged else 0


def _salvage(args: argparse.Namespace) -> int:
    from agent.spool.upkeep import salvage_spool

    found = salvage_spool(_path(args))
    if args.json:
        print(json.dumps({**asdict(found), "aside": str(found.aside)}))
    else:
        print(f"{found.frames:,} frames saved; the damaged file is kept as {found.aside}")
        for first, last in found.damaged:
            print(f"frames {first} to {last} cannot be read")
        for name, count in found.lost.items():
            print(f"{name}: {count:,} frames are lost; the platform is told")
        print(f"{found.batches:,} sealed batches are whole, {found.broken_batches:,} are not")
    return 0


# ---------------------------------------------------------------------- values


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return parse


def _dev_addrs(text: str) -> object:
    from agent.filter import parse_dev_addrs

    try:
        return parse_dev_addrs(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def _moment(text: str) -> int:
    ago = _AGO.fullmatch(text)
    if ago is not None:
        moment = datetime.now(UTC) - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is neither a time like 2026-08-25T12:00 nor 90m") from error
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _iso(utc_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=utc_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _error(error_us: int) -> str:
    return f"{error_us / 1000:.0f} ms" if error_us < 10_000_000 else f"{error_us / 1e6:.0f} s"
