# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What is exported is what is in the ledger, in each format, from each engine, also after an interruption."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from receiver import export as exporting
from receiver.errors import ExportError
from receiver.export import COLUMNS, FORMATS, export, stream
from receiver.intake import Intake
from receiver.ledger.port import Column, Wanted
from receiver.ledger.writer import LedgerWriter
from tests.receiver.gateway import Gateway
from tests.receiver.platform import Certificates, platform

BOTH_ENGINES = True
Rows = list[dict[str, Column]]


def read_csv(path: Path) -> Rows:
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {name: None if text == "" else COLUMNS[name](text) for name, text in row.items()}
            for row in csv.DictReader(file)
        ]


def read_jsonl(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_parquet(path: Path) -> Rows:
    parquet = pytest.importorskip("pyarrow.parquet")
    return list(parquet.read_table(path).to_pylist())


READ: dict[str, Callable[[Path], Rows]] = {"csv": read_csv, "jsonl": read_jsonl, "parquet": read_parquet}


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PAGE", 7)
    monkeypatch.setattr(exporting, "ROW_GROUP", 10)


@pytest.fixture
def some(ledger: LedgerWriter, intake: Intake, gateway: Gateway) -> LedgerWriter:
    for wire in gateway.wires(5, frames=6):
        intake.submit(wire, sender="here")
    return ledger


def stored(ledger: LedgerWriter) -> Rows:
    return [{name: row[name] for name in COLUMNS} for row in ledger.frames(0, 1000)]


@pytest.mark.parametrize("form", FORMATS)
def test_it_comes_back_as_it_is_in_the_ledger(form: str, some: LedgerWriter, tmp_path: Path) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    seen: list[tuple[int, int]] = []
    done = export(some, tmp_path / "out", form, Wanted(), progress=lambda done, whole: seen.append((done, whole)))
    assert (done.rows, done.next) == (30, 30)
    assert READ[form](tmp_path / "out") == stored(some)
    assert seen[-1] == (30, 30)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == ["out"]


@pytest.mark.parametrize("form", FORMATS)
def test_an_interrupted_export_goes_on(
    form: str, some: LedgerWriter, intake: Intake, gateway: Gateway, tmp_path: Path
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")

    def power_cut(done: int, _whole: int) -> None:
        if done >= 14:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        export(some, out, form, Wanted(), progress=power_cut)
    assert not out.exists()
    with (tmp_path / "out.part").open("ab") as file:
        file.write(b"half a li")  # what was written behind the last mark
    if form != "parquet":
        with pytest.raises(ExportError, match="another export"):
            export(some, out, form, Wanted(until_us=5))
    expected = stored(some)
    intake.submit(gateway.wire(4), sender="here")
    done = export(some, out, form, Wanted())
    rows = READ[form](out)
    assert rows[:30] == expected
    # what is begun anew has also what came since; what is gone on with ends where it was to end
    assert len(rows) == done.rows == (34 if form == "parquet" else 30)
    rest = export(some, tmp_path / "rest", form, Wanted(), after=done.next)
    assert rest.rows == 34 - done.rows


def test_only_what_is_wanted_comes_and_the_cursor_is_at_the_end(some: LedgerWriter, tmp_path: Path) -> None:
    nobody = export(some, tmp_path / "a", "csv", Wanted(eui=b"\1" * 8))
    assert (nobody.rows, nobody.next) == (0, 30)
    assert (tmp_path / "a").read_text() == ",".join(COLUMNS) + "\n"
    device = export(some, tmp_path / "b", "jsonl", Wanted(first_addr=0x26011BDA, last_addr=0x26011BDA), after=10)
    assert (device.rows, device.next) == (20, 30)
    with pytest.raises(ExportError, match="exists"):
        export(some, tmp_path / "b", "jsonl", Wanted())


def test_a_stream_is_the_same(some: LedgerWriter, tmp_path: Path) -> None:
    file = io.BytesIO()
    assert stream(some, file, "csv", Wanted()).rows == 30
    export(some, tmp_path / "a", "csv", Wanted())
    assert file.getvalue() == (tmp_path / "a").read_bytes()


def test_the_memory_does_not_grow_with_the_rows(
    ledger: LedgerWriter, intake: Intake, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PAGE", 100)

    def peak(name: str) -> int:
        tracemalloc.start()
        export(ledger, tmp_path / name, "jsonl", Wanted())
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    intake.submit(gateway.wire(500), sender="here")
    few = peak("few")
    for _ in range(6):
        intake.submit(gateway.wire(500), sender="here")
    assert peak("many") < 2 * few


def test_the_command_says_where_to_go_on(tmp_path: Path, certificates: Certificates) -> None:
    made = platform(tmp_path, certificates)
    gateway = Gateway()
    made.json("gateways", "add", gateway.eui.hex(), "--key", gateway.signer.public.text)
    batches = tmp_path / "x.batches"
    batches.write_bytes(b"".join(gateway.wires(2)))
    made.json("import", batches)
    said = made.json("export", "--format", "csv", "--out", str(tmp_path / "a.csv"), "--dev-addr", "26000000/7")
    assert (said["rows"], said["next"]) == (6, 6)
    text = made.run("export", "--format", "jsonl", "--out", str(tmp_path / "b"), "--after", "4").out
    assert text == f"2 receptions in {tmp_path / 'b'}; for what comes later: --after 6\n"
    again = made.run("export", "--format", "jsonl", "--out", str(tmp_path / "b"))
    assert (again.code, again.err.strip()[-12:]) == (1, "[CG-EXP-001]")
    missing = made.run("export", "--format", "csv", "--out", str(tmp_path / "no" / "b"))
    assert (missing.code, missing.err.strip()[-12:]) == (1, "[CG-EXP-004]")
    gone = made.run("export", "--format", "parquet", "--out", "-")
    assert (gone.code, gone.err.strip()[-12:]) == (1, "[CG-EXP-005]")
