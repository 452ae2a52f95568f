# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The light is told what to show; that somebody sees it, only hardware shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.provisioning import led
from agent.provisioning.outcome import Stage


@pytest.mark.parametrize("stage", [*Stage, None])
def test_every_stage_has_a_pattern_and_a_person_is_called_fast(tmp_path: Path, stage: Stage | None) -> None:
    led.show(stage, (tmp_path / "absent", tmp_path))
    trigger = (tmp_path / "trigger").read_text()
    if stage is Stage.ONLINE:
        assert trigger == "default-on"
    if stage in {None, Stage.REFUSED, Stage.WHICH_BOARD, Stage.NO_CONCENTRATOR}:
        assert (trigger, (tmp_path / "delay_on").read_text()) == ("timer", "100")


def test_no_light_is_no_error(tmp_path: Path) -> None:
    led.show(Stage.WORKING, (tmp_path / "absent",))
    (tmp_path / "trigger").mkdir()
    led.show(Stage.WORKING, (tmp_path,))
