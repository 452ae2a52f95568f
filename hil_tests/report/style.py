# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""How both pages look, on a screen and on A4."""

from __future__ import annotations

from typing import Final

from agent.certificate import Outcome, Verdict

VERDICT_COLOURS: Final = {Verdict.PASS: "#17693a", Verdict.FAIL: "#a8201a", Verdict.INCOMPLETE: "#8a5a00"}
OUTCOME_COLOURS: Final = {
    Outcome.PASS: "#17693a",
    Outcome.FAIL: "#a8201a",
    Outcome.ERROR: "#8a3b00",
    Outcome.PARTLY: "#8a5a00",
    Outcome.SKIPPED: "#5c6370",
    Outcome.NOT_RUN: "#5c6370",
}
SIMULATED: Final = "SIMULATED: no hardware was tested"
SIMULATED_MEANS: Final = "The board was emulated by a program. This page says nothing about any device."
SIMULATED_CLASS: Final = ' class="is-simulated"'
_MARK: Final = (
    "%3Csvg xmlns='http://www.w3.org/2000/svg' width='420' height='260'%3E%3Ctext x='30' y='190' transform='rotate(-24 "
    "210 130)' font-family='sans-serif' font-size='54' font-weight='700' fill='%234b3f8f' fill-opacity='.10'%3E"
    "SIMULATED%3C/text%3E%3C/svg%3E"
)
"""Behind all of a page whose board was none, so that no cut-out of it passes for more."""
STYLE: Final = """
:root { color-scheme: light; --grey: #5c6370; --line: #d5d9e0; }
* { box-sizing: border-box; }
body { font: 14px/1.4 system-ui, "Noto Sans", "Liberation Sans", sans-serif; color: #1b1f27; background: #fff;
  margin: 0 auto; padding: 18px; max-width: 900px; overflow-wrap: anywhere; }
header { display: flex; gap: 18px; justify-content: space-between; align-items: flex-start; flex-wrap: wrap; }
header > div { flex: 1 1 340px; }
h1 { font-size: 1.4rem; line-height: 1.2; margin: 0 0 2px; }
h2 { font-size: 1.02rem; margin: 18px 0 6px; border-bottom: 2px solid #1b1f27; padding-bottom: 2px; }
.verdict { display: inline-block; color: #fff; padding: 5px 14px; border-radius: 5px; font-weight: 700;
  font-size: 1.15rem; margin: 8px 8px 4px 0; }
.simulated { background: #4b3f8f; }
body.is-simulated { border: 6px solid #4b3f8f; border-width: 6px 0; background-image: url("data:image/svg+xml,MARK"); }
p { margin: 4px 0; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 3px 8px 3px 0; border-bottom: 1px solid var(--line); }
thead th { font-size: 12px; color: var(--grey); font-weight: 500; white-space: nowrap; }
.facts th { width: 9em; color: var(--grey); font-weight: 500; }
.facts td { font-variant-numeric: tabular-nums; }
td.id { font-weight: 700; white-space: nowrap; width: 3.2em; }
.outcome { font-weight: 700; white-space: nowrap; }
.note { color: var(--grey); font-size: 12px; }
a { color: inherit; }
section { border-top: 1px solid var(--line); padding: 6px 0 8px; break-inside: avoid; }
section h3 { font-size: 14px; margin: 0; } section h4 { font-size: 13px; font-weight: 500; margin: 5px 0 1px; }
.value { display: grid; grid-template-columns: 1fr 8em 13em 110px; gap: 0 10px; padding: 1px 0 1px 14px;
  font-variant-numeric: tabular-nums; }
.value span:nth-child(2) { text-align: right; }
@media (max-width: 620px) { .value { grid-template-columns: 7em 1fr; border-left: 2px solid var(--line);
  margin-top: 4px; padding-left: 8px; } .value .name, .value span:last-child { grid-column: 1 / -1; }
  .value span:nth-child(2) { text-align: left; } }
svg.bar { width: 110px; height: 9px; display: block; margin-top: 5px; }
svg.chart { width: 100%; max-width: 640px; height: auto; display: block; }
svg.chart text { font-size: 11px; fill: #1b1f27; }
article { border-left: 5px solid #a8201a; padding: 2px 0 2px 12px; margin: 10px 0; }
article h3 { font-size: 1rem; margin: 0 0 3px; }
pre { font-size: 11px; line-height: 1.3; white-space: pre-wrap; background: #f5f6f8; padding: 8px; margin: 6px 0; }
figure { margin: 0; width: 150px; } figure svg { width: 150px; height: 150px; display: block; }
figcaption { font-size: 11px; text-align: center; color: var(--grey); }
.mono { font-family: ui-monospace, "Liberation Mono", monospace; font-size: 12px; }
.signs { display: flex; gap: 30px; margin-top: 40px; break-inside: avoid; }
.signs div { flex: 1; border-top: 1px solid #1b1f27; padding-top: 4px; font-size: 12px; color: var(--grey); }
footer { margin-top: 16px; font-size: 12px; color: var(--grey); }
@media print { html { font-size: 11px; } figure, figure svg { width: 105px; height: auto; }
  body { padding: 0; font-size: 10px; line-height: 1.25; max-width: none; }
  @page { size: A4; margin: 11mm; } * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  h2 { margin: 9px 0 3px; } th, td { padding: 1px 6px 1px 0; } thead th, .note, .mono, footer { font-size: 9px; }
  svg.bar { height: 6px; margin-top: 3px; } svg.chart { max-width: 420px; } tr, article h3 { break-inside: avoid; }
  details > summary { list-style: none; } .signs { margin-top: 24px; }
  section { padding: 3px 0; } section h3 { font-size: 10px; }
  section h4 { font-size: 9px; margin: 1px 0 0; } .value { padding: 0 0 0 10px; font-size: 9px; } }
""".replace("MARK", _MARK)
