# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The certificate as one page for a folder of papers; its digest, as text and QR code, lead to the signed file."""

from __future__ import annotations

from html import escape

from agent.certificate import Certificate, Outcome, Trial
from hil_tests.report.drawing import code
from hil_tests.report.style import OUTCOME_COLOURS, SIMULATED, STYLE, VERDICT_COLOURS


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
    simulated = f'<div class="verdict simulated">{SIMULATED}</div>' if certificate.simulated else ""
    grouped = " ".join(digest[start : start + 8] for start in range(0, len(digest), 8))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Certificate {escape(board.get("eui", ""))}</title><style>{STYLE}</style></head><body>
<header><div><h1>Certificate of a LoRaWAN gateway board</h1>
<div class="verdict" style="background:{VERDICT_COLOURS[certificate.verdict]}">{certificate.verdict}</div>{simulated}
<p>{_meaning(certificate)}</p></div>
<figure>{code(code_text(certificate, digest))}<figcaption>scan and compare</figcaption></figure></header>
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
    return "Nothing failed, but required tests are missing: this says neither yes nor no."


def _row(test: Trial) -> str:
    measured = "; ".join(f"{one.name} {one.value:,.5g} {one.unit}".strip() for one in test.values[:2])
    done = test.outcome in {Outcome.PASS, Outcome.FAIL, Outcome.PARTLY}
    note = measured if done else "; ".join(test.reasons)
    return (
        f'<tr><td class="id">{test.id}</td>'
        f'<td class="outcome" style="color:{OUTCOME_COLOURS[test.outcome]}">{test.outcome}</td>'
        f'<td>{escape(test.title)}</td><td class="note">{escape(note)}</td></tr>'
    )
