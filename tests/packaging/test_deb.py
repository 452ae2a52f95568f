# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What is in the packages, and that the same source gives the same bytes."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import deb
import pytest

from tests.packaging.conftest import Built

ROOT = Path(__file__).parents[2]
XDIST = pytest.mark.xdist_group("packaging")
pytestmark = XDIST


def _field(built: Built, name: str) -> str:
    lines = (built.control / "control").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith(f"{name}: ")), "")


def test_another_machine_builds_the_same_bytes(built: Built, source: deb.Source, tmp_path: Path) -> None:
    """Elsewhere, later, with another time zone, language, umask and order of files."""
    clone = tmp_path / "elsewhere"
    files = [name for name in source.files if name.split("/")[0] not in {"tests", "hil_tests"}]
    for name in reversed(files):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
        (clone / name).chmod(0o600)
        os.utime(clone / name, (1, 1))
    said = [_field(built, "Package"), source.epoch, source.version, source.project, files]
    (tmp_path / "said.json").write_text(json.dumps(said))
    other = {**os.environ, "TZ": "Asia/Kathmandu", "LC_ALL": "C", "COLUMNS": "40", "DPKG_DEB_THREADS_MAX": "7"}
    script = [sys.executable, "-P", str(ROOT / "tests/packaging/elsewhere.py")]
    arguments = [str(clone), str(tmp_path / "said.json"), str(tmp_path / "out")]
    done = subprocess.run([*script, *arguments], env=other, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = Path(done.stdout.strip())
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(built.deb.read_bytes()).digest()
    assert again.with_suffix(".cdx.json").read_bytes() == built.bill.read_bytes()


def test_it_is_for_every_machine_and_complete(built: Built) -> None:
    assert _field(built, "Architecture") == "all"
    for name in ("Version", "Maintainer", "Section", "Priority", "Depends", "Description"):
        assert _field(built, name)
    for line in (built.control / "md5sums").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.md5((built.tree / name).read_bytes()).hexdigest() == digest


def test_nothing_is_owned_or_written_by_somebody(built: Built) -> None:
    listed = subprocess.run(["dpkg-deb", "--contents", built.deb], check=True, capture_output=True, text=True).stdout
    for line in listed.splitlines():
        mode, owner = line.split()[:2]
        assert owner == "root/root"
        assert mode[5] == mode[8] == "-", f"others may write: {line}"


def test_every_module_finds_what_it_imports_in_the_package_or_the_distribution(built: Built) -> None:
    """The receiver carries a part of the agent only; what is imported lazily counts as well."""
    home = built.tree / "usr/lib" / _field(built, "Package")
    missing = []
    for path in home.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
                names = [node.module]
            for name in names:
                own = name.split(".")[0] in {"agent", "drivers", "receiver"}
                at = home / name.replace(".", "/")
                if own and not at.with_suffix(".py").exists() and not (at / "__init__.py").exists():
                    missing.append(f"{path.relative_to(home)}: {name}")
    demonstration = [line for line in missing if line.startswith("agent/demo/") and ": receiver" in line]
    assert sorted(set(missing) - set(demonstration)) == [], "civigate demo wants the receiver, nothing else"


def test_it_depends_on_all_that_the_project_does() -> None:
    """A dependency that is added to the project must be found in the distribution, or be optional on purpose."""
    elsewhere = {"rich": "python3-rich", "sqlite-utils": "sqlite-utils", "pyserial": "python3-serial"}
    not_packaged = {"pynmeagps", "pyubx2"}  # for a GNSS receiver only, which says what is missing
    related = {
        relation.split()[0]
        for package in deb.PACKAGES
        for relation in (*package.depends, *package.recommends, *package.suggests)
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {line.split(">")[0] for line in (*project["dependencies"], *project["optional-dependencies"]["receiver"])}
    for name in wanted - not_packaged:
        assert elsewhere.get(name, f"python3-{name}") in related


@pytest.mark.skipif(shutil.which("man") is None, reason="needs man-db")
def test_the_manual_pages_are_whole(built: Built) -> None:
    pages = sorted((built.tree / "usr/share/man").rglob("*.gz"))
    names = {page.name.removesuffix(".gz") for page in pages}
    assert {f"{_field(built, 'Package')}.1", f"{_field(built, 'Package')}-config.1"} < names
    for page in pages:
        done = subprocess.run(
            ["man", "--warnings", "--local-file", page],
            capture_output=True,
            text=True,
            env={**os.environ, "MANWIDTH": "80"},
        )
        assert done.returncode == 0
        assert done.stderr == ""
        assert "NAME" in done.stdout


def test_the_manual_page_has_every_command_and_every_key() -> None:
    import commands
    import manpages

    from agent import config, settings

    pages = manpages.pages("civigate", "0", 0)
    for command in commands.of("civigate").walk():
        page = pages[f"{'-'.join(command.words[:2])}.1"].replace("\\-", "-")
        assert " ".join(command.words) in page or command.verbs
        for argument in command.arguments:
            assert all(flag in page for flag in argument.flags)
    listed = pages["civigate.1"].replace("\\-", "-")
    assert all(f"{'-'.join(verb.words)}\\fR(1)" in listed for verb in commands.of("civigate").verbs)
    for line in settings.example(config.GatewayConfig).splitlines():
        key, equals, _ = line.lstrip("#").partition(" = ")
        if equals and " " not in key:
            assert f"\n.B {key} = " in pages["gateway.toml.5"].replace("\\-", "-")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("civigate spo", {"spool"}),
        ("civigate spool sta", {"status"}),
        ("civigate --ver", {"--version"}),
        ("civigate config ", {"check", "explain", "example"}),
        ("civigate emulate --model ", {"sx1302", "sx1303"}),
    ],
)
def test_bash_completes(line: str, expected: set[str], tmp_path: Path) -> None:
    import completion

    script = tmp_path / "civigate"
    script.write_text(completion.script("civigate"))
    words = line.split() + [""] * line.endswith(" ")
    code = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _civigate; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", code, "bash", script, *words], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected


