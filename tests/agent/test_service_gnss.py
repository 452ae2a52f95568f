# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A gateway whose configuration names a GNSS receiver, on a system without the packages that read it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.config import load
from agent.service import Service


def test_a_receiver_that_cannot_be_read_is_no_reason_not_to_hear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ended the agent with a traceback: no distribution has these packages."""
    config = tmp_path / "gateway.toml"
    config.write_text(
        f'[gateway]\nstate_dir = "{tmp_path}"\nruntime_dir = "{tmp_path}"\n'
        '[concentrator]\nboard = "semtech_corecell_eu868"\n[gnss]\ndevice = "/dev/ttyAMA0"\n'
    )
    for name in list(sys.modules):
        if name.startswith(("agent.gnss", "drivers.gnss", "pynmeagps", "pyubx2")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pynmeagps", None)
    service = Service(load(config))
    writer = cast("Any", SimpleNamespace(anchor=lambda _: None))
    with caplog.at_level(logging.ERROR):
        assert service._start_gnss(writer) is None
    (said,) = [record.getMessage() for record in caplog.records]
    assert "device=/dev/ttyAMA0 missing=pynmeagps hint=install it" in said
