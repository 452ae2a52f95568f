# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What can be saved from a damaged spool: every row that can be read, into a new file; the old one is kept aside.

SQLite stops at the first bad page. Reading by ranges of row numbers, halved wherever that fails, comes to all that lies
on good pages; frames to which the tree does not lead any more are found by looking at every page, whatever it is
(`agent.spool.hidden`). A row counts only if it fits its checksum. Sealed batches stay what they are, in their old
streams, which go on until they are empty, so that nothing travels twice; whatever was not sealed travels in new ones.

Frames since the snapshot have no gaps in their numbers, and the account knows how many there were before; so what is
missing is known exactly, but for what stood in a last page of which nothing is left: there the most is declared that it
can have held.

The new file takes the place of the old one in steps that can be repeated, so that a power cut at any moment leaves
either the old file or the new one, complete.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from agent.batch.model import Account
from agent.errors import SpoolError
from agent.spool import aside, store, wal
from agent.spool.intake import Heard
from agent.spool.pages import Pages
from agent.spool.salvage_streams import Rescue
from agent.spool.salvaged import Salvaged
from agent.spool.soundness import check_ways, header_damaged, schema_fits
from agent.spool.state import load
from agent.spool.store import scalar

log = logging.getLogger(__name__)

LOOKED_BACK = 100_000
"""Frames that are compared with the journal; it never holds more."""
DAMAGED = "CG-SPL-004"


def pending(path: Path) -> Path:
    """Return where the new file lies, complete, until it has taken its place."""
    return path.with_name(path.name + ".new")


def finish(path: Path) -> None:
    """Let the new file take its place, if there is one. The caller holds the lock.

    Raises:
        OSError: the folder cannot be written.
    """
    if not pending(path).exists():
        return
    for suffix in ("-wal", "-shm"):  # of the old file: with the new one they would be taken for its own
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    _sync_folder(path)
    pending(path).replace(path)
    _sync_folder(path)


