# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The commissioning sheet: what it shows, its QR code, and that no byte of it can be changed unnoticed."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import cbor2
import pytest
import segno
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch import cose
from agent.batch.keys import Ed25519Signer, ES256Signer
from agent.batch.receipt import open_answer
from agent.cli.main import main
from agent.doctor import page, screen, seal
from agent.doctor.causes import found
from agent.doctor.finding import Finding, Verdict, ok, skipped
from agent.doctor.sheet import Sheet
from agent.errors import AgentError, BatchError
from tests.agent.doctor.scene import Scene

Capsys = pytest.CaptureFixture[str]
KEY = Ed25519Signer.generate()
FINDINGS = (
    ok("config", "all is there"),
    found("undervoltage-now", "power", "get_throttled 0x50005"),
    found("gnss-no-fix", "gnss", "no fix, 2 satellites"),
    skipped("noise", "nothing measures it"),
)


def sheet(findings: tuple[Finding, ...] = FINDINGS, name: str = "mast 7") -> Sheet:
    return Sheet(
        program="civigate 0.1.0",
        boot_id="00" * 16,
        boottime_us=1,
        utc_us=1_795_400_120_750_445,
        took_s=4.2,
        name=name,
        eui="0016c001ff123456",
        kid=KEY.kid.hex(),
        key=KEY.public.text,
        machine="Raspberry Pi 4 Model B Rev 1.4",
        board="rak_2287",
        plan="eu868",
        agent="running",
        user="root",
        simulated=False,
        findings=findings,
    )


def sealed(of: Sheet | None = None) -> bytes:
    of = of or sheet()
    return seal.seal(page.render(of, signed=True), of, KEY)


def test_verdict_and_counts() -> None:
    assert sheet().verdict is Verdict.FAIL
    assert sheet(FINDINGS[2:]).verdict is Verdict.WARN
    assert sheet((FINDINGS[0], FINDINGS[3])).verdict is Verdict.OK
    assert sheet().counts == {"fail": 1, "warn": 1, "ok": 1, "skipped": 1}


def test_a_sheet_verifies_with_its_key() -> None:
    told = seal.unseal(sealed(), KEY.public, where="sheet")
    assert (told.eui.hex(), told.verdict, told.utc_us) == ("0016c001ff123456", "fail", 1_795_400_120_750_445)
    other = ES256Signer.generate()
    signed = seal.seal(page.render(sheet(), signed=True), sheet(), other)
    assert seal.unseal(signed, other.public, where="sheet").kid == other.kid


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0), change=st.integers(1, 255))
def test_no_byte_can_be_changed(at: int, change: int) -> None:
    data = bytearray(SEALED)
    data[at % len(data)] ^= change
    with pytest.raises(BatchError):
        seal.unseal(bytes(data), KEY.public, where="sheet")


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0), more=st.binary(min_size=1, max_size=40))
def test_nothing_can_be_put_in_or_behind(at: int, more: bytes) -> None:
    begin = at % (len(SEALED) + 1)
    with pytest.raises(BatchError):
        seal.unseal(SEALED[:begin] + more + SEALED[begin:], KEY.public, where="sheet")


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_file_is_refused_with_an_error(data: bytes) -> None:
    with pytest.raises(AgentError):
        seal.unseal(data, KEY.public, where="sheet")
    with pytest.raises(AgentError):
        seal.unseal(b"x\n" + seal.BEGIN + base64.b64encode(data) + seal.END, KEY.public, where="sheet")


def test_a_signature_of_another_kind_is_no_sheet() -> None:
    message = SEALED[SEALED.rindex(seal.BEGIN) + len(seal.BEGIN) : -len(seal.END)]
    with pytest.raises(BatchError):
        open_answer(base64.b64decode(message), {KEY.kid: KEY.public}.get)
    with pytest.raises(BatchError) as caught:
        seal.unseal(SEALED, Ed25519Signer.generate().public, where="sheet")
    assert caught.value.code == "CG-DOC-902"


