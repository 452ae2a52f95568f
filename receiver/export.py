# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Receptions into a file, however many: a page at a time, in the order of commit, and on from where it was interrupted.

What is written goes into FILE.part; beside it FILE.part.json says up to which reception, and how many bytes of the file
are good. FILE appears when all of it is there. A Parquet file has its index at the end, so it cannot be gone on with:
it is begun anew.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from receiver.errors import ExportError
from receiver.ledger.port import Column, Found, Wanted
from receiver.ledger.reader import LedgerReader

FORMATS = ("csv", "jsonl", "parquet")
PAGE = 5000
"""Receptions that are held at a time."""
ROW_GROUP = 50_000
"""Receptions in a row group of a Parquet file, the other bound of the memory that is used."""
COLUMNS: dict[str, type] = {
    "id": int,
    "gateway": str,
    "stream": str,
    "seq": int,
    "utc_us": int,
    "utc_error_us": int,
    "utc_source": str,
    "boot": str,
    "session": int,
    "boottime_us": int,
    "counter_us": int,
    "frequency_hz": int,
    "modulation": str,
    "bandwidth_hz": int,
    "datarate": int,
    "coding_rate": str,
    "crc": str,
    "rssi_dbm": float,
    "rssis_dbm": float,
    "snr_db": float,
    "frequency_offset_hz": int,
    "if_chain": int,
    "rf_chain": int,
    "fine_timestamp_ns": int,
    "dev_addr": str,
    "phy_payload": str,
    "received_us": int,
}
"""What is exported: the view `reception`, without what can be computed from the rest."""

Rows = list[dict[str, Column]]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to.

    Attributes:
        rows: written, in all parts of it.
        next: up to which id: the next export goes on after it.
    """

    rows: int
    next: int


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far an interrupted export came: bytes that are good, rows in them, up to which id, and of what."""

    size: int
    rows: int
    next: int
    end: int
    what: str


