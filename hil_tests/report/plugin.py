# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The plugin that gathers results while pytest runs, keeps the evidence of failures, and writes the reports at the end.

A test that ends with a `BenchError` is an error of the bench and no failure of the product: so it is shown, and so it
is certified. One that was left out, or broken off, was not done, whatever its beginning said.
"""

from __future__ import annotations

import datetime
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest

from agent.batch import keyfile
from agent.batch.keys import Ed25519Signer, Signer
from agent.certificate import Outcome, Value, digest_of, sign
from hil_tests.bench.model import Bench
from hil_tests.bench.roles import BenchError
from hil_tests.measured import EMULATED, FACT, LINE, VALUE
from hil_tests.report import drift, form, junit, page
from hil_tests.report.results import Outcomes, Result

BENCH: Final = pytest.StashKey[Bench]()
"""The bench of this run, once it is open."""
STEP: Final = pytest.StashKey[int]()
"""How many steps its log had when the test began."""
BENCH_FAILED: Final = "hil-bench-failed"
EVIDENCE: Final = "hil-evidence"
NO_REPORT: Final = "build/hil-failures"
"""Where evidence goes when no report was asked for."""
MAX_REASON: Final = 300
LEFT_OUT: Final = "left out of this run"
BROKEN_OFF: Final = "the run was broken off before its end"


class Reporter:
    """Gathers, and writes.

    Args:
        config: of pytest.
        folder: where the reports go; None for none, only evidence of failures.
    """

    def __init__(self, config: pytest.Config, folder: Path | None) -> None:
        self._config = config
        self.folder = folder
        self._began = _now()
        self._phases: dict[str, list[pytest.TestReport]] = {}
        self._numbers: dict[str, tuple[str, bool]] = {}
        self._left_out: set[str] = set()
        self.outcomes: Outcomes | None = None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note each part of the list, also those that this run does not come to, deselects, or was not told to take."""
        if self.folder is None:
            return
        for item in _parts_beside(session):
            if (mark := item.get_closest_marker("hil")) is not None:
                self._numbers[item.nodeid] = (mark.args[0], bool(mark.kwargs.get("required", True)))
        self._left_out = set(self._numbers) - {item.nodeid for item in session.items}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Iterator[pytest.TestReport | None]:
        """Tell the bench's faults from the product's, and keep the evidence."""
        report: pytest.TestReport = yield  # type: ignore[misc, assignment]  # what the other implementations made
        if report.failed:
            if call.excinfo is not None and isinstance(call.excinfo.value, BenchError):
                report.user_properties.append((BENCH_FAILED, str(call.excinfo.value)))
            for path in self._keep(item, report):
                report.user_properties.append((EVIDENCE, str(path)))
        return report  # type: ignore[return-value]  # a wrapper returns what the hook does

    def pytest_sessionstart(self) -> None:
        """Forget the evidence of an earlier run."""
        if self.folder is not None:
            shutil.rmtree(self.folder / "attachments", ignore_errors=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather."""
        self._phases.setdefault(report.nodeid, []).append(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.CollectReport | pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Show a fault of the bench as an error."""
        noted = getattr(report, "user_properties", ())  # a module that cannot be collected has none
        if report.failed and any(name == BENCH_FAILED for name, _ in noted):
            return "error", "B", ("BENCH ERROR", {"yellow": True})
        return None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the reports."""
        bench = self._config.stash.get(BENCH, None)
        if self.folder is None or bench is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.outcomes = outcomes = self.gathered(bench)
        junit.write(outcomes, self.folder / "junit.xml")
        signer = self._signer(bench, simulated=outcomes.simulated)
        certificate = outcomes.certificate()
        name = certificate.board["eui"] or "board"
        (self.folder / f"{name}.json").write_bytes(sign(certificate, signer))
        digest = digest_of(certificate, signer.public)
        (self.folder / f"{name}.html").write_text(form.render(certificate, digest, signer.public.text))
        (self.folder / "bench.pub").write_text(signer.public.text + "\n")
        (self.folder / "report.html").write_text(page.render(outcomes, self.folder))
        record = drift.record_of(outcomes)
        if record is not None and bench.history is not None:
            drift.append(bench.history, record)
            (self.folder / "drift.html").write_text(drift.render(drift.read(bench.history), bench.name))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where they are."""
        if self.outcomes is not None and self.folder is not None:
            simulated = ", SIMULATED" if self.outcomes.simulated else ""
            terminalreporter.write_line(f"{self.outcomes.verdict}{simulated}: {self.folder / 'report.html'}")

    def gathered(self, bench: Bench) -> Outcomes:
        """Return what became of everything so far."""
        facts = {
            "bench": bench.name,
            "bench digest": bench.digest,
            "civigate": metadata.version("civigate"),
            "commit": _commit(self._config.rootpath),
            **{
                name: str(self._config.getoption(f"--{name.replace(' ', '-')}"))
                for name in ("board serial", "operator")
            },
            **bench.description,
        }
        for reports in self._phases.values():
            facts.update(dict(json.loads(str(said)) for name, said in _properties(reports) if name == FACT))
        begun = {**self._phases, **{nodeid: [] for nodeid in self._numbers if nodeid not in self._phases}}
        results = tuple(self._result(nodeid, reports) for nodeid, reports in begun.items())
        return Outcomes(results, facts, self._began, _now(), bench.seed, bench.simulated or EMULATED in facts)

    def _result(self, nodeid: str, reports: list[pytest.TestReport]) -> Result:
        said = _properties(reports)
        failed = next((one for one in reports if one.failed), None)
        skipped = next((one for one in reports if one.skipped), None)
        number, required = self._numbers.get(nodeid, ("", False))
        reason, details, outcome = "", "", Outcome.PASS
        if failed is not None:
            # What fails later, such as a teardown without the node, says nothing of what failed first.
            blame = [text for name, text in failed.user_properties if name == BENCH_FAILED]
            outcome = Outcome.ERROR if blame else Outcome.FAIL
            crash = getattr(failed.longrepr, "reprcrash", None)
            said_last = str(crash.message if crash is not None else failed.longrepr)
            reason = str(blame[0]) if blame else said_last.removeprefix("AssertionError: ")
            details = "\n\n".join([failed.longreprtext, *(text for _, text in failed.sections)])
        elif skipped is not None:
            outcome = Outcome.SKIPPED
            where = skipped.longrepr
            reason = str(where[2] if isinstance(where, tuple) else where).removeprefix("Skipped: ")
        elif {one.when for one in reports} != {"setup", "call", "teardown"}:
            # Ctrl-C leaves no report of the phase that it ended, only those before it.
            outcome = Outcome.NOT_RUN
            reason = LEFT_OUT if nodeid in self._left_out else BROKEN_OFF
        return Result(
            name=nodeid.rpartition("::")[2],
            number=number,
            required=required,
            outcome=outcome,
            took_s=sum(one.duration for one in reports),
            reason=reason.splitlines()[0][:MAX_REASON] if reason else "",
            values=tuple(Value(**json.loads(str(text))) for name, text in said if name == VALUE),
            lines=tuple(_drawn(str(text)) for name, text in said if name == LINE),
            details=details,
            attachments=tuple(Path(str(text)) for name, text in said if name == EVIDENCE),
        )

    def _keep(self, item: pytest.Item, report: pytest.TestReport) -> list[Path]:
        """Keep log, console, journal, trace and spool of a failure."""
        bench = item.config.stash.get(BENCH, None)
        if bench is None:
            return []
        root = self.folder or item.config.rootpath / NO_REPORT
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", item.name).strip("-")
        folder = root / "attachments" / f"{plain}-{report.when}"
        folder.mkdir(parents=True, exist_ok=True)
        steps = bench.steps.since(item.stash.get(STEP, 0))
        if steps:
            (folder / "steps.txt").write_text("".join(f"{step}\n" for step in steps))
        return bench.evidence(folder)

    @staticmethod
    def _signer(bench: Bench, *, simulated: bool) -> Signer:
        """Return the key of the bench; for what was simulated, or on a bench without a key, one of this run alone.

        That is never written anywhere: the folder of the report is handed out, and who has a key signs what he likes.
        """
        if simulated or bench.signing_key is None:
            return Ed25519Signer.generate()
        return keyfile.load(bench.signing_key)


def _parts_beside(session: pytest.Session) -> Iterator[pytest.Item]:
    """Return all tests of the folders that this run takes tests from; it may have been told to take only some."""
    for folder in sorted({item.path.parent for item in session.items}):
        for path in sorted(folder.glob("test_*.py")):
            module = pytest.Module.from_parent(session, path=path)
            yield from (item for item in module.collect() if isinstance(item, pytest.Item))


def _properties(reports: list[pytest.TestReport]) -> list[tuple[str, object]]:
    """Return what a test said; each later report repeats what the earlier ones have."""
    return list(dict.fromkeys(pair for one in reports for pair in one.user_properties))


def _drawn(text: str) -> tuple[str, tuple[tuple[float, float], ...]]:
    name, points = json.loads(text)
    return name, tuple((float(x), float(y)) for x, y in points)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _commit(root: Path) -> str:
    asked = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
