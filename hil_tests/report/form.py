# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The certificate as one page for a folder of papers; its digest, as text and QR code, lead to the signed file."""

from __future__ import annotations

from html import escape
from typing import Final

from agent.certificate import Certificate, Outcome, Trial, Value
from hil_tests.report.drawing import code
from hil_tests.report.figures import allowed, measured
from hil_tests.report.style import (
    OUTCOME_COLOURS,
    SIMULATED,
    SIMULATED_CLASS,
    SIMULATED_MEANS,
    STYLE,
    VERDICT_COLOURS,
)

SHOWN: Final = 2
"""Values of each test: the form is one page, the report has them all."""


def code_text(certificate: Certificate, digest: str) -> str:
    """Return what the QR code says, in letters that make it small."""
    simulated = " SIMULATED" if certificate.simulated else ""
    eui = certificate.board.get("eui") or "UNKNOWN"
    return f"CIVIGATE-CERTIFICATE:1 EUI:{eui} {certificate.verdict}{simulated} SHA256:{digest}".upper()


def render(certificate: Certificate, digest: str, key: str) -> str:
    """Return the page.

    Args:
        certificate: what it shows.
        digest: SHA-256 of its canonical form, hex.
        key: the public key of the bench, as text.
    """
    board = certificate.board
    facts = (
        ("Board", board.get("model", "")),
        ("Serial number", board.get("serial", "")),
        ("EUI", board.get("eui", "")),
        ("Chip version", board.get("chip_version", "")),
        ("Bench", f"{certificate.bench.get('name', '')}, {certificate.bench.get('digest', '')[:16]}"),
        ("Operator", certificate.operator),
        ("Time", f"{certificate.began} to {certificate.ended}"),
        (
            "Software",
            " ".join(
                filter(
                    None,
                    (f"civigate {certificate.versions.get('civigate', '')}", certificate.versions.get("commit", "")),
                )
            ),
        ),
    )
    rows = "".join(f"<tr><th>{name}</th><td>{escape(value or 'not named')}</td></tr>" for name, value in facts)
    simulated = (
        f'<div class="verdict simulated">{SIMULATED}</div><p>{SIMULATED_MEANS}</p>' if certificate.simulated else ""
    )
    stamp = "SIMULATED " if certificate.simulated else ""
    grouped = " ".join(digest[start : start + 8] for start in range(0, len(digest), 8))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{stamp}{certificate.verdict}: certificate {escape(board.get("eui", ""))}</title><style>{STYLE}</style></head>
<body{SIMULATED_CLASS if certificate.simulated else ""}>
<header><div><h1>Certificate of a LoRaWAN gateway board</h1>
<div class="verdict" style="background:{VERDICT_COLOURS[certificate.verdict]}">{certificate.verdict}</div>{simulated}
<p>{_meaning(certificate)}</p></div>
<figure>{code(code_text(certificate, digest))}<figcaption>the digest below, to scan</figcaption></figure></header>
<table class="facts">{rows}</table>
<h2>Tests</h2><table>{"".join(map(_row, certificate.tests))}</table>
<h2>Signature</h2>
<p class="mono">SHA-256 {grouped}</p><p class="mono">{escape(key)}</p>
<p class="note">This page is a copy. What counts is the signed file: civigate certificate verify FILE --key KEY says
whether it is whole, of this bench, and of this digest.</p>
<div class="signs"><div>Place, date</div><div>Name, signature</div></div>
</body></html>
"""


def _meaning(certificate: Certificate) -> str:
    match certificate.verdict:
        case "PASS":
            return "Every required test was done and passed."
        case "FAIL":
            return "The board failed at least one test."
    missing = ", ".join(one.id for one in certificate.tests if one.required and one.outcome is not Outcome.PASS)
    return f"Nothing failed, but required tests are missing ({missing}): this says neither yes nor no."


def _row(test: Trial) -> str:
    done = test.outcome in {Outcome.PASS, Outcome.FAIL, Outcome.PARTLY}
    notes = list(map(_said, sorted(test.values, key=lambda one: not one.unit)[:SHOWN])) if done else []
    notes += [] if test.outcome is Outcome.PASS else test.reasons
    return (
        f'<tr><td class="id">{test.id}</td>'
        f'<td class="outcome" style="color:{OUTCOME_COLOURS[test.outcome]}">{test.outcome}</td>'
        f'<td>{escape(test.title)}<div class="note">{escape("; ".join(notes))}</div></td></tr>'
    )


def _said(value: Value) -> str:
    limit = allowed(value)
    return f"{value.name} {measured(value)}" + (f" (allowed: {limit})" if limit else "")
