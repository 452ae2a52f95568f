# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Log lines: one per change of state, `event=name key=value`; no payloads, keys or tokens.

For a person or the journal they are text. For a log collector each is a JSON object: names and values are taken from
the call as it stands in the program, so a value may hold spaces or `=`, and a number stays one.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""syslog priorities, as sd-daemon(3) reads them from the beginning of a line."""
MAX_VALUE = 4096
"""Characters of one value in a JSON line."""

_BREAK = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_FIELD = re.compile(r"(?:^| )([a-z][a-z0-9_]*)=")
_DIRECTIVE = re.compile(r"%(?:%|[-#0 +]*(?:\d+)?(?:\.\d+)?[diouxXeEfFgGcrsa])")


class _TextFormatter(logging.Formatter):
    """What was said is one line, whatever it holds: nobody out there writes lines of his own into the log."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        record.message = _BREAK.sub(lambda found: repr(found[0])[1:-1], record.message)
        return super().formatMessage(record)


class _JournalFormatter(_TextFormatter):
    """A priority in front, no time: the journal has its own."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{super().format(record)}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line.

    `time` is the host's UTC, which may be wrong, `boottime_s` CLOCK_BOOTTIME, which is not; then `level`, `logger`,
    `event` and its fields. What another library says has `message` instead of an event; an exception adds `trace`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        said: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "boottime_s": round(time.clock_gettime(time.CLOCK_BOOTTIME), 3),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        try:
            found = dict(fields(record))
        except (TypeError, ValueError):  # a call with the wrong number of values: what it says is still worth keeping
            found = {}
        if "event" in found:
            said |= {"event": found.pop("event")}
            said |= {f"{name}_" if name in said else name: value for name, value in found.items()}
        else:
            said["message"] = _short(_message(record))
        if record.exc_info:
            said["trace"] = _short(self.formatException(record.exc_info), 4 * MAX_VALUE)
        return json.dumps(said, ensure_ascii=False, default=str)


def fields(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    """Yield names and values of `event=name key=value`; nothing for a record that is not of this form.

    Raises:
        TypeError: its values do not fit its text.
        ValueError: the same.
    """
    text = str(record.msg)
    if not text.startswith("event="):
        return
    arguments = record.args or ()
    if isinstance(arguments, Mapping):
        yield from _pairs(text % arguments, iter(()))
    else:
        yield from _pairs(text, iter(arguments))


def _pairs(text: str, arguments: Iterator[object]) -> Iterator[tuple[str, object]]:
    marks = list(_FIELD.finditer(text))
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        template = text[mark.end() : following.start() if following else len(text)]
        wanted = [item for item in _DIRECTIVE.findall(template) if item != "%%"]
        values = tuple(islice(arguments, len(wanted)))
        if len(values) == len(wanted) == 1 and template == wanted[0] and isinstance(values[0], (bool, int, float)):
            yield mark[1], values[0]
            continue
        if template == "%r" and values and isinstance(values[0], str):
            # quoted for the eyes of people; JSON quotes by itself
            yield mark[1], _short(values[0])
            continue
        value, *rest = re.split(r" (?=%)", template, maxsplit=1)
        used = sum(item != "%%" for item in _DIRECTIVE.findall(value))
        more = rest[0] % values[used:] if rest else ""
        if rest and _FIELD.match(more):
            # `key=%s %s`, where the last value brings fields of its own
            yield mark[1], _short(value % values[:used])
            yield from _pairs(more.replace("%", "%%"), iter(()))
        else:
            yield mark[1], _short(template % values)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        return f"{record.msg} {record.args}"


def _short(text: str, most: int = MAX_VALUE) -> str:
    return text if len(text) <= most else text[:most] + "…"


def configure(level: str, style: str = "text") -> None:
    """Send the log of this process to standard error.

    Args:
        level: "debug", "info", "warning" or "error".
        style: "text" or "json".
    """
    handler = logging.StreamHandler(sys.stderr)
    if style == "json":
        handler.setFormatter(JsonFormatter())
    # systemd names the journal's socket here; a person's terminal has no such thing
    elif "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_JournalFormatter("%(name)s %(message)s"))
    else:
        handler.setFormatter(_TextFormatter("%(asctime)s %(levelname)-7s %(name)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
