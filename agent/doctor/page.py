# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The commissioning sheet: one HTML page that needs nothing else, for a phone, a printer and a folder of papers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Final

from agent.doctor.finding import Finding, Verdict

if TYPE_CHECKING:
    from agent.doctor.sheet import Sheet

_WORDS: Final = {
    Verdict.OK: "All in order",
    Verdict.WARN: "Works, with warnings",
    Verdict.FAIL: "Does not work as it should",
}
_MARKS: Final = {Verdict.OK: "ok", Verdict.WARN: "warning", Verdict.FAIL: "failed", Verdict.SKIPPED: "not checked"}
_STYLE: Final = """
:root { color-scheme: light; --ok: #17693a; --warn: #8a5a00; --fail: #a8201a; --skipped: #5c6370; --line: #d5d9e0; }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, "Noto Sans", "Liberation Sans", sans-serif; color: #1b1f27; background: #fff;
  margin: 0 auto; padding: 18px; max-width: 860px; overflow-wrap: anywhere; }
header { display: flex; gap: 18px; justify-content: space-between; align-items: flex-start; flex-wrap: wrap; }
header > div { flex: 1 1 320px; }
h1 { font-size: 1.5rem; line-height: 1.2; margin: 0 0 2px; }
h2 { font-size: 1.05rem; margin: 24px 0 8px; border-bottom: 2px solid #1b1f27; padding-bottom: 3px; }
.verdict { display: inline-block; color: #fff; padding: 5px 12px; border-radius: 5px; font-weight: 700; margin: 8px 0; }
.bg-ok { background: var(--ok); } .bg-warn { background: var(--warn); } .bg-fail { background: var(--fail); }
.bg-simulated { background: #4b3f8f; }
figure { margin: 0; width: 150px; } figure svg { width: 150px; height: 150px; display: block; }
figcaption { font-size: 11px; text-align: center; color: var(--skipped); }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; vertical-align: top;
  padding: 5px 8px 5px 0; border-bottom: 1px solid var(--line); } th { font-weight: 600; white-space: nowrap; }
.facts th { width: 9em; color: var(--skipped); font-weight: 500; }
.mark { font-weight: 700; white-space: nowrap; width: 6.5em; }
.mark.ok { color: var(--ok); } .mark.warn, h3.warn { color: var(--warn); } .mark.fail, h3.fail { color: var(--fail); }
.skipped { color: var(--skipped); } .mark.skipped { font-weight: 500; }
article { border-left: 5px solid; padding: 2px 0 2px 12px; margin: 12px 0; break-inside: avoid; }
article.warn { border-color: var(--warn); } article.fail { border-color: var(--fail); }
article h3 { font-size: 1rem; margin: 0 0 3px; } article p { margin: 3px 0; }
article b { font-weight: 600; }
.code { font-size: 12px; color: var(--skipped); white-space: nowrap; }
.signs { display: flex; gap: 30px; margin-top: 44px; break-inside: avoid; }
.signs div { flex: 1; border-top: 1px solid #1b1f27; padding-top: 4px; font-size: 12px; color: var(--skipped); }
footer { margin-top: 20px; font-size: 12px; color: var(--skipped); }
@media screen and (max-width: 560px) { .seen tr { display: grid; grid-template-columns: 6.5em 1fr; padding: 5px 0;
  border-bottom: 1px solid var(--line); } .seen td, .seen th { border: 0; padding: 0; }
  .seen td:last-child { grid-column: 1 / 3; } }
@media print { body { padding: 0; font-size: 11.5px; max-width: none; } @page { size: A4; margin: 14mm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def number_of(sheet: Sheet) -> str:
    """Return the number of a sheet: the beginning of the SHA-256 of what it says."""
    return hashlib.sha256(_json(sheet).encode()).hexdigest()[:16]


def code_text(sheet: Sheet) -> str:
    """Return what the QR code says: gateway, verdict, time and number of the sheet, in letters that make it small."""
    moment = f"{_moment(sheet):%Y-%m-%dT%H:%M:%SZ}"
    eui = sheet.eui or "UNKNOWN"
    simulated = " SIMULATED" if sheet.simulated else ""
    return f"CIVIGATE:1 EUI:{eui} {sheet.verdict.value}{simulated} {moment} SHEET:{number_of(sheet)}".upper()


def render(sheet: Sheet, *, signed: bool, why: str = "") -> bytes:
    """Return the page, without its signature.

    Args:
        sheet: what it shows.
        signed: whether a signature comes behind it.
        why: none does.

    Raises:
        ImportError: the package that draws QR codes is not installed.
    """
    title = f"civigate: {sheet.name or sheet.eui or 'gateway'}, {_moment(sheet):%Y-%m-%d}"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
            *_head(sheet),
            *_todo(sheet),
            *_all(sheet),
            '<div class="signs"><div>Place, date</div><div>Name, signature</div></div>',
            f"<footer>{_footer(sheet, signed=signed, why=why)}</footer>",
            f'<script type="application/json" id="findings">{_embedded(sheet)}</script>',
            "</body></html>",
            "",
        ]
    ).encode()


def embedded_key(page: bytes) -> str:
    """Return the public key that a page itself names; empty when it names none. It proves nothing by itself."""
    begin, end = b'id="findings">', b"</script>"
    _, _, rest = page.rpartition(begin)
    try:
        said = json.loads(rest.partition(end)[0])
        key = said["gateway"]["key"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return key if isinstance(key, str) else ""


def _head(sheet: Sheet) -> Iterator[str]:
    counts = sheet.counts
    order = (Verdict.FAIL, Verdict.WARN, Verdict.OK, Verdict.SKIPPED)
    summed = ", ".join(f"{_MARKS[v]}: {counts[v.value]}" for v in order if counts[v.value])
    yield "<header><div>"
    yield f"<h1>{escape(sheet.name or 'LoRaWAN gateway')}</h1><div>Commissioning sheet of a LoRaWAN gateway</div>"
    yield f'<div class="verdict bg-{sheet.verdict.value}">{_WORDS[sheet.verdict]}</div>'
    if sheet.simulated:
        yield '<div class="verdict bg-simulated">SIMULATED: the concentrator is an emulated one</div>'
    yield f"<div>{summed}</div></div>"
    yield f"<figure>{_code(sheet)}<figcaption>sheet {number_of(sheet)}</figcaption></figure></header>"
    yield '<h2>The gateway</h2><table class="facts">'
    facts = (
        ("EUI", sheet.eui),
        ("Key", sheet.kid),
        ("Machine", sheet.machine),
        ("Board, plan", ", ".join(filter(None, (sheet.board, sheet.plan)))),
        ("Looked at", f"{_moment(sheet):%Y-%m-%d %H:%M:%S} UTC by the gateway's clock, by {sheet.user}"),
        ("Agent", sheet.agent),
        ("Program", sheet.program),
    )
    for name, value in facts:
        yield f"<tr><th>{name}</th><td>{escape(value or 'not known')}</td></tr>"
    yield "</table>"


def _todo(sheet: Sheet) -> Iterator[str]:
    """What is to be done, the failures first."""
    matters = [f for v in (Verdict.FAIL, Verdict.WARN) for f in sheet.findings if f.verdict is v]
    if not matters:
        return
    yield "<h2>What is to be done</h2>"
    for finding in matters:
        kind = finding.verdict.value
        yield f'<article class="{kind}"><h3 class="{kind}">{escape(finding.check)}: {_MARKS[finding.verdict]}</h3>'
        yield f"<p>{escape(finding.evidence)}</p><p><b>Likely cause:</b> {escape(finding.cause)}</p>"
        step = escape(finding.next_step)
        yield f'<p><b>Next step:</b> {step} <span class="code">{finding.code}</span></p></article>'


def _all(sheet: Sheet) -> Iterator[str]:
    yield '<h2>All that was looked at</h2><table class="seen">'
    for finding in sheet.findings:
        yield _row(finding)
    yield "</table>"


def _row(finding: Finding) -> str:
    kind = finding.verdict.value
    note = f" <span class=skipped>({escape(finding.cause)})</span>" if kind == "skipped" and finding.cause else ""
    return (
        f'<tr><td class="mark {kind}">{_MARKS[finding.verdict]}</td><th>{escape(finding.check)}</th>'
        f"<td>{escape(finding.evidence)}{note}</td></tr>"
    )


def _footer(sheet: Sheet, *, signed: bool, why: str) -> str:
    number = number_of(sheet)
    if not signed:
        return f"Sheet {number}. Not signed{escape(f': {why}' if why else '')}."
    return (
        f"Sheet {number}, signed with the gateway's key. Is it as the gateway made it? "
        f"<code>civigate doctor --verify FILE --key KEY</code> says so, with the key that the platform has registered."
    )


def _code(sheet: Sheet) -> str:
    import segno

    drawn: str = segno.make(code_text(sheet), error="m", micro=False).svg_inline(border=4, omitsize=True)
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(code_text(sheet))}" ', 1)


def _moment(sheet: Sheet) -> datetime:
    return datetime.fromtimestamp(sheet.utc_us // 1_000_000, UTC)


def _json(sheet: Sheet) -> str:
    return json.dumps(sheet.as_json(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _embedded(sheet: Sheet) -> str:
    """Return the JSON so that nothing in it ends the element that holds it."""
    return _json(sheet).replace("<", "\\u003c")
