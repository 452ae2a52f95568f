# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What docs/local.md says is what the program does; the page has all words in both languages."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import fields
from pathlib import Path

from agent.local import dialect, peer
from agent.local.remarks import Remark
from agent.local.server import MOST_PER_S, SocketDoor
from agent.local.sighting import Fate, Sighting
from agent.local.web import Http, WebDoor

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "local.md").read_text()
PAGE = ROOT / "agent" / "local" / "page"


def test_every_key_is_documented() -> None:
    for field in (*fields(Sighting), *fields(Remark)):
        assert f"`{field.name}`" in TEXT, field.name
    for fate in Fate:
        assert f"`{fate.value}`" in TEXT


def test_limits_are_those_of_the_program() -> None:
    assert f"at most {dialect.Lines.longest_request} bytes, within {peer.REQUEST_S:.0f} s" in TEXT
    assert f"At most {SocketDoor.most_clients} connections" in TEXT
    request = f"{Http.longest_request // 1000} kB for a request, {MOST_PER_S} new ones"
    assert f"At most {WebDoor.most_clients} connections, {request}" in TEXT
    assert f"At most {WebDoor.most_of_one} of one host." in TEXT
    assert f"{peer.REQUEST_S:.0f} s to ask, {peer.TAKE_S:.0f} s to take the answer" in TEXT
    assert f"takes nothing for {peer.STALL_S:.0f} s is dropped" in TEXT


def words() -> dict[str, dict[str, str]]:
    script = (PAGE / "words.js").read_text().replace("const WORDS", "globalThis.WORDS")
    done = subprocess.run(
        ["node", "-e", f"{script}; console.log(JSON.stringify(WORDS))"], capture_output=True, text=True, timeout=60
    )
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


def test_the_page_has_all_words_in_both_languages() -> None:
    known = words()
    german = {key for key in known["de"] if not key.startswith("remark_")}
    assert german == set(known["en"])
    for key in german:
        assert set(re.findall(r"{\w+}", known["de"][key])) == set(re.findall(r"{\w+}", known["en"][key])), key
    used = set(re.findall(r'data-(?:word|label)="(\w+)"', (PAGE / "page.html").read_text()))
    used |= set(re.findall(r'say\("(\w+)"', (PAGE / "page.js").read_text()))
    assert used <= german


def test_every_remark_has_german_words_with_its_values() -> None:
    source = (ROOT / "agent" / "local" / "remarks.py").read_text()
    keys = set(re.findall(r'_(?:fault|note)\(\s*"(\w+)"', source))
    keys |= {
        f"spool_{state}" for state in ("full", "failing", "read_only", "missing", "unbalanced", "locked", "damaged")
    }
    german = {key.removeprefix("remark_") for key in words()["de"] if key.startswith("remark_")}
    assert keys <= german
    assert german - keys <= {"spool_stopped"}
