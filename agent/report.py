# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What the running agent says of itself: one JSON object in `status.json` of its runtime_dir, renewed all the time.

Who reads it needs no rights but to read, asks nobody to answer, and sees either the object of before or the one of now
(written beside, then renamed). It lies in memory (tmpfs), so it is there when the card is not. `docs/status.md` says
what is in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from agent import strictjson
from agent.errors import AgentError, ForbiddenError

FILE_NAME = "status.json"
VERSION = 1
INTERVAL_S = 2.0
"""How often it is renewed."""
STALE_S = 30.0
"""An agent whose report is older than this hangs, or its runtime_dir is full."""
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Report:
    """The newest report.

    Attributes:
        said: the whole object.
        age_s: how old it is, by CLOCK_BOOTTIME; None when it is of an earlier boot.
        alive: whether the process that wrote it is there.
    """

    said: Mapping[str, Any]
    age_s: float | None
    alive: bool

    @property
    def current(self) -> bool:
        """Whether it tells how things are now."""
        return self.alive and self.age_s is not None and self.age_s <= STALE_S


def write(folder: Path, said: Mapping[str, object]) -> None:
    """Renew the report.

    Raises:
        OSError: the folder does not take it.
    """
    draft = folder / f"{FILE_NAME}.new"
    draft.write_text(as_text(said) + "\n", encoding="utf-8")
    draft.chmod(0o644)
    draft.replace(folder / FILE_NAME)


def as_text(said: Mapping[str, object]) -> str:
    """Return a report as JSON; what is no finite number is null.

    Raises:
        TypeError: JSON has no form for something in it.
        ValueError: the same.
    """
    return strictjson.dumps(said, default=_plain)


def read(folder: Path, boot_id: bytes, boottime_us: int) -> Report | None:
    """Return the newest report, None when there is none.

    Args:
        folder: runtime_dir of the agent.
        boot_id: of the present boot.
        boottime_us: CLOCK_BOOTTIME now.

    Raises:
        AgentError: CG-RPT-001, it cannot be read, or is no report of a version known here; -002, this user may not.
    """
    path = folder / FILE_NAME
    try:
        with path.open("rb") as file:
            said = strictjson.loads(file.read(MAX_BYTES))
        same_boot = said["boot_id"] == boot_id.hex()
        age_s = (boottime_us - int(said["boottime_us"])) / 1e6 if same_boot else None
        pid = int(said["pid"])
        version = int(said["version"])
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise ForbiddenError(str(path), "CG-RPT-002") from error
    except (OSError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise _unreadable(path, f"not a status report: {error}") from error
    if version != VERSION:
        raise _unreadable(path, f"report of version {version}, this program knows {VERSION}")
    return Report(said, age_s, same_boot and _runs(pid))


def _unreadable(path: Path, what: str) -> AgentError:
    hint = "use the civigate that the service runs, or restart the service"
    return AgentError(what, where=str(path), hint=hint, code="CG-RPT-001")


def _runs(pid: int) -> bool:
    with suppress(OSError, OverflowError):
        os.kill(pid, 0)
        return True
    return Path(f"/proc/{pid}").exists()  # of another user


def _plain(value: object) -> object:
    """Write what JSON has no word for: bytes as hex, names of an enumeration, the fields of a dataclass."""
    match value:
        case bytes():
            return value.hex()
        case Enum():
            return value.value
        case Path():
            return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(type(value).__name__)


class Reporter:
    """Renews a report and tells the log when it cannot, once.

    Args:
        folder: runtime_dir.
        compose: makes the object.
        failed: told why it cannot be written, once per reason.
    """

    def __init__(
        self, folder: Path, compose: Callable[[], Mapping[str, object]], failed: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._compose = compose
        self._failed = failed
        self._why = ""

    def renew(self) -> Mapping[str, object] | None:
        """Write the report of now, and return it, also when the folder does not take it; None if it cannot be made."""
        said = None
        try:
            said = self._compose()
            write(self._folder, said)
        except (OSError, TypeError, ValueError) as error:
            place = getattr(error, "filename", None) or self._folder
            why = f"{place}: {getattr(error, 'strerror', None) or error}"
            if why != self._why:
                self._failed(why)
            self._why = why
        else:
            self._why = ""
        return said

    def end(self) -> None:
        """Take the report away: nobody runs who could stand for it."""
        with suppress(OSError):
            (self._folder / FILE_NAME).unlink()
