# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The table of causes: whole, without contradictions, and none of it unused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.cli.main import main
from agent.doctor import causes
from agent.doctor.finding import Verdict
from agent.uplink.port import Fault
from drivers.errors import DriverError
from tests.agent.doctor.codes import PAGE, listed

FOLDER = Path(causes.__file__).parent
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py")}
TABLE = list(causes.table().values())
NOT_FOR_A_DOCTOR = re.compile(
    r"CG-(TX|EMU-00[5-9]|EMU-0[1-9]|CHIP-006|1261-005|MCU-006|SPI-00[67]|USB-007|FW-(008|009|015))"
)
"""Of transmissions, of emulators being built, of programs that are wrong: no doctor meets them."""


def test_each_entry_says_what_and_why_in_a_line() -> None:
    for cause in TABLE:
        assert re.fullmatch(r"CG-DOC-\d{3}", cause.code), cause.name
        assert cause.verdict is not Verdict.OK, cause.name
        for text in (cause.cause, cause.next_step):
            assert 5 <= len(text) <= 130, (cause.name, text)
            assert "\n" not in text, cause.name
            assert not text.endswith("."), f"{cause.name}: fragments, as all lines of the command"
            text.format_map({word: word for word in re.findall(r"{(\w+)}", text)})


def test_each_entry_is_in_use() -> None:
    quoted = {name for text in SOURCES.values() for name in re.findall(r'"([a-z0-9-]+)"', text)}
    assert {cause.name for cause in TABLE if not cause.errors} <= quoted


def test_codes_and_errors_are_there_once() -> None:
    codes = [cause.code for cause in TABLE]
    assert sorted(codes) == sorted(set(codes))
    errors = [error for cause in TABLE for error in cause.errors]
    assert sorted(errors) == sorted(set(errors))


def test_all_codes_are_documented() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.endswith(listed()), "run: python -m tests.agent.doctor.codes"


def test_codes_are_in_order() -> None:
    codes = [cause.code for cause in TABLE]
    assert codes == sorted(codes)


def test_what_the_checks_name_is_in_the_table() -> None:
    checks = [text for name, text in SOURCES.items() if name != "page.py"]
    named = {name for text in checks for name in re.findall(r'found\(\s*"([a-z0-9-]+)"', text)}
    named |= {name for text in checks for name in re.findall(r'name="([a-z0-9-]+)"', text)}
    assert named <= set(causes.table())
    assert len(named) > 50


def test_every_error_of_hardware_and_link_has_a_cause() -> None:
    drivers = Path("drivers")
    raised = {
        code
        for path in drivers.rglob("*.py")
        for code in re.findall(r"CG-[A-Z0-9]+-\d{3}", path.read_text(encoding="utf-8"))
    }
    explained = {error for cause in TABLE for error in cause.errors}
    missing = {code for code in raised if not NOT_FOR_A_DOCTOR.match(code)} - explained
    assert not missing, "name them in an entry of causes.toml"
    links = {fault.code for fault in Fault} - {"CG-UPL-017", "CG-UPL-018"}  # the spool has checks of its own; a defect
    assert {code for code in links if code <= "CG-UPL-016"} <= explained


def test_an_error_that_nobody_explains_speaks_for_itself() -> None:
    error = DriverError("is odd", op="start", where="X", hint="do this", code="CG-ODD-001")
    finding = causes.of_error("chip", error)
    assert (finding.code, finding.next_step) == ("CG-DOC-019", "do this")
    assert finding.evidence == "X: is odd [CG-ODD-001]"
    assert "{" not in causes.of_detail("chip", "something without any form").next_step


def test_a_code_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--explain", "[cg-doc-305]"]) == 0
    assert "sudo civigate probe --try-boards" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--explain", "CG-SPI-003"])
    assert caught.value.code == 2