def test_bash_completes_a_name_with_blanks_as_one(tmp_path: Path) -> None:
    import completion

    (tmp_path / "My firmware (1).zip").touch()
    (tmp_path / "civigate").write_text(completion.script("civigate"))
    code = (
        "source ./civigate; COMP_WORDS=(civigate firmware import My); COMP_CWORD=3; _civigate; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines() == ["My firmware (1).zip"]


def test_no_compressed_file_says_which_python_made_it(built: Built) -> None:
    """Python 3.11 names the system in the header, 3.10 and 3.13 do not."""
    headers = {path.read_bytes()[:10] for path in built.tree.rglob("*.gz")}
    assert headers == {bytes.fromhex("1f8b08000000000002ff")}


def test_no_file_is_there_that_nobody_reads(built: Built) -> None:
    """Settings are in the file of the program; /etc/default had variables that nothing looked at."""
    assert not (built.tree / "etc").exists()


def _install(built: Built, tmp_path: Path, user_version: int, *action: str) -> subprocess.CompletedProcess[str]:
    """Run the script of the package before its installation, beside a database of some version."""
    import sqlite3

    (store,) = (package.store for package in deb.PACKAGES if package.name == _field(built, "Package"))
    here = tmp_path / "store.db"
    with sqlite3.connect(here) as connection:
        connection.execute("CREATE TABLE something (a)")
        connection.execute(f"PRAGMA user_version = {user_version}")
    connection.close()
    script = tmp_path / "preinst"
    script.write_text((built.control / "preinst").read_text().replace(store, str(here)))
    return subprocess.run(["sh", script, *action], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("version", "usable_from", "taken"), [(0, 0, True), (1, 1, True), (99, 1, True), (99, 99, False), (99, 0, False)]
)
def test_a_program_older_than_its_database_is_not_installed(
    built: Built, tmp_path: Path, version: int, usable_from: int, *, taken: bool
) -> None:
    done = _install(built, tmp_path, usable_from << 16 | version, "upgrade", "0.0")
    assert (done.returncode == 0) is taken
    assert taken or "is of version 99" in done.stderr


def test_the_scripts_are_plain_shell_without_marks(built: Built) -> None:
    for name in ("preinst", "postinst", "prerm", "postrm"):
        script = built.control / name
        assert "@" not in script.read_text().replace("$@", "")
        subprocess.run(["sh", "-n", script], check=True)


def test_changes_and_licence_are_told(built: Built) -> None:
    doc = built.tree / "usr/share/doc" / _field(built, "Package")
    assert _field(built, "Version") in gzip.decompress((doc / "changelog.gz").read_bytes()).decode()


_THEIRS = {
    "usr/lib/civigate/agent/demo/traffic/cesnet_ic880a.jsonl.xz": ("2018 CESNET", "BSD-3-Clause"),
    "usr/lib/civigate/agent/demo/traffic/lisbon_bf53.jsonl.xz": ("2021 Filipe Fidalgo", "MIT"),
    "usr/lib/civigate/agent/demo/traffic/tourperret.jsonl.xz": ("2023-2024 Didier Donsez", "ODbL-1.0"),
    "usr/lib/civigate/drivers/sx1302/registers.csv": ("2019 Semtech", "BSD-3-Clause"),
}


def test_the_rights_of_others_are_told_with_the_text_of_each_licence(built: Built) -> None:
    name = _field(built, "Package")
    said = (built.tree / "usr/share/doc" / name / "copyright").read_text()
    head, everything, *stanzas = [paragraph.split("\n") for paragraph in said.rstrip("\n").split("\n\n")]
    assert head[0].startswith("Format: ")
    assert everything == ["Files: *", "Copyright: 2026 civigate contributors", "License: EUPL-1.2"]
    told = {}
    for stanza in stanzas:
        fields = dict(re.findall(r"^(\S+):(.*(?:\n .*)*)", "\n".join(stanza), re.MULTILINE))
        for file in fields.get("Files", "").split():
            assert (built.tree / file).is_file()
            told[file] = (fields["Copyright"].strip(), fields["License"].strip())
    theirs = _THEIRS if name == "civigate" else {}
    assert set(told) == {f"{file}{end}" for file in theirs for end in ("", ".license")}
    for file, (holder, licence) in theirs.items():
        assert told[file][0].startswith(holder)
        assert told[file][1] == licence
    texts = {stanza[0].removeprefix("License: "): stanza[1:] for stanza in stanzas if stanza[0].startswith("License: ")}
    assert set(texts) == {"EUPL-1.2", *(licence for _, licence in theirs.values())}
    for licence, lines in texts.items():
        original = (ROOT / "LICENSES" / f"{licence}.txt").read_text().split()
        assert [word for line in lines if line != " ." for word in line.split()] == original


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_the_receiver_is_fenced_in(built: Built) -> None:
    if _field(built, "Package") != "civigate-receiver":
        pytest.skip("see tests/agent/test_systemd.py")
    unit = built.tree / "usr/lib/systemd/system/civigate-receiver.service"
    rate = ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(unit)]
    done = subprocess.run(rate, capture_output=True)
    assert done.returncode == 0