class Writer(Protocol):
    """Writes rows in one format."""

    def write(self, rows: Rows) -> None:
        """Append rows."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


def export(
    ledger: LedgerReader,
    out: Path,
    form: str,
    wanted: Wanted,
    *,
    after: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Exported:
    """Write the receptions that are wanted, of those that are there now.

    Args:
        ledger: to read from.
        out: file to make; must not exist. What an earlier run of the same export left is gone on with.
        form: one of `FORMATS`.
        wanted: which.
        after: only those with an id beyond it.
        progress: is told ids that are done, of how many.

    Raises:
        ExportError: CG-EXP-001, the file exists; CG-EXP-002, another export was interrupted there; CG-EXP-003, Parquet
            needs a library; CG-EXP-004, it cannot be written.
        LedgerError: the ledger cannot be read.
    """
    if out.exists():
        hint = "choose another name, or remove it"
        raise ExportError("exists already", where=str(out), hint=hint, code="CG-EXP-001")
    part, note = out.with_name(f"{out.name}.part"), out.with_name(f"{out.name}.part.json")
    what = json.dumps([form, after, asdict(wanted) | {"eui": wanted.eui and wanted.eui.hex()}])
    mark = _read_mark(part, note, what) if form != "parquet" else None
    if mark is None:
        mark = _Mark(0, 0, after, ledger.highest(), what)
    try:
        with part.open("r+b" if mark.size else "wb") as file:
            file.truncate(mark.size)
            file.seek(mark.size)
            mark = _Job(ledger, wanted, form, after, progress, note).fill(file, mark)
            os.fsync(file.fileno())
        part.rename(out)
        note.unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, ExportError) or error.errno is None:
            raise
        hint = "make room or choose another folder; the same command goes on from there"
        raise ExportError(
            f"cannot be written: {error.strerror}", where=str(out), hint=hint, code="CG-EXP-004"
        ) from error
    return Exported(mark.rows, mark.next)


def stream(ledger: LedgerReader, file: IO[bytes], form: str, wanted: Wanted, *, after: int = 0) -> Exported:
    """Write the receptions that are wanted into an open file, CSV or JSON lines.

    Raises:
        LedgerError: the ledger cannot be read.
        OSError: the file does not take it.
    """
    writer = _WRITERS[form](file, True)
    rows, reached, end = 0, after, ledger.highest()
    for found in _pages(ledger, wanted, after, end):
        writer.write(found.rows)
        rows, reached = rows + len(found.rows), found.next
    writer.close()
    return Exported(rows, reached)


@dataclass(frozen=True, slots=True)
class _Job:
    """What one export does."""

    ledger: LedgerReader
    wanted: Wanted
    form: str
    after: int
    progress: Callable[[int, int], None]
    note: Path

    def fill(self, file: IO[bytes], mark: _Mark) -> _Mark:
        """Write what is not there yet."""
        with ExitStack() as stack:
            writer = _WRITERS[self.form](file, mark.size == 0)
            stack.callback(writer.close)
            for found in _pages(self.ledger, self.wanted, mark.next, mark.end):
                writer.write(found.rows)
                file.flush()
                mark = _Mark(file.tell(), mark.rows + len(found.rows), found.next, mark.end, mark.what)
                if self.form != "parquet":
                    _write_mark(self.note, mark)
                self.progress(mark.next - self.after, mark.end - self.after)
        return mark


def _pages(ledger: LedgerReader, wanted: Wanted, after: int, end: int) -> Iterator[Found]:
    """Give pages up to an id; what came since is for the next export."""
    while after < end:
        found = ledger.search(after, PAGE, wanted, bulk=True)
        rows = [row for row in found.rows if int(row["id"] or 0) <= end]
        after = min(found.next, end) if found.more or found.next >= end else end
        yield Found(rows, after, more=after < end)


def _read_mark(part: Path, note: Path, what: str) -> _Mark | None:
    try:
        mark = _Mark(**json.loads(note.read_text(encoding="utf-8")))
        if part.stat().st_size < mark.size:
            return None
    except (OSError, ValueError, TypeError):
        return None
    if mark.what != what:
        hint = f"finish it with the same options, or remove {part.name} and {note.name}"
        raise ExportError("another export was interrupted here", where=str(part), hint=hint, code="CG-EXP-002")
    return mark


def _write_mark(note: Path, mark: _Mark) -> None:
    new = note.with_suffix(".new")
    new.write_text(json.dumps(asdict(mark)), encoding="utf-8")
    new.replace(note)


class _Csv:
    def __init__(self, file: IO[bytes], begin: bool) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._csv = csv.writer(self._text, lineterminator="\n")
        if begin:
            self._csv.writerow(COLUMNS)

    def write(self, rows: Rows) -> None:
        self._csv.writerows([row[name] for name in COLUMNS] for row in rows)

    def close(self) -> None:
        self._text.detach()


class _Jsonl:
    def __init__(self, file: IO[bytes], begin: bool) -> None:  # noqa: ARG002 - as the others
        self._file = file

    def write(self, rows: Rows) -> None:
        lines = (json.dumps({name: row[name] for name in COLUMNS}, separators=(",", ":")) for row in rows)
        self._file.write("".join(f"{line}\n" for line in lines).encode())

    def close(self) -> None:
        pass


class _Parquet:
    def __init__(self, file: IO[bytes], begin: bool) -> None:  # noqa: ARG002 - as the others
        try:
            import pyarrow  # noqa: PLC0415 - large, and only for those who want this format
            from pyarrow import parquet  # noqa: PLC0415
        except ImportError as error:
            hint = "pip install pyarrow, or take csv or jsonl"
            raise ExportError("pyarrow is not installed", where="parquet", hint=hint, code="CG-EXP-003") from error
        kinds = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string()}
        self._schema = pyarrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
        self._table: Any = pyarrow.Table
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._waiting: Rows = []

    def write(self, rows: Rows) -> None:
        self._waiting += rows
        if len(self._waiting) >= ROW_GROUP:
            self._flush()

    def close(self) -> None:
        if self._waiting:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        columns = {name: [row[name] for row in self._waiting] for name in COLUMNS}
        self._writer.write_table(self._table.from_pydict(columns, schema=self._schema))
        self._waiting = []


_WRITERS: dict[str, Callable[[IO[bytes], bool], Writer]] = {"csv": _Csv, "jsonl": _Jsonl, "parquet": _Parquet}
