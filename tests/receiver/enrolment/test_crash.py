# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.receiver.enrolment.crashing import STEPS
from tests.receiver.enrolment.town import Asking, town
from tests.receiver.gateway import EUI
from tests.receiver.platform import LIMIT_S, Certificates, until


@pytest.mark.parametrize("step", STEPS)
def test_a_receiver_that_is_killed_costs_neither_code_nor_certificate(
    step: str, tmp_path: Path, certificates: Certificates
) -> None:
    here = town(tmp_path, certificates)
    asking, code = Asking(here), here.code()
    log = tmp_path / "killed.log"
    command = [sys.executable, "-m", "tests.receiver.enrolment.crashing", step, str(here.platform.toml)]
    with log.open("wb") as file:
        killed = subprocess.Popen(command, stderr=file)
    try:
        until(lambda: b"event=ready " in log.read_bytes() or killed.poll() is not None)
        with pytest.raises(httpx.TransportError):
            asking.ask(code)
        assert killed.wait(LIMIT_S) == -signal.SIGKILL
    finally:
        killed.kill()
        killed.wait()
    with here.platform.serving():
        enrolled = asking.enrolled(code)
        assert asking.enrolled(code).chain == enrolled.chain
        # and the code is good for nobody else
        assert Asking(here).ask(code).__class__.__name__ == "TurnedDown"
    (key,) = here.platform.json("gateways", "list")["gateways"]
    assert (key["gateway"], key["kid"]) == (EUI.hex(), asking.signer.kid.hex())
    assert len(here.platform.json("ca", "show")["issued"]) == 1
