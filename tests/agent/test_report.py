# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import os
import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from agent import report
from agent.cli import running
from agent.errors import AgentError
from agent.radio import RadioStatus
from agent.spool.condition import WriterState, WriterStatus
from agent.uplink.sender import Status
from agent.wear import Card, Forecast, Outlook, Rate

BOOT = bytes(range(16))
NOW_US = 1_000_000_000
SPOOL = WriterStatus(WriterState.OK, "", 3, 0.4, 100, 20, 0, 0, 0, crowded=False, room_bytes=400_000_000)


def said(**changes: object) -> dict[str, object]:
    return {
        "version": report.VERSION,
        "pid": os.getpid(),
        "boot_id": BOOT,
        "boottime_us": NOW_US,
        "spool": {"path": Path("/spool.db"), **asdict(SPOOL)},
        "radio": RadioStatus(eui=BOOT[:8]),
        "outlook": Outlook(),
    } | changes


def shown(folder: Path, after_s: float = 1.0) -> str:
    return "\n".join(running.lines(report.read(folder, BOOT, NOW_US + round(after_s * 1e6))))


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    report.write(tmp_path, said())
    found = report.read(tmp_path, BOOT, NOW_US + 2_000_000)
    assert found is not None
    assert found.current
    assert found.age_s == 2.0
    assert found.said["spool"]["state"] == "ok"
    assert found.said["radio"]["eui"] == BOOT[:8].hex()
    assert [path.name for path in tmp_path.iterdir()] == [report.FILE_NAME]


def test_who_does_not_run_says_nothing(tmp_path: Path) -> None:
    assert report.read(tmp_path, BOOT, NOW_US) is None
    assert "does not run" in shown(tmp_path)
    report.write(tmp_path, said())
    assert "hangs" in shown(tmp_path, 100.0)
    report.write(tmp_path, said(boot_id=bytes(16)))
    assert "before this boot" in shown(tmp_path)
    report.write(tmp_path, said(pid=2**22 + 1))
    assert "has ended" in shown(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": "x"}',
        '{"version": 9, "boot_id": "", "boottime_us": 1}',
        pytest.param(f'{{"version": 1, "pid": 1, "boot_id": "{BOOT.hex()}", "boottime_us": 1e400}}', id="moment"),
        pytest.param(f'{{"version": 1, "pid": 1, "boot_id": "{BOOT.hex()}", "boottime_us": {"9" * 400}}}', id="digits"),
        f'{{"version": 1e999, "pid": 1, "boot_id": "{BOOT.hex()}", "boottime_us": 1}}',
        pytest.param('{"a":' * 100_000, id="deep"),
        pytest.param("[" * 500 + "]" * 500, id="deeper"),
    ],
)
def test_what_is_no_report_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / report.FILE_NAME).write_text(text)
    with pytest.raises(AgentError, match=r"report") as caught:
        report.read(tmp_path, BOOT, NOW_US)
    assert caught.value.code == "CG-RPT-001"


def test_a_newer_version_is_not_guessed_at(tmp_path: Path) -> None:
    report.write(tmp_path, said(version=2))
    with pytest.raises(AgentError, match="version 2"):
        report.read(tmp_path, BOOT, NOW_US)


def test_a_process_that_cannot_be_does_not_run(tmp_path: Path) -> None:
    report.write(tmp_path, said(pid=10**30))
    found = report.read(tmp_path, BOOT, NOW_US)
    assert found is not None
    assert not found.alive


def test_what_is_no_finite_number_is_null_in_the_file_and_out_of_it(tmp_path: Path) -> None:
    report.write(tmp_path, said(outlook=Outlook(card_years=float("inf"))))
    text = (tmp_path / report.FILE_NAME).read_text()
    assert '"card_years": null' in text
    (tmp_path / report.FILE_NAME).write_text(text.replace('"card_years": null', '"card_years": 1e400'))
    found = report.read(tmp_path, BOOT, NOW_US)
    assert found is not None
    assert found.said["outlook"]["card_years"] is None


def test_a_folder_that_is_gone_is_told_once_and_used_again(tmp_path: Path) -> None:
    folder, told = tmp_path / "run", list[str]()
    reporter = report.Reporter(folder, said, told.append)
    reporter.renew()
    reporter.renew()
    assert len(told) == 1
    assert str(folder) in told[0]
    folder.mkdir()
    reporter.renew()
    assert report.read(folder, BOOT, NOW_US) is not None
    reporter.end()
    assert report.read(folder, BOOT, NOW_US) is None


def test_a_value_that_json_cannot_hold_does_not_silence_the_agent(tmp_path: Path) -> None:
    told: list[str] = []
    parts: list[dict[str, object]] = [said(odd=object()), said()]
    reporter = report.Reporter(tmp_path, parts.pop, told.append)
    parts.reverse()
    reporter.renew()
    assert len(told) == 1
    reporter.renew()
    assert report.read(tmp_path, BOOT, NOW_US) is not None


