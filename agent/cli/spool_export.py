# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate spool export`: write what waits onto a stick, in sealed batches."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import SpoolError

if TYPE_CHECKING:
    from agent.config import GatewayConfig
    from agent.spool.reader import SealedBatch, SpoolReader

EXIT_INTEGRITY = 4
SEAL_LIMIT_S = 30.0
"""How long the running agent may take to seal what waits."""
LOOK_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb has besides those that all of them have."""
    parser.add_argument("target", type=Path, metavar="TARGET", help="a folder (one file per stream), or a new file")
    parser.add_argument("--destination", metavar="NAME", help="only of this destination")
    parser.add_argument("--quarantine", action="store_true", help="also what the platform has refused")


def run(args: argparse.Namespace) -> int:
    """Write the files; 4 when a batch is damaged."""
    from agent import config
    from agent.spool.reader import SpoolReader
    from agent.spool.state import BatchState

    settings = None if args.path else config.load(args.config)
    why_unsealed = "start the agent for a moment, it seals them" if settings is None else _seal(settings)
    with SpoolReader(args.path if settings is None else settings.spool_path) as reader:
        status = reader.status()
        wanted = [
            batch
            for batch in _batches_to_export(reader, args.destination)
            if args.quarantine or batch.state is BatchState.WAITING
        ]
        unsealed = sum(s.unsealed for s in status.streams if args.destination in (None, s.destination))
        files = _files(args.target, wanted, status.gateway_eui)
        written = [0, 0]
        damaged: list[str] = []
        try:
            for path, batches in files.items():
                _write(path, reader, batches, written, damaged)
        except OSError as error:
            if isinstance(error, SpoolError):
                raise
            raise SpoolError(
                f"cannot be written: {error.strerror}",
                where=str(error.filename or args.target),
                hint="check that the stick is mounted, writable and has room",
                code="CG-SPL-018",
            ) from error
    for fault in damaged:
        print(f"left out: {fault}", file=sys.stderr)
    if args.json:
        said = {
            "files": [str(path) for path in files],
            "batches": written[0],
            "frames": written[1],
            "unsealed": unsealed,
            "damaged": len(damaged),
        }
        print(json.dumps(said))
    else:
        for path in files:
            print(path)
        print(f"{written[0]:,} batches with {written[1]:,} frames; they stay here until the platform's receipt comes")
        if unsealed:
            print(f"{unsealed:,} frames are not sealed yet and were left out: {why_unsealed}")
    return EXIT_INTEGRITY if damaged else 0


def _seal(settings: GatewayConfig) -> str:
    """Let the running agent seal what waits; return what to say of frames that are not sealed all the same."""
    from agent.cli import running
    from agent.uplink.carried import SEAL, ask

    found = running.newest(settings.gateway.runtime_dir)
    if found is None or not found.current:
        return "the agent does not run; start it for a moment, it seals them when it stops"
    try:
        asked = ask(settings.gateway.runtime_dir, SEAL)
    except SpoolError as error:
        return f"the agent could not be asked to seal them; {error.hint}"
    deadline = time.monotonic() + SEAL_LIMIT_S
    while asked.exists():
        if time.monotonic() > deadline:
            with suppress(OSError):
                asked.unlink()
            return "the agent has not sealed them; civigate spool status says how its disk is"
        time.sleep(LOOK_S)
    return "they came meanwhile, or the agent may not seal more; civigate spool status says why"


def _batches_to_export(reader: SpoolReader, destination: str | None) -> list[SealedBatch]:
    if destination is not None:
        reader.head(destination)  # says so when there is no such destination
    return list(reader.batches(destination))


def _files(target: Path, batches: list[SealedBatch], eui: bytes | None) -> dict[Path, list[SealedBatch]]:
    if not target.is_dir():
        return {target: batches} if batches else {}
    files: dict[Path, list[SealedBatch]] = {}
    streams: dict[int, list[SealedBatch]] = {}
    for batch in batches:
        streams.setdefault(batch.stream.key, []).append(batch)
    for found in streams.values():
        first, last = found[0], found[-1]
        name = f"{(eui or b'').hex()}-{first.stream.stream_id.hex()[:8]}-{first.number}-{last.number}.batches"
        files[target / name] = found
    return files


def _write(path: Path, reader: SpoolReader, batches: list[SealedBatch], written: list[int], damaged: list[str]) -> None:
    """Write a CBOR sequence of batches; it gets its name when all of it is on the stick."""
    from agent.spool.reader import DamagedBatchError

    draft = path.with_name(path.name + ".part")
    with draft.open("wb") as file:
        for batch in batches:
            try:
                file.write(reader.wire(batch))
            except DamagedBatchError as error:
                if reader.is_here(batch):  # else the agent runs, and it was delivered meanwhile
                    damaged.append(str(error))
                continue
            written[0] += 1
            written[1] += batch.frames
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
