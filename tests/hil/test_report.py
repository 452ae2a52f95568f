# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Reports of runs that went well, badly, or not at all: verdicts, pages, JUnit XML, attachments."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from html import escape
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from agent.batch.keys import Ed25519Signer
from agent.certificate import REQUIRED, Outcome, Value, Verdict, digest_of
from hil_tests.catalogue import CATALOGUE, NUMBERS
from hil_tests.report import drift, figures, form, junit, page
from hil_tests.report.drawing import bar, chart, margin
from hil_tests.report.results import Outcomes, Result

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 150
LEVEL = Value("RSSI error, worst", 0.4, "dB", -1.0, 1.0)
PASSED = tuple(Result(f"test_{n.lower()}_x", n, True, Outcome.PASS, 0.1, values=(LEVEL,)) for n in NUMBERS)
WHOLE = Outcomes(
    PASSED,
    {"EUI": "0016c001f1500812", "bench": "lab <1>", "operator": "Zoë & co"},
    "2026-08-25T12:00:00Z",
    "2026-08-25T12:09:00Z",
    seed=5,
    simulated=False,
)


def with_part(number: str, outcome: Outcome, *, required: bool = True) -> Outcomes:
    part = Result(f"test_{number}_more", number, required, outcome, 0.1, reason="because")
    return replace(WHOLE, results=(*PASSED, part))


@pytest.mark.parametrize(
    ("outcomes", "verdict", "line"),
    [
        (WHOLE, Verdict.PASS, Outcome.PASS),
        (with_part("H08", Outcome.FAIL), Verdict.FAIL, Outcome.FAIL),
        (with_part("H08", Outcome.ERROR), Verdict.INCOMPLETE, Outcome.ERROR),
        (with_part("H08", Outcome.SKIPPED), Verdict.INCOMPLETE, Outcome.PARTLY),
        (with_part("H08", Outcome.SKIPPED, required=False), Verdict.PASS, Outcome.PASS),
        (with_part("H08", Outcome.NOT_RUN), Verdict.INCOMPLETE, Outcome.PARTLY),
        (with_part("H08", Outcome.NOT_RUN, required=False), Verdict.PASS, Outcome.PASS),
        (
            replace(WHOLE, results=tuple(one for one in PASSED if one.number != "H08")),
            Verdict.INCOMPLETE,
            Outcome.NOT_RUN,
        ),
    ],
)
def test_what_a_part_does_to_its_line_and_to_the_verdict(outcomes: Outcomes, verdict: Verdict, line: Outcome) -> None:
    (found,) = [one for one in outcomes.tests if one.id == "H08"]
    assert (found.outcome, outcomes.verdict) == (line, verdict)
    assert outcomes.certificate().verdict is verdict


def test_whoever_checks_a_certificate_asks_for_the_tests_of_the_list() -> None:
    assert tuple(entry.number for entry in CATALOGUE if entry.required) == REQUIRED


def test_the_soak_is_not_required() -> None:
    assert [entry.number for entry in CATALOGUE if not entry.required] == ["H21"]
    assert replace(WHOLE, results=tuple(one for one in PASSED if one.number != "H21")).verdict is Verdict.PASS