def test_a_state_that_is_not_ok_stands_out(tmp_path: Path) -> None:
    bad = asdict(SPOOL) | {"state": WriterState.READ_ONLY, "detail": "it is read-only; remount it [CG-SPL-007]"}
    report.write(tmp_path, said(spool=bad | {"shed_frames": 7, "slow_commits": 2, "longest_commit_s": 4.2}))
    text = shown(tmp_path)
    assert "WRITING: READ-ONLY: it is read-only" in text
    assert "7 frames were shed" in text
    assert "2 commits took seconds, the longest 4.2 s" in text


def test_a_key_that_cannot_sign_stands_out(tmp_path: Path) -> None:
    report.write(tmp_path, said(spool=asdict(SPOOL) | {"sealing": "the token is not there; plug it in [CG-IDN-021]"}))
    assert "SEALING WAITS, frames are kept: the token is not there" in shown(tmp_path)


def test_the_documented_keys_are_those_of_the_report() -> None:
    text = (Path(__file__).parents[2] / "docs" / "status.md").read_text()
    for name, kind in (("spool", WriterStatus), ("outlook", Outlook)):
        section = text.partition(f"## `{name}`")[2].partition("##")[0]
        documented = {key for line in section.splitlines() for key in re.findall(r"`(\w+)`", line.partition(" | ")[0])}
        assert documented - {"path"} == {field.name for field in fields(kind)}
    for field in (*fields(RadioStatus), *fields(Status)):
        assert f"`{field.name}`" in text, field.name
    for state in WriterState:
        assert f"`{state.value}`" in text


def machine(folder: Path, *, partition: bool, sectors: int, life: str | None = None) -> Card:
    """Make what sysfs shows of a card."""
    number = folder.stat().st_dev
    whole = folder / "sys/devices/mmcblk0"
    place = whole / "mmcblk0p2" if partition else whole
    (place).mkdir(parents=True, exist_ok=True)
    (whole / "dev").write_text("179:0\n")
    (whole / "stat").write_text(f"1 2 3 4 5 6 {sectors} 8 9 10 11\n")
    if partition:
        (place / "partition").write_text("2\n")
    if life is not None:
        (whole / "device").mkdir(exist_ok=True)
        (whole / "device/life_time").write_text(life)
    link = folder / "sys/dev/block" / f"{os.major(number)}:{os.minor(number)}"
    if not link.exists():
        link.parent.mkdir(parents=True)
        link.symlink_to(place)
    (folder / "proc/self").mkdir(parents=True, exist_ok=True)
    (folder / "proc/self/cgroup").write_text("1:name=systemd:/\n0::/system.slice/civigate.service\n")
    group = folder / "sys/fs/cgroup/system.slice/civigate.service"
    group.mkdir(parents=True, exist_ok=True)
    (group / "io.stat").write_text(f"8:0 rbytes=1 wbytes=77\n179:0 rbytes=5 wbytes={sectors * 128} rios=1 wios=1\n")
    return Card(folder, folder / "sys", folder / "proc")


@pytest.mark.parametrize("partition", [False, True])
def test_writes_are_those_of_the_whole_card(tmp_path: Path, partition: bool) -> None:
    card = machine(tmp_path, partition=partition, sectors=1000)
    assert (card.name, card.written_bytes(), card.own_bytes()) == ("mmcblk0", 512_000, 128_000)
    assert card.life_used() is None
    machine(tmp_path, partition=partition, sectors=1000, life="0x01 0x03\n")
    assert card.life_used() == 0.3


def test_a_forecast_of_card_and_buffer(tmp_path: Path) -> None:
    card = machine(tmp_path, partition=True, sectors=0, life="0x05 0x01\n")
    forecast = Forecast(card, 1e12)
    assert forecast.look(1000.0, 0, None).daily_bytes == 0
    for minute in range(1, 121):
        machine(tmp_path, partition=True, sectors=minute * 120_000)  # 60 kB/s and a bit
        found = forecast.look(1000.0 + minute * 60, minute * 6_000, 10_000_000)
    assert found.device == "mmcblk0"
    assert found.daily_bytes == pytest.approx(120_000 * 512 * 1440)
    assert found.daily_bytes_own == pytest.approx(120_000 * 128 * 1440)
    assert found.card_years == pytest.approx(1e12 / 2 / (120_000 * 512 * 1440) / 365.25)
    assert found.buffer_days == pytest.approx(10_000_000 / (6_000 * 1440))
    assert "50% of its life" in "\n".join(running._card(asdict(found)))


def test_no_device_no_forecast(tmp_path: Path) -> None:
    found = Forecast(Card(tmp_path, tmp_path / "nothing", tmp_path), 1e12).look(1e6, 5, 5)
    assert found == Outlook()
    assert "no block device" in "\n".join(running._card(asdict(found)))


def test_a_rate_forgets_what_is_older_than_a_day_and_a_counter_that_began_anew() -> None:
    rate = Rate()
    for hour in range(72):
        rate.take(hour * 3600.0, hour * 100 if hour < 24 else 2400 + (hour - 24) * 10)
    assert rate.per_day == pytest.approx(240, rel=0.05)
    rate.take(73 * 3600.0, 0)
    assert rate.per_day is None
    rate.take(74 * 3600.0, 50)
    assert rate.per_day == pytest.approx(1200)
