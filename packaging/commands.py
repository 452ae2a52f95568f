# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the command line parsers of the programs say of themselves, in a form for manual pages and completion."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from dataclasses import dataclass

MODULES = {"civigate": "agent.cli.main", "civigate-receiver": "receiver.cli.main"}


@dataclass(frozen=True, slots=True)
class Argument:
    """An option, or an argument without a name.

    Attributes:
        flags: "-c", "--config"; none for an argument by position.
        value: what stands for its value, "" where it takes none.
        help: one line or more.
        choices: the only values, none where any is taken.
        required: whether it must be given.
        many: whether it may be given several values.
        takes_path: whether its value names a file or folder.
    """

    flags: tuple[str, ...]
    value: str
    help: str
    choices: tuple[str, ...]
    required: bool
    many: bool
    takes_path: bool


@dataclass(frozen=True, slots=True)
class Command:
    """A command or one of its verbs.

    Attributes:
        words: "civigate", "spool", "status".
        help: one line.
        description: paragraphs.
        epilog: preformatted.
        arguments: in their order.
        verbs: below it.
    """

    words: tuple[str, ...]
    help: str
    description: str
    epilog: str
    arguments: tuple[Argument, ...]
    verbs: tuple[Command, ...]

    def walk(self) -> Iterator[Command]:
        """Yield it and all below it."""
        yield self
        for verb in self.verbs:
            yield from verb.walk()


def of(program: str) -> Command:
    """Read a program's parser."""
    parser: argparse.ArgumentParser = importlib.import_module(MODULES[program]).parser()
    return _command(parser, (program,), "")


def _command(parser: argparse.ArgumentParser, words: tuple[str, ...], summary: str) -> Command:
    arguments: list[Argument] = []
    verbs: list[Command] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, below in action.choices.items():
                verbs.append(_command(below, (*words, name), _filled(below, helps.get(name, ""))))
        elif action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):
            arguments.append(_argument(parser, action))
    description, epilog = parser.description or "", parser.epilog or ""
    return Command(words, summary, description, epilog, tuple(arguments), tuple(verbs))


def _argument(parser: argparse.ArgumentParser, action: argparse.Action) -> Argument:
    metavar = action.metavar[0] if isinstance(action.metavar, tuple) else action.metavar
    choices = tuple(map(str, action.choices or ()))
    value = "" if action.nargs == 0 else str(metavar or "|".join(choices) or action.dest.upper())
    kind = getattr(action.type, "__name__", "")
    return Argument(
        flags=tuple(action.option_strings),
        value=value,
        help=_filled(parser, str(action.help or ""), action),
        choices=choices,
        required=bool(action.required),
        many=action.nargs in {"*", "+", argparse.REMAINDER},
        takes_path=kind == "Path" or value in {"FILE", "PATH", "DIR", "FOLDER"},
    )


def _filled(parser: argparse.ArgumentParser, text: str, action: argparse.Action | None = None) -> str:
    """Put in what argparse would: %(default)s and its like."""
    known = {"prog": parser.prog} | (vars(action) if action is not None else {})
    return text % known if "%" in text else text
