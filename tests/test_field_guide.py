# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The field guide: both editions say the same commands, and the programs understand each of them.

That they do what the guide says is shown by hil_tests/vm/test_guide.py.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from agent.cli.main import parser as gateway_parser
from agent.provisioning import request
from hil_tests.vm.guide import ENGLISH, GERMAN, read
from receiver.cli.main import parser as receiver_parser

_PROGRAM = re.compile(r"^(?:sudo )?(civigate(?:-receiver)?) ")


def _commands() -> list[str]:
    guide = read(ENGLISH)
    lines = [line for block in (*guide.commands, *guide.inline) for line in re.split(r"[\n;]\s*", block)]
    whole = [line.split(" > ")[0] for line in lines if _PROGRAM.match(line) and "..." not in line]
    return sorted(set(whole) - {"civigate boards show NAME"})


def test_both_editions_say_the_same_commands() -> None:
    english, german = read(ENGLISH), read(GERMAN)
    assert english.commands == german.commands
    names = re.compile(r"sheet\.html|blatt\.html|FOLDER|ORDNER|\s+")
    assert [names.sub(" ", said) for said in english.inline] == [names.sub(" ", said) for said in german.inline]


@pytest.mark.parametrize("command", _commands())
def test_the_programs_understand_it(command: str) -> None:
    program, *words = shlex.split(command.removeprefix("sudo "))
    (gateway_parser() if program == "civigate" else receiver_parser()).parse_args(
        ["0016c001ff10a235" if word == "EUI" else word for word in words]
    )


@pytest.mark.parametrize("edition", [ENGLISH, GERMAN])
def test_its_civigate_toml_is_right(edition: Path, tmp_path: Path) -> None:
    path = tmp_path / "civigate.toml"
    path.write_text(read(edition).files[0])
    assert request.load(path).provision.region == "eu868"
