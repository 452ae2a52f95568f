# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A gateway's folder and configuration, and its commands."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

from agent import config
from agent.cli.main import main
from agent.enrolment.enrolling import sets_of
from agent.enrolment.sets import CertificateSets
from tests.receiver.gateway import EUI
from tests.receiver.platform import Done


@dataclass
class GatewayFiles:
    """A gateway before it has met any platform."""

    folder: Path

    @property
    def toml(self) -> Path:
        return self.folder / "gateway.toml"

    @property
    def config(self) -> config.GatewayConfig:
        return config.load(self.toml)

    @property
    def sets(self) -> CertificateSets:
        return sets_of(self.config, "city")

    def run(self, *arguments: str | Path) -> Done:
        """Run a command with our configuration, in this process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*map(str, arguments), "-c", str(self.toml)])
        return Done(code, out.getvalue(), err.getvalue())

    def json(self, *arguments: str | Path) -> dict:  # type: ignore[type-arg] # what JSON gives
        """Run a command that answers with JSON."""
        done = self.run(*arguments, "--json")
        assert done.code == 0, done.err
        return dict(json.loads(done.out))


def gateway_files(folder: Path) -> GatewayFiles:
    """Write a gateway.toml that has no destination yet."""
    folder.mkdir()
    (folder / "gateway.toml").write_text(
        f"""# written by a person
[gateway]
name = "town hall"
eui = "{EUI.hex()}"
state_dir = "state"
runtime_dir = "run"

[concentrator]
board = "semtech_corecell_eu868"
bus = "emulator:{folder}/spi.sock"
"""
    )
    return GatewayFiles(folder)
