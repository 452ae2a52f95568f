# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Set values in a TOML file that people keep: every other line stays as it is, comments included."""

from __future__ import annotations

import json
import os
import re
import tomllib
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE_LIMIT_BYTES: Final = 1 << 20
_NEW_MODE: Final = 0o640
_TABLE: Final = re.compile(r"\s*\[")


def set_values(path: Path, table: str, values: Mapping[str, str | float], *, head: str = "") -> None:
    """Set texts and numbers in a top-level table of a file, which is made when there is none.

    A value takes the place of the one that is there, else it is put below the line that has it commented out, else at
    the head of its table. The file is changed as a whole or not at all, and keeps its mode. A new one may be read by
    the group of its folder, whatever the umask: root makes it, the service reads it.

    Args:
        path: of the file; its folder is there.
        table: without brackets.
        values: by key.
        head: what a new file begins with.

    Raises:
        AgentError: it cannot be read or written, is not TOML, or the values would not be in it afterwards.
    """
    try:
        text = path.read_text(encoding="utf-8")[:FILE_LIMIT_BYTES] if path.exists() else head
        _replace(path, _edited(text, table, values))
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        wanted = ", ".join(f"{key} = {_quoted(value)}" for key, value in values.items())
        hint = f"write it yourself, in [{table}]: {wanted}"
        raise AgentError(f"cannot be changed: {what}", where=str(path), hint=hint, code="CG-CFG-020") from error


def _edited(text: str, table: str, values: Mapping[str, str | float]) -> str:
    before = tomllib.loads(text)
    edited = edit(text, table, values)
    after = tomllib.loads(edited)
    if after != before | {table: before.get(table, {}) | values}:
        raise ValueError("its layout is unusual")
    return edited


def edit(text: str, table: str, values: Mapping[str, str | float]) -> str:
    """Return the text of a TOML file with the values set."""
    lines = text.removesuffix("\n").split("\n") if text else []
    header = re.compile(rf"\s*\[\s*{re.escape(table)}\s*\]\s*(#.*)?")
    start = next((number for number, line in enumerate(lines) if header.fullmatch(line)), None)
    if start is None:
        lines += [""] if lines and lines[-1].strip() else []
        lines.append(f"[{table}]")
        start = len(lines) - 1
    for key, value in reversed(list(values.items())):
        end = next((n for n in range(start + 1, len(lines)) if _TABLE.match(lines[n])), len(lines))
        said = f"{key} = {_quoted(value)}"
        there = _find(lines, start, end, rf"\s*{re.escape(key)}\s*=[^#]*(?P<comment>#.*)?")
        if there is not None:
            number, comment = there
            lines[number] = f"{said}  {comment}" if comment else said
            continue
        example = _find(lines, start, end, rf"\s*#\s*{re.escape(key)}\s*=.*(?P<comment>)")
        lines.insert((start if example is None else example[0]) + 1, said)
    return "\n".join(lines) + "\n"


def _find(lines: list[str], start: int, end: int, pattern: str) -> tuple[int, str] | None:
    for number in range(start + 1, end):
        if match := re.fullmatch(pattern, lines[number]):
            return number, match["comment"] or ""
    return None


def _quoted(value: str | float) -> str:
    """Return a TOML value: a number as it is, a text as JSON writes it, whose escapes TOML knows but for one."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    old = path.stat() if path.exists() else None
    fresh.unlink(missing_ok=True)
    with fresh.open("x", encoding="utf-8") as file:
        if old is None:
            with suppress(PermissionError):
                os.fchown(file.fileno(), -1, path.parent.stat().st_gid)
        elif os.geteuid() == 0:
            os.fchown(file.fileno(), old.st_uid, old.st_gid)
        os.fchmod(file.fileno(), _NEW_MODE if old is None else old.st_mode & 0o7777)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
