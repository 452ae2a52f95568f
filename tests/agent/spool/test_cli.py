# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""`civigate spool`: what a person sees."""

from __future__ import annotations

import argparse
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from agent.batch.keys import ring
from agent.batch.model import Anchor, Reason, Refusal, TimeSource
from agent.cli import spool as command
from agent.errors import SpoolError
from agent.frame import Session
from tests.agent.spool.gateway import BOOT, CITY, SIGNER, WATER, Platform, frame, heard, wait_for, writer

UTC_US = 1_790_000_000_000_000


def data_up(dev_addr: int, port: int, count: int) -> bytes:
    """Return an unconfirmed data up with ten bytes of payload."""
    return b"\x40" + dev_addr.to_bytes(4, "little") + b"\x80" + count.to_bytes(2, "little") + bytes([port]) + bytes(14)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Twenty sealed frames and five that wait, of three devices, the last five from a boot without a clock."""
    frames = [
        replace(frame(index), phy_payload=data_up(0x26011000 + index % 3, 1 + index % 2, index)) for index in range(25)
    ]
    frames[20:] = [replace(one, session=Session(bytes(16), 2)) for one in frames[20:]]
    with writer(tmp_path, (CITY, WATER)) as spool:
        spool.anchor(Anchor(BOOT, frames[0].boottime_us, UTC_US, 2_000, TimeSource.KERNEL))
        spool.offer(heard(frames[:20], [1 + index % 3 for index in range(20)], destinations=2, foreign=4))
        assert spool.flush()
        spool.offer(heard(frames[20:], [1] * 5, destinations=2))
        wait_for(lambda: spool.status().queued_frames == 0)
        with spool._changed:
            spool._engine.sealer.due = lambda *_, **__: False  # type: ignore[method-assign]  # the stop shall seal nothing
    return tmp_path / "spool.db"


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["spool", *words])
    return int(args.func(args))


def test_status_says_what_is_there_and_that_it_adds_up(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("status", "--path", str(path)) == 0
    said = capsys.readouterr().out
    assert "heard 29 = bad CRC 0 + filtered 11 + duplicate 0 + spooled 18" in said
    assert "all sums match" in said
    assert call("status", "--json", "--path", str(path)) == 0
    city, water = json.loads(capsys.readouterr().out)["destinations"]
    assert (city["destination"], city["waiting"], city["unsealed"]) == ("city", 18, 5)
    assert (water["destination"], water["waiting"], water["account"]["filtered"]) == ("water", 13, 16)


def test_a_sum_that_does_not_match_is_an_integrity_fault(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM frame WHERE seq = 3")
    connection.close()
    assert call("status", "--path", str(path)) == 4
    assert "DOES NOT ADD UP" in capsys.readouterr().out


def listed(capsys: pytest.CaptureFixture[str], path: Path, *words: str) -> list[int]:
    assert call("list", "--path", str(path), "--json", *words) == 0
    return [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()]


def test_list_filters(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, path) == list(range(1, 26))
    assert listed(capsys, path, "--last", "3") == [23, 24, 25]
    assert listed(capsys, path, "--dev-addr", "26011001") == [2, 5, 8, 11, 14, 17, 20, 23]
    assert listed(capsys, path, "--dev-addr", "26011000/31", "--last", "2") == [23, 25]
    assert listed(capsys, path, "--dev-addr", "c0000000/2") == []
    assert listed(capsys, path, "--port", "2", "--last", "2") == [22, 24]
    assert listed(capsys, path, "--destination", "water", "--last", "2") == [18, 20]
    assert listed(capsys, path, "--since", "2026-09-21T13:33:20.100Z", "--until", "2026-09-21T13:33:20.140") == []
    assert listed(capsys, path, "--since", "2026-09-21") == list(range(1, 21))  # the others have no time
    assert listed(capsys, path, "--until", "2026-09-21T14:13:20.020Z") == [1, 2, 3]


def test_list_for_people(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", "--path", str(path), "--last", "6") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "2026-09-21T14:13:20.150Z ±2 ms" in lines[0]
    assert "UnconfirmedUp" in lines[0]
    assert "26011001" in lines[0]
    assert "fcnt 19 port 2" in lines[0]
    assert "boot 0000 +10." in lines[1]


@pytest.mark.parametrize(
    "words",
    [("--dev-addr", "zz"), ("--port", "256"), ("--since", "yesterday"), ("--last", "0"), ("--last", "-1")],
)
def test_wrong_words_are_usage_errors(path: Path, words: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as caught:
        call("list", "--path", str(path), *words)
    assert caught.value.code == 2


def test_show_gives_all_that_is_known(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("show", "2", "--path", str(path), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["dev_addr"], said["f_cnt"], said["f_port"]) == ("26011001", 1, 2)
    assert said["utc"] == "2026-09-21T14:13:20.007Z"
    assert said["utc_source"] == "kernel"
    assert bytes.fromhex(said["phy_payload"]) == data_up(0x26011001, 2, 1)
    assert call("show", "2", "--path", str(path)) == 0
    assert "dev_addr" in capsys.readouterr().out
    with pytest.raises(SpoolError, match="no frame 99"):
        call("show", "99", "--path", str(path))


def test_verify_finds_damage_and_names_the_range(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("verify", "--path", str(path)) == 0
    assert "25 frames and 4 batches read, all good" in capsys.readouterr().out
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE frame SET rssi_ddbm = 1 WHERE seq IN (7, 8, 9, 23)")
    connection.close()
    assert call("verify", "--path", str(path), "--json") == 4
    said = json.loads(capsys.readouterr().out)
    assert said["damaged"] == [[7, 9], [23, 23]]
    assert any("batch 1" in fault for fault in said["faults"])


def test_export_is_what_would_have_travelled(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    assert call("export", str(stick), "--path", str(path), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["batches"], said["frames"], said["unsealed"]) == (4, 26, 5)
    files = sorted(stick.iterdir())
    assert [str(file) for file in files] == sorted(said["files"])
    platform = Platform()
    with writer(path.parent, (CITY, WATER)) as spool, spool.reader() as reader:
        expected = b"".join(reader.wire(batch) for batch in reader.unacknowledged("city", 0, 2))
        assert expected in [file.read_bytes() for file in files]
        platform.collect(reader)
    assert ring(SIGNER.public)(SIGNER.kid) is not None
    assert call("export", str(tmp_path / "one.batches"), "--destination", "water", "--path", str(path)) == 0
    with pytest.raises(SpoolError, match="no destination nowhere"):
        call("export", str(stick), "--destination", "nowhere", "--path", str(path))
    with pytest.raises(SpoolError, match="cannot be written"):
        call("export", str(tmp_path / "missing" / "file"), "--path", str(path))


def test_export_leaves_damaged_batches_out_and_says_so(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE frame SET crc = 1 WHERE seq = 1")  # for city
    connection.close()
    assert call("export", str(tmp_path / "all.batches"), "--path", str(path)) == 4
    captured = capsys.readouterr()
    assert "3 batches" in captured.out
    assert "left out: batch 1" in captured.err


def test_quarantine_is_exported_on_demand(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with writer(path.parent, (CITY, WATER)) as spool, spool.reader() as reader:
        batch = reader.unacknowledged("city")[0]
        refusal = Refusal(batch.stream.stream_id, 1, batch.hash, Reason.MALFORMED, "because", 1)
        spool.refusal(batch.stream.stream_id, 1, refusal)
        assert spool.flush()
    call("export", str(tmp_path / "a"), "--destination", "city", "--path", str(path), "--json")
    without = json.loads(capsys.readouterr().out)["batches"]
    call("export", str(tmp_path / "b"), "--destination", "city", "--quarantine", "--path", str(path), "--json")
    assert json.loads(capsys.readouterr().out)["batches"] == without + 1
    assert call("status", "--path", str(path)) == 0
    assert "QUARANTINE: 1 batches" in capsys.readouterr().out