class Text(HTMLParser):
    """Collects text and checks that elements are closed in order."""

    VOID = frozenset({"meta", "path", "br", "!doctype"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.said: list[str] = []
        self.external: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.external += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in {"script", "style"}:
            self.said.append(data)


def read(data: bytes) -> Text:
    text = Text()
    text.feed(data.decode())
    assert text.open == []
    return text


def test_the_page_needs_nothing_else_and_says_all() -> None:
    text = read(SEALED)
    assert text.external == []
    said = " ".join(text.said)
    for word in ("mast 7", "Does not work as it should", "0016c001ff123456", "get_throttled 0x50005", "CG-DOC-101"):
        assert word in said
    assert "SIMULATED" not in said


def test_the_qr_code_is_the_one_of_its_text() -> None:
    wanted = "CIVIGATE:1 EUI:0016C001FF123456 FAIL 2026-11-23T02:15:20Z SHEET:" + page.number_of(sheet()).upper()
    assert page.code_text(sheet()) == wanted
    drawn = re.search(r'<svg .*?<path [^>]*d="([^"]*)"', SEALED.decode(), re.DOTALL)
    assert drawn is not None
    code = segno.make(wanted, error="m", micro=False)
    assert code.mode == "alphanumeric"
    assert _modules(drawn[1], len(code.matrix)) == [[bool(cell) for cell in row] for row in code.matrix]
    assert html.escape(wanted) in SEALED.decode()


def _modules(path: str, size: int) -> list[list[bool]]:
    """Read the dark modules back from the lines that are drawn; four modules of quiet zone around."""
    dark = [[False] * size for _ in range(size)]
    x, y = 0.0, 0.0
    for kind, numbers in re.findall(r"([Mmh])([-\d. ]+)", path):
        values = [float(number) for number in re.findall(r"-?[\d.]+", numbers)]
        if kind == "M":
            x, y = values
        elif kind == "m":
            x, y = x + values[0], y + values[1]
        else:
            for column in range(round(x), round(x + values[0])):
                dark[int(y) - 4][column - 4] = True
            x += values[0]
    return dark


NASTY = '</script><script>alert(1)</script>" onload="x" & <b>'


def test_names_from_outside_stay_text() -> None:
    nasty = sheet((ok("config", NASTY), found("other", "chip", NASTY, hint=NASTY)), name=NASTY)
    data = page.render(nasty, signed=False)
    text = read(data)
    assert "alert(1)" in " ".join(text.said)
    assert data.count(b"<script") == 1, "the findings as JSON, and nothing else"
    embedded = re.search(r'id="findings">(.*?)</script>', data.decode(), re.DOTALL)
    assert embedded is not None
    assert json.loads(embedded[1]) == nasty.as_json()


@settings(max_examples=50, deadline=None)
@given(name=st.text(max_size=40), evidence=st.text(max_size=80))
def test_any_text_is_shown_and_signed(name: str, evidence: str) -> None:
    odd = sheet((ok("config", evidence.replace("\udcff", "")),), name=name)
    assert seal.unseal(sealed(odd), KEY.public, where="sheet").verdict == "ok"
    assert list(screen.lines(odd.findings[0], colour=False, width=80))


def test_the_command_signs_and_verifies(scene: Scene, capsys: Capsys) -> None:
    path = scene.folder / "sheet.html"
    look = scene.look(capsys, "--hands-off", "--report", str(path))
    key = look.said["gateway"]["key"]
    assert main(["doctor", "--verify", str(path), "--key", key]) == 0
    assert "verdict fail" in capsys.readouterr().out
    assert main(["doctor", "--verify", str(path), "--json"]) == 1, "nobody vouches for the key in it"
    assert json.loads(capsys.readouterr().out)["vouched"] is False
    assert main(["doctor", "--verify", str(path), "--key", Ed25519Signer.generate().public.text]) == 4
    assert "CG-DOC-902" in capsys.readouterr().err
    path.write_bytes(path.read_bytes().replace(b"failed", b"passed"))
    assert main(["doctor", "--verify", str(path), "--key", key]) == 4
    assert "CG-DOC-903" in capsys.readouterr().err


def test_a_sheet_of_a_user_who_may_not_sign(scene: Scene, capsys: Capsys) -> None:
    (scene.folder / "state/gateway.key").unlink()
    path = scene.folder / "sheet.html"
    scene.look(capsys, "--hands-off", "--report", str(path))
    assert b"Not signed" in path.read_bytes()
    assert main(["doctor", "--verify", str(path)]) == 4


def test_a_sheet_without_the_library_for_qr_codes(
    scene: Scene, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    path = scene.folder / "sheet.html"
    assert main(["doctor", "--hands-off", "-c", str(scene.write()), "--report", str(path)]) == 3
    assert "python3-segno" in capsys.readouterr().err
    assert not path.exists()


def test_a_sheet_that_cannot_be_written(scene: Scene, capsys: Capsys) -> None:
    look = scene.look(capsys, "--hands-off", "--report", "/nowhere/sheet.html")
    assert (look.code, look.said["verdict"]) == (3, "fail"), "no worse than what it found"
    main(["doctor", "--hands-off", "-c", str(scene.write()), "--report", "/nowhere/sheet.html"])
    assert "/nowhere/sheet.html" in capsys.readouterr().err


def test_a_reader_that_goes_away_leaves_a_sheet(scene: Scene) -> None:
    path = scene.folder / "sheet.html"
    command = [sys.executable, "-m", "agent.cli.main", "doctor", "--hands-off", "-c", str(scene.write())]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*command, "--report", str(path)], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode == 3
    assert done.stderr == f"sheet: {path} (signed)\n"
    assert main(["doctor", "--verify", str(path)]) == 1


@pytest.mark.parametrize("name", ["missing.html", "."])
def test_a_sheet_that_cannot_be_read_does_not_verify(scene: Scene, capsys: Capsys, name: str) -> None:
    assert main(["doctor", "--verify", str(scene.folder / name)]) == 4
    assert str(scene.folder / name) in capsys.readouterr().err


def test_a_key_that_is_none_verifies_nothing(scene: Scene, capsys: Capsys) -> None:
    path = scene.folder / "sheet.html"
    path.write_bytes(SEALED)
    assert main(["doctor", "--verify", str(path), "--key", "mine"]) == 4
    assert "'mine'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "payload",
    [
        [seal.KIND, 1, bytes(8), 10**19, "ok"],
        [seal.KIND, 1, bytes(8), -1, "ok"],
        [seal.KIND, 1, bytes(8), 1, "ok\033[2J"],
        [seal.KIND, 1, bytes(8), 1, "skipped"],
        [seal.KIND, 1, bytes(9), 1, "ok"],
    ],
)
def test_a_key_holder_cannot_say_anything_else(scene: Scene, capsys: Capsys, payload: list[object]) -> None:
    data = SEALED[: SEALED.rindex(seal.BEGIN)]
    signed = cose.sign(cbor2.dumps([*payload, hashlib.sha256(data).digest()]), KEY)
    path = scene.folder / "sheet.html"
    path.write_bytes(data + seal.BEGIN + base64.b64encode(signed) + seal.END)
    assert main(["doctor", "--verify", str(path), "--key", KEY.public.text]) == 4
    said = capsys.readouterr()
    assert "CG-BAT-006" in said.err
    assert "\033" not in said.out + said.err


def test_a_page_of_brackets_names_no_key(scene: Scene, capsys: Capsys) -> None:
    path = scene.folder / "sheet.html"
    path.write_bytes(b'<script id="findings">' + b"[" * 200_000 + b"</script>")
    assert main(["doctor", "--verify", str(path)]) == 4
    assert "CG-DOC-901" in capsys.readouterr().err


def test_what_no_number_is_and_no_text_either(scene: Scene, capsys: Capsys) -> None:
    odd = sheet((ok("noise", "odd", {"a": math.nan, "b": math.inf, "c": "\udcff", "d": 1.5}),))
    (finding,) = odd.as_json()["findings"]
    assert finding["values"] == {"a": None, "b": None, "c": "?", "d": 1.5}
    page.render(odd, signed=False)
    scene.says(gateway={"name": "x", "eui": "\udcff"}, radio={"state": "receiving", "eui": "\udcff", "heard": 1})
    scene.tables["gateway"] = (
        f'name = "Mast äöü"\nstate_dir = "{scene.folder}/state"\nruntime_dir = "{scene.folder}/run"'
    )
    main(["doctor", "-c", str(scene.write()), "--json"])
    said = capsys.readouterr().out
    assert said.isascii()
    assert json.loads(said)["gateway"]["eui"] is None
    assert json.loads(said)["gateway"]["name"] == "Mast äöü"


def test_an_unsigned_sheet_says_why(scene: Scene, capsys: Capsys) -> None:
    (scene.folder / "state/gateway.key").unlink()
    path = scene.folder / "sheet.html"
    scene.look(capsys, "--hands-off", "--report", str(path))
    footer = path.read_text().partition("<footer>")[2].partition("</footer>")[0]
    assert "Not signed" in footer
    assert "gateway.key" in footer
    assert "may not read" not in footer


def test_what_is_left_for_others(scene: Scene, capsys: Capsys) -> None:
    look = scene.look(capsys, "--hands-off")
    kept = scene.folder / "run/doctor.json"
    assert json.loads(kept.read_text()) == look.said
    assert kept.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in kept.parent.iterdir()] == ["doctor.json"]


def test_lines_for_a_person() -> None:
    lines = [line for finding in FINDINGS for line in screen.lines(finding, colour=False, width=100)]
    assert lines[0] == "ok    config       all is there"
    assert lines[1] == "FAIL  power        get_throttled 0x50005"
    assert lines[2].strip().startswith("why: the 5 V supply")
    assert any("do:  use a 5.1 V supply" in line for line in lines)
    assert lines[-1] == "-     noise        nothing measures it"
    assert all(len(line) <= 100 for line in lines)
    assert not any("\033" in line for line in lines)
    assert "\033[31m" in next(iter(screen.lines(FINDINGS[1], colour=True, width=100)))
    assert screen.closing(sheet()) == "1 failed, 1 warning, 1 in order, 1 not checked, in 4.2 s"


SEALED = sealed()


def test_documented_keys_are_those_that_are_said() -> None:
    text = Path("docs/doctor.md").read_text(encoding="utf-8")
    said = sheet().as_json()
    for key in (*said, *said["gateway"], *said["findings"][0]):
        assert f"`{key}`" in text, key