def test_the_page_begins_with_the_verdict_and_hides_nothing(tmp_path: Path) -> None:
    spool = tmp_path / "attachments/journal.txt"
    spool.parent.mkdir()
    spool.write_text("the last <words>")
    part = Result("test_h16_away", "H16", True, Outcome.FAIL, 2.0, "waited 60 s", details="where", attachments=(spool,))
    text = page.render(replace(WHOLE, results=(*PASSED, part)), tmp_path)
    assert text.index("FAIL") < text.index("H01")
    assert "The board failed H16." in text
    begin = text.index("What went wrong")
    assert "After an outage readings are missing" in text[begin : text.index("The tests", begin)]
    for words in ("waited 60 s", "the last &lt;words&gt;", "attachments/journal.txt", "lab &lt;1&gt;", "Zoë &amp; co"):
        assert words in text
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_a_board_that_was_none_is_stamped_on_every_part_of_every_page(tmp_path: Path) -> None:
    certificate, key = WHOLE.certificate(), Ed25519Signer.generate().public
    digest = digest_of(certificate, key)
    for real, emulated in (
        (page.render(WHOLE, tmp_path), page.render(replace(WHOLE, simulated=True), tmp_path)),
        (
            form.render(certificate, digest, key.text),
            form.render(replace(certificate, simulated=True), digest, key.text),
        ),
    ):
        assert "SIMULATED" not in real.partition("</style>")[2]
        assert "<title>SIMULATED " in emulated
        assert "SIMULATED: no hardware was tested" in emulated
        assert '<body class="is-simulated">' in emulated, "nothing is behind it"
        assert "is-simulated" not in real.partition("</style>")[2]


def test_each_test_says_what_was_asked_measured_and_allowed_and_what_its_failure_means(tmp_path: Path) -> None:
    bad = Value("level at the node", -130.25, "dB", -120.0, None)
    part = Result("test_h07_deaf[868.1 MHz]", "H07", True, Outcome.FAIL, 2.0, "not heard", values=(bad,))
    text = page.render(replace(WHOLE, results=(*PASSED, part)), tmp_path)
    for entry in CATALOGUE:
        start = text.index(f'<section id="{entry.number}">')
        section = text[start : text.index("</section>", start)]
        assert escape(entry.title) in section
        assert escape(entry.failure) in section
        assert "allowed: -1 to 1 dB" in section
        for words in ("deaf: 868.1 MHz", "-130.2 dB", "allowed: at least -120 dB", "beyond its limit"):
            assert (words in section) is (entry.number == "H07")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Value("", 0.0, "", None, 0.0), ("0", "none")),
        (Value("", 25.0, "degC", -20.0, 70.0), ("25 °C", "-20 to 70 °C")),
        (Value("", 12345.6, "us", None, 2e4), ("12,346 µs", "at most 20,000 µs")),
        (Value("", 127.0, "", 127.0, 127.0), ("127", "127")),
        (Value("", 1.0, "s", None, None), ("1 s", "")),
    ],
)
def test_values_in_words(value: Value, said: tuple[str, str]) -> None:
    assert (figures.measured(value), figures.allowed(value)) == said


def test_the_form_carries_the_digest() -> None:
    certificate, key = WHOLE.certificate(), Ed25519Signer.generate().public
    digest = digest_of(certificate, key)
    text = form.render(certificate, digest, key.text)
    assert digest in text.replace(" ", "")
    assert key.text in text
    assert form.code_text(certificate, digest).startswith("CIVIGATE-CERTIFICATE:1 EUI:0016C001F1500812 PASS SHA256:")
    assert "SIMULATED" in form.code_text(replace(certificate, simulated=True), digest)


def test_junit_has_what_was_measured_with_its_limits(tmp_path: Path) -> None:
    odd = Result("test_h09_odd", "H09", True, Outcome.ERROR, 1.0, "bench: \x00", details="\x1b[31m", values=(LEVEL,))
    junit.write(replace(WHOLE, results=(*PASSED, odd)), tmp_path / "junit.xml")
    suite = ET.parse(tmp_path / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("errors"), suite.get("failures")) == (str(len(PASSED) + 1), "1", "0")
    properties = {one.get("name"): one.get("value") for one in suite[0]}
    assert properties["bench"] == "lab <1>"
    assert properties["seed"] == "5"
    case = suite.findall("testcase")[-1]
    assert case[0][0].get("value") == "0.4 dB >= -1 <= 1"


