# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Completion for bash, made of what the programs say of themselves; it starts no program: that takes long on a Pi."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import commands


def script(program: str) -> str:
    """Return the completion script of a program."""
    function = "_" + program.replace("-", "_")
    return "\n".join(_lines(program, function)) + "\n"


def _lines(program: str, function: str) -> Iterator[str]:
    yield f"# bash completion for {program}; generated"
    yield f"{function}() {{"
    yield '    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" at="" word'
    yield '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do'
    yield '        case "$at $word" in'
    commands_ = list(commands.of(program).walk())
    for command in commands_[1:]:
        before, word = " ".join(command.words[1:-1]), command.words[-1]
        yield f'            "{before} {word}") at="{" ".join(command.words[1:])}" ;;'
    yield "        esac"
    yield "    done"
    yield '    case "$at" in'
    for command in commands_:
        yield f'        "{" ".join(command.words[1:])}")'
        choices = [(argument.flags, argument.choices) for argument in command.arguments if argument.choices]
        for flags, values in choices:
            if flags:
                yield f'            case "$prev" in {"|".join(flags)})'
                yield f"                {_offer(_words(values))}; return ;; esac"
        valued = [flag for argument in command.arguments if argument.value for flag in argument.flags]
        if valued:
            yield f'            case "$prev" in {"|".join(valued)}) {_offer("-f")}; return ;; esac'
        words = [verb.words[-1] for verb in command.verbs]
        words += [value for flags, values in choices if not flags for value in values]
        options = [flag for argument in command.arguments for flag in argument.flags] + ["--help"]
        yield f"            if [[ $cur == -* ]]; then {_offer(_words(options))}"
        yield f"            else {_offer(_words(words) if words else '-f')}"
        yield "            fi ;;"
    yield "    esac"
    yield "}"
    yield f"complete -o filenames -o bashdefault -F {function} {program}"


def _offer(what: str) -> str:
    """Return the command that offers what compgen finds, line by line: names of files may have blanks."""
    return f'mapfile -t COMPREPLY < <(compgen {what} -- "$cur")'


def _words(words: Sequence[str]) -> str:
    return f"-W '{' '.join(words)}'"
