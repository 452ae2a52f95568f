# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the writer says of its destinations to those who look is what the spool holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.spool import writer as writers
from agent.spool.intake import Hour
from agent.spool.reader import SpoolReader
from agent.spool.standing import Standing
from tests.agent.spool.gateway import BOOT, CITY, WATER, Platform, frame, heard, wait_for, writer


def told(folder: Path) -> dict[str, tuple[object, int, int]]:
    """Return account, delivered and waiting frames of each destination, as the file has them."""
    with SpoolReader(folder / "spool.db") as reader:
        return {
            stream.destination: (stream.account, stream.delivered, stream.unsealed + stream.sealed)
            for stream in reader.status().streams
        }


def test_standings_are_those_of_the_file_and_come_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "STANDINGS_EVERY_S", 0.02)
    monkeypatch.setattr(writers, "LOOK_S", 0.02)
    platform = Platform()
    with writer(tmp_path, (CITY, WATER)) as spool:

        def agree() -> bool:
            said = {one.destination: (one.account, one.delivered, one.waiting) for one in spool.standings}
            return said == told(tmp_path)

        assert [one.oldest for one in spool.standings] == [None, None]
        for index in range(5):
            frames = [frame(10 * index + at) for at in range(10)]
            spool.offer(heard(frames, [1 + at % 3 for at in range(10)], destinations=2, foreign=index))
            assert spool.flush()
            wait_for(agree)
        city, water = spool.standings
        assert (city.waiting, water.waiting) == (35, 30)
        assert city.oldest == Hour(BOOT, 0)
        with spool.reader() as reader:
            platform.collect(reader)
            stream_id = next(stream.stream_id for stream in reader.status().streams if stream.destination == "city")
        spool.receipt(platform.receipt(stream_id))
        wait_for(lambda: agree() and spool.standings[0].delivered == 35)
        assert spool.standings[0].oldest is None
    with writer(tmp_path, (CITY, WATER)) as again:
        assert {one.destination: (one.account, one.delivered, one.waiting) for one in again.standings} == told(tmp_path)


def test_how_long_the_oldest_has_waited_is_told_without_a_wall_clock() -> None:
    def age_s(oldest: Hour | None) -> float | None:
        return Standing("city", None, 0, 0, oldest).oldest_s(BOOT, 9_000_000_000)  # type: ignore[arg-type]

    assert age_s(None) is None
    assert age_s(Hour(BOOT, 2)) == 1800.0
    assert age_s(Hour(bytes(16), 77)) == 9000.0