def salvage(
    path: Path, destinations: Sequence[str] = (), spool_id: bytes | None = None, left_out: Sequence[bytes] = ()
) -> Salvaged:
    """Save what can be read into a new file in the place of the old. The caller holds the lock and no connection.

    Args:
        path: of the spool.
        destinations: as configured, for the case that the spool does not tell.
        spool_id: the same.
        left_out: pages of the log that are not in it any more.

    Raises:
        SpoolError: the new file cannot be written, for one because there is no room.
        OSError: the same.
    """
    draft = path.with_name(path.name + ".part")
    _sweep(path)
    kept = aside.name_for(path)
    source = _open(path)
    try:
        source, place = _readable(source, path)
        target = store.open_writer(draft, 1 << 40)
        target.execute("PRAGMA journal_mode = OFF")  # a draft that is not finished is thrown away: write it once
        try:
            with store.explained(draft):
                with Pages(place, left_out) as pages:
                    found = Rescue(source, target, kept, pages).run(destinations, spool_id)
                target.execute("PRAGMA journal_mode = DELETE")  # all in one file
        finally:
            target.close()
        source.close()
        _sync(draft)
        _keep(path, kept)
        draft.replace(pending(path))
    finally:
        source.close()
        _sweep(path)
    _sync_folder(path)
    finish(path)
    log.error(
        "event=spool_salvaged kept=%s frames=%d damaged=%s batches=%d broken=%d",
        *(kept, found.frames, list(found.damaged), found.batches, found.broken_batches),
    )
    return found


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def _readable(source: sqlite3.Connection, path: Path) -> tuple[sqlite3.Connection, Path]:
    """Return a connection that can read the schema, and to what: where its pages are damaged, a copy with new ones.

    The tables of a schema version are made in one order, so their first pages are the same in every spool that was
    never migrated.
    """
    with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
        if (
            not header_damaged(path)
            and schema_fits(source)
            and source.execute("SELECT count(*) FROM spool").fetchone()[0] >= 0
        ):
            return source, path
    source.close()
    copy = path.with_name(path.name + ".part-source")
    model = path.with_name(path.name + ".part-model")
    shutil.copyfile(path, copy)
    wal = path.with_name(path.name + "-wal")
    if wal.exists():
        shutil.copyfile(wal, copy.with_name(copy.name + "-wal"))
    model.unlink(missing_ok=True)
    store.open_writer(model, 1 << 40).close()
    with contextlib.closing(_open(model)) as made:
        tables = {root for (root,) in made.execute("SELECT rootpage FROM sqlite_schema")}
    pages = bytearray(model.read_bytes())
    pages[28:32] = (copy.stat().st_size // store.PAGE_BYTES).to_bytes(4, "big")  # size of the database
    pages[32:40] = bytes(8)  # no free pages
    with copy.open("r+b") as file:
        for number in range(1, len(pages) // store.PAGE_BYTES + 1):
            if number not in tables:
                place = (number - 1) * store.PAGE_BYTES
                file.seek(place)
                file.write(pages[place : place + store.PAGE_BYTES])
    log.warning("event=spool_schema_damaged file=%s", path)
    return _open(copy), copy


def _sweep(path: Path) -> None:
    for rest in path.parent.glob(f"{path.name}.part*"):
        rest.unlink(missing_ok=True)


def mend(path: Path, destinations: Sequence[str]) -> Salvaged | None:
    """Salvage a spool that is damaged beyond what the writer can go on with; None when there is nothing to do.

    The caller holds the lock.

    Raises:
        SpoolError: the new file cannot be written.
        OSError: the same.
    """
    finish(path)
    _sweep(path)
    if not path.exists() or not path.stat().st_size:
        return None
    finding, left_out = wal.mend(path)
    if finding is wal.Finding.BROKEN:
        return salvage(path, destinations, left_out=left_out)
    if header_damaged(path):
        log.error("event=spool_damaged problem=%s: its header is damaged", path)
        return salvage(path, destinations)
    try:
        with contextlib.closing(store.open_reader(path, older=True)) as connection, store.explained(path):
            if scalar(connection, "PRAGMA user_version", int):  # else it was never completed
                connection.execute("BEGIN")
                known = load(connection)
                if not schema_fits(connection):
                    raise sqlite3.DatabaseError("the schema is damaged")
                check_ways(path, connection, known)
    except SpoolError as error:
        if error.code != DAMAGED and "no such" not in error.what:  # a table or column whose name has changed
            raise
        log.error("event=spool_damaged problem=%s", error)  # noqa: TRY400 - it is dealt with
        return salvage(path, destinations)
    return None


def unless_kept(connection: sqlite3.Connection, heard: Iterable[tuple[int, Heard]]) -> list[tuple[int, Heard]]:
    """Leave out of the journal's records what the spool has, where its position in the journal was lost.

    Args:
        connection: to the spool.
        heard: records, as (number, what was heard).
    """
    newest = connection.execute("SELECT max(seq) FROM frame").fetchone()[0] or 0
    kept = {
        (session, counter_us, payload)
        for session, counter_us, payload in connection.execute(
            "SELECT session, counter_us, phy_payload FROM frame WHERE seq > ?", (newest - LOOKED_BACK,)
        )
    }
    left = []
    for number, look in heard:
        frames = tuple(
            routed
            for routed in look.frames
            if (routed.frame.session.number, routed.frame.counter_us, routed.frame.phy_payload) not in kept
        )
        tallies = []
        for index, tally in enumerate(look.tallies):
            gone = tally.spooled - sum(routed.route >> index & 1 for routed in frames)
            tallies.append(tally + Account(heard=-gone, spooled=-gone))
        left.append((number, replace(look, frames=frames, tallies=tuple(tallies))))
    return left


def _keep(path: Path, kept: Path) -> None:
    """Give the damaged file a second name: its own is about to be taken."""
    for suffix in ("-wal", ""):
        old, new = path.with_name(path.name + suffix), kept.with_name(kept.name + suffix)
        if old.exists():
            try:
                os.link(old, new)
            except OSError:  # a file system without links
                shutil.copy2(old, new)
                _sync(new)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot
        _sync(path.parent)
