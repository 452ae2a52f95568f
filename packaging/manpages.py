# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Manual pages, made of what the programs say of themselves: programs and their commands (1), configuration files (5).

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
    top = commands.of(program)
    made = {f"{program}.1": _program(top, program, version, day)}
    made |= {f"{_page(verb)}.1": _command(verb, program, version, day) for verb in top.verbs}
    made[f"{file}.5"] = _configuration(program, file, example, version, day)
    return {name: "\n".join(lines) + "\n" for name, lines in made.items()}


def _page(command: commands.Command) -> str:
    """Return the name that `man civigate doctor` looks for."""
    return "-".join(command.words)


def _program(top: commands.Command, name: str, version: str, day: str) -> Iterator[str]:
    yield from _head(name, 1, version, day, _first_line(top.description))
    yield ".SH SYNOPSIS"
    yield f".B {_text(name)}\n.I COMMAND\n[\\fIarguments\\fR]"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(top.description)
    yield from _paragraphs(top.epilog)
    if top.arguments:
        yield ".SH OPTIONS"
        yield from _arguments(top)
    yield ".SH COMMANDS"
    for verb in top.verbs:
        yield f".TP\n\\fB{_text(_page(verb))}\\fR(1)\n{_text(verb.help)}"
    yield from _end(name, _ALSO[name])


def _command(command: commands.Command, program: str, version: str, day: str) -> Iterator[str]:
    yield from _head(_page(command), 1, version, day, command.help)
    if not command.verbs:
        yield ".SH SYNOPSIS"
        yield from _synopsis(command)
    yield ".SH DESCRIPTION"
    yield from _paragraphs(command.description or command.help)
    if command.arguments:
        yield ".SH OPTIONS"
        yield from _arguments(command)
    if command.verbs:
        yield ".SH COMMANDS"
    for verb in command.walk():
        if verb is command or (verb.verbs and not verb.arguments and not verb.epilog):
            continue
        yield f".SS {_text(' '.join(verb.words))}"
        yield from _synopsis(verb)
        yield from _paragraphs(verb.description or verb.help)
        yield from _arguments(verb)
        yield from _preformatted(verb.epilog)
    if command.epilog:
        yield ".SH NOTES"
        yield from _preformatted(command.epilog)
    yield from _end(program, f"{program}(1), {_ALSO[program]}")


def _arguments(command: commands.Command) -> Iterator[str]:
    for argument in command.arguments:
        head = ", ".join(f"\\fB{_text(flag)}\\fR" for flag in argument.flags)
        yield f".TP\n{head}{' ' if head and argument.value else ''}" + (
            f"\\fI{_text(argument.value)}\\fR" if argument.value else ""
        )
        yield _text(argument.help) or "\\&"


def _preformatted(text: str) -> Iterator[str]:
    if text:
        yield ".PP\n.nf"
        yield from map(_text, text.rstrip().splitlines())
        yield ".fi"


def _end(program: str, also: str) -> Iterator[str]:
    yield ".SH EXIT STATUS"
    yield _text(_CODES[program])
    yield ".SH FILES"
    for path, what in _FILES[program]:
        yield f".TP\n.I {_text(path)}\n{_text(what)}"
    yield ".SH SEE ALSO"
    yield _text(also)


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