@pytest.mark.parametrize(
    ("value", "room"),
    [
        (Value("", 0.0, "dB", -1.0, 1.0), 1.0),
        (Value("", 0.9, "dB", -1.0, 1.0), 0.1),
        (Value("", 2.0, "dB", -1.0, 1.0), -1.0),
        (Value("", 5.0, "s", None, 10.0), 0.5),
        (Value("", 0.0, "", None, 0.0), 1.0),
        (Value("", 1.0, "", None, 0.0), -1.0),
        (Value("", 7.0, "", 7.0, 7.0), 1.0),
        (Value("", 20.0, "", 10.0, None), 1.0),
        (Value("", 1.0, "", None, None), None),
    ],
)
def test_margins(value: Value, room: float | None) -> None:
    assert margin(value) == (None if room is None else pytest.approx(room))
    assert ("<svg" in bar(value)) is (room is not None)


def test_a_line_of_one_point_is_drawn_and_none_is_not() -> None:
    assert "circle" in chart([("one", ((1.0, 2.0),))])
    assert chart([]) == ""


FAILING = """
from hil_tests.bench.strategy import State
from hil_tests.marks import begins, hil, needs


@hil("H16")
@needs("dut", "platform")
@begins(State.ENROLLED)
def test_h16_fails(bench, measure):
    measure("something", 3, "dB", high=5)
    measure("something else", 7, "dB", high=5)


@hil("H08")
@needs("golden")
def test_h08_is_skipped(bench):
    raise AssertionError
"""


def test_a_failure_leaves_evidence_of_everything(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(FAILING)
    report = tmp_path / "report"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "hil_tests.conftest", "-p", "no:cacheprovider", "-q"),
            *(str(tmp_path / "test_inner.py"), "--rootdir", str(tmp_path), "--hil-report", str(report)),
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        cwd=ROOT,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 skipped" in done.stdout
    (folder,) = (report / "attachments").iterdir()
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"steps.txt", "dut/journal.txt", "dut/status.json", "dut/spool.db", "platform/receiver.txt"} <= found
    assert "event=started" in (folder / "dut/journal.txt").read_text()
    assert "dut.start()" in (folder / "steps.txt").read_text()
    (file,) = report.glob("*.json")
    said = json.loads(file.read_text())["certificate"]
    lines = {one["id"]: one for one in said["tests"]}
    assert said["verdict"] == "FAIL"
    assert [one["value"] for one in lines["H16"]["values"]] == [3, 7]
    assert "something else: 7 dB, allowed at most 5 dB" in lines["H16"]["reasons"][0]
    assert lines["H08"]["outcome"] == "SKIPPED"
    assert "golden" in lines["H08"]["reasons"][0]


def test_the_drift_page_shows_every_run_that_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "bench.jsonl"
    for day, level in ((1, -76.0), (2, -76.5), (9, -82.0)):
        part = Result(
            "test_h08_golden", "H08", True, Outcome.PASS, 0.1, lines=((drift.GOLDEN_LINE, ((868.1, level),)),)
        )
        began = f"2026-08-{day:02}T12:00:00Z"
        facts = {"bench digest": "ab" * 32, "node": "RAK3172 <old>" if day < 9 else "RAK3172 new"}
        record = drift.record_of(replace(WHOLE, results=(*PASSED, part), began=began, facts=facts))
        assert record is not None
        drift.append(file, record)
    with file.open("a") as more:
        more.write('{"utc": "never", "rssi_dbm": [], "note": 1}\nrubbish\n[]\n')
    records = drift.read(file)
    assert [one.mean_dbm for one in records] == [-76.0, -76.5, -82.0]
    text = drift.render(records, "lab <1>")
    for words in ("3 runs", "now -82.0 dBm, -6.0 dB since", "RAK3172 &lt;old&gt;", "lab &lt;1&gt;", "<svg"):
        assert words in text
    assert drift.record_of(WHOLE) is None


def test_the_list_in_the_documentation_is_the_list() -> None:
    text = (ROOT / "docs/hil.md").read_text()
    assert [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| H")] == list(NUMBERS)
    for option in ("--bench", "--gateway", "--hil-report", "--hil-seed", "--board-serial", "--operator"):
        assert option in text
