# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Manual pages, made of what the programs say of themselves: commands (1) and configuration files (5).

They are laid out here and not by argparse, whose usage lines differ from one version of Python to the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import commands

from agent import config as agent_config
from agent import settings
from receiver import config as receiver_config

_FILES = {
    "civigate": (
        ("/etc/civigate/gateway.toml", "The configuration, gateway.toml(5)."),
        ("/var/lib/civigate", "Spool, key, certificates, firmware. Survives upgrade, removal and purge."),
        ("/run/civigate", "Journal of what is not committed yet, and status.json."),
    ),
    "civigate-receiver": (
        ("/etc/civigate-receiver/receiver.toml", "The configuration, receiver.toml(5)."),
        ("/var/lib/civigate-receiver", "Ledger and keys. Survives upgrade, removal and purge."),
    ),
}
_CODES = {
    "civigate": "0 done; 1 operational failure; 2 usage or configuration; 3 hardware; 4 integrity; 130 interrupted.",
    "civigate-receiver": "0 done; 1 operational failure; 2 usage or configuration; 4 integrity; 130 interrupted.",
}
_ALSO = {"civigate": "gateway.toml(5), systemctl(1), journalctl(1)", "civigate-receiver": "receiver.toml(5)"}


def pages(program: str, version: str, epoch: int) -> dict[str, str]:
    """Return the pages of a program by file name, e.g. "civigate.1"."""
    if program == "civigate":
        example, file = settings.example(agent_config.GatewayConfig), "gateway.toml"
    else:
        example, file = settings.example(receiver_config.ReceiverConfig), "receiver.toml"
    day = f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%d}"
    return {
        f"{program}.1": "\n".join(_program(program, version, day)) + "\n",
        f"{file}.5": "\n".join(_configuration(program, file, example, version, day)) + "\n",
    }


def _program(name: str, version: str, day: str) -> Iterator[str]:
    top = commands.of(name)
    yield from _head(name, 1, version, day, _first_line(top.description))
    yield ".SH SYNOPSIS"
    yield f".B {_text(name)}\n.I COMMAND\n[\\fIarguments\\fR]"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(top.description)
    yield from _paragraphs(top.epilog)
    yield ".SH COMMANDS"
    for command in top.walk():
        if command is top or (command.verbs and not command.arguments and not command.epilog):
            continue
        yield f".SS {_text(' '.join(command.words))}"
        yield from _synopsis(command)
        yield from _paragraphs(command.description or command.help)
        for argument in command.arguments:
            head = ", ".join(f"\\fB{_text(flag)}\\fR" for flag in argument.flags)
            yield f".TP\n{head}{' ' if head and argument.value else ''}" + (
                f"\\fI{_text(argument.value)}\\fR" if argument.value else ""
            )
            yield _text(argument.help) or "\\&"
        if command.epilog:
            yield ".PP\n.nf"
            yield from map(_text, command.epilog.rstrip().splitlines())
            yield ".fi"
    yield ".SH EXIT STATUS"
    yield _text(_CODES[name])
    yield ".SH FILES"
    for path, what in _FILES[name]:
        yield f".TP\n.I {_text(path)}\n{_text(what)}"
    yield ".SH SEE ALSO"
    yield _text(_ALSO[name])


def _configuration(program: str, file: str, example: str, version: str, day: str) -> Iterator[str]:
    yield from _head(file, 5, version, day, f"configuration of {program}")
    yield ".SH SYNOPSIS"
    yield f".I /etc/{_text(program)}/{_text(file)}"
    yield ".SH DESCRIPTION"
    for block in re.split(r"\n\n+", example.strip()):
        lines = block.splitlines()
        said = [line.removeprefix("#").strip() for line in lines if line.startswith("# ")]
        rest = [line for line in lines if not line.startswith("# ")]
        for line in rest:
            bare = line.removeprefix("#").strip()
            if bare.startswith("["):
                yield f".SH {_text(bare)}"
        keys = [line.removeprefix("#") for line in rest if not line.removeprefix("#").strip().startswith("[")]
        if keys:
            yield from (f".TP\n.B {_text(key)}" for key in keys)
        elif not rest:
            yield ".PP"
        yield from filter(None, map(_text, said))
    yield ".SH SEE ALSO"
    yield f"{_text(program)}(1)"


def _head(name: str, section: int, version: str, day: str, summary: str) -> Iterator[str]:
    yield f'.TH {_text(name).upper()} {section} {day} "civigate {_text(version)}"'
    yield ".SH NAME"
    yield f"{_text(name)} \\- {_text(summary)}"


def _synopsis(command: commands.Command) -> Iterator[str]:
    words = [f"\\fB{_text(' '.join(command.words))}\\fR"]
    for argument in command.arguments:
        value = f"\\fI{_text(argument.value)}\\fR" + ("..." if argument.many else "") if argument.value else ""
        one = " ".join(filter(None, (f"\\fB{_text(argument.flags[-1])}\\fR" if argument.flags else "", value)))
        words.append(one if argument.required else f"[{one}]")
    yield ".PP"
    yield " ".join(words)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in filter(None, re.split(r"\n\s*\n", text.strip())):
        yield ".PP"
        yield _text(" ".join(paragraph.split()))


def _first_line(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].rstrip(".")


def _text(text: str) -> str:
    """Keep roff from reading commands where there are none."""
    safe = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{safe}" if safe.startswith((".", "'")) else safe
