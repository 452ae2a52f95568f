# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Strict reading of the TOML files that describe boards and channel plans.

A key that is missing, misspelt, of the wrong type or out of range is an error that names file, key and what
was expected; a profile is never half understood.
"""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from drivers.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.resources.abc import Traversable

FILE_LIMIT_BYTES: Final = 65_536
"""No profile is longer; a file that is was named by mistake."""


class Table:
    """One table of a profile; its keys are taken one by one and `finish` refuses what is left over.

    Args:
        values: the table as parsed.
        source: the file it came from, for errors.
        path: where in the file the table is, e.g. "reset"; empty for the top level.
    """

    def __init__(self, values: Mapping[str, object], source: str, path: str = "") -> None:
        self._values = values
        self._source = source
        self._path = path
        self._taken: set[str] = set()

    def has(self, key: str) -> bool:
        """Say whether the file has a key."""
        return key in self._values

    def text(self, key: str) -> str:
        """Take a non-empty string."""
        value = self._take(key)
        if not isinstance(value, str) or not value:
            raise self.error(key, f"found {value!r}", "write a text in quotes")
        return value

    def optional_text(self, key: str) -> str | None:
        """Take a non-empty string, or None when the file has none of that name."""
        self._taken.add(key)
        return self.text(key) if key in self._values else None

    def texts(self, key: str, most: int) -> tuple[str, ...]:
        """Take a list of at most `most` non-empty strings; empty when the file has none of that name."""
        self._taken.add(key)
        value = self._values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.error(key, f"found {value!r}", 'write texts in quotes: ["...", "..."]')
        if len(value) > most:
            raise self.error(key, f"found {len(value)} of them", f"write at most {most}")
        return tuple(value)

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """Take an integer from `low` to `high`."""
        value = self._take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.error(key, f"found {value!r}", f"write a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """Take a number from `low` to `high`."""
        value = self._take(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise self.error(key, f"found {value!r}", f"write a number from {low} to {high}")
        return float(value)

    def integers(self, key: str, low: int, high: int, most: int) -> tuple[int, ...]:
        """Take a list of at most `most` integers from `low` to `high`; empty when the file has none of that name."""
        self._taken.add(key)
        value = self._values.get(key, [])
        whole = isinstance(value, list) and all(isinstance(i, int) and not isinstance(i, bool) for i in value)
        if not isinstance(value, list) or not whole or not all(low <= item <= high for item in value):
            raise self.error(key, f"found {value!r}", f"write a list of whole numbers from {low} to {high}")
        if len(value) > most:
            raise self.error(key, f"found {len(value)} of them", f"write at most {most}")
        return tuple(value)

    def boolean(self, key: str, *, default: bool | None = None) -> bool:
        """Take true or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"found {value!r}", "write true or false")
        return value

    def choice(self, key: str, options: tuple[str, ...], default: str | None = None) -> str:
        """Take one of a few words."""
        value = self._take(key, default)
        if not isinstance(value, str) or value not in options:
            raise self.error(key, f"found {value!r}", "write one of " + ", ".join(options))
        return value

    def table(self, key: str) -> Table | None:
        """Take a table, or None when the file has none of that name."""
        self._taken.add(key)
        if key not in self._values:
            return None
        value = self._take(key)
        if not isinstance(value, dict):
            raise self.error(key, f"found {value!r}", f"write a table [{key}]")
        return Table(value, self._source, self._inside(key))

    def tables(self, key: str, most: int) -> Iterator[Table]:
        """Take a list of at most `most` tables; none when the file has none of that name."""
        self._taken.add(key)
        if key not in self._values:
            return
        value = self._take(key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, f"found {value!r}", f"write tables [[{key}]]")
        if len(value) > most:
            raise self.error(key, f"found {len(value)} of them", f"write at most {most}")
        for index, item in enumerate(value):
            yield Table(item, self._source, f"{self._inside(key)}[{index}]")

    def finish(self) -> None:
        """Refuse keys that nobody asked for.

        Raises:
            ProfileError: there is one; names the nearest that exists.
        """
        for key in self._values:
            if key not in self._taken:
                near = get_close_matches(key, self._taken, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "remove it"
                raise self.error(key, "unknown key", hint)

    def error(self, key: str, what: str, hint: str) -> ProfileError:
        """Return an error about a key of this table."""
        where = f"{self._source}: {self._inside(key)}"
        return ProfileError(what, op="load profile", where=where, hint=hint, code="CG-PROFILE-002")

    def _inside(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _take(self, key: str, default: object = None) -> object:
        self._taken.add(key)
        if key in self._values:
            return self._values[key]
        if default is None:
            raise self.error(key, "missing", "add it")
        return default


def shipped_names(package: str) -> tuple[str, ...]:
    """Return the names of the profiles shipped in a package, sorted."""
    return tuple(sorted(p.name.removesuffix(".toml") for p in files(package).iterdir() if _is_toml(p)))


def open_profile(package: str, name_or_path: str | Path) -> tuple[Table, str]:
    """Open a shipped profile by its name, or any by its path.

    A file that names a shipped profile as its `base` has all that this has, and its own keys in their place.

    Args:
        package: the package that ships profiles of this kind, e.g. "drivers.boards".
        name_or_path: a name without slash and suffix, or a path to a .toml file.

    Returns:
        The top-level table, and the profile's name.

    Raises:
        ProfileError: there is no such profile, or it is not TOML.
    """
    name = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in name or name.endswith(".toml"):
        path = Path(name_or_path)
        try:
            with path.open("rb") as file:
                raw = file.read(FILE_LIMIT_BYTES + 1)
        except OSError as error:
            what, hint = f"cannot be read: {error.strerror}", "check the path"
            raise _unusable(name, what, hint, "CG-PROFILE-001") from error
        values = _parse(raw, str(path))
        base = values.pop("base", None)
        if base is not None:
            if not isinstance(base, str):
                raise _unusable(f"{path}: base", f"found {base!r}", "write a name in quotes", "CG-PROFILE-002")
            values = _shipped(package, base) | values
        return Table(values, str(path)), path.stem
    return Table(_shipped(package, name), f"{name}.toml"), name


def _shipped(package: str, name: str) -> dict[str, object]:
    names = shipped_names(package)
    if name not in names:
        near = get_close_matches(name, names, n=3) or names
        raise _unusable(name, "no such profile", "use " + ", ".join(near), "CG-PROFILE-001")
    source = f"{name}.toml"
    return _parse(files(package).joinpath(source).read_bytes(), source)


def _parse(raw: bytes, source: str) -> dict[str, object]:
    if len(raw) > FILE_LIMIT_BYTES:
        raise _unusable(source, f"longer than {FILE_LIMIT_BYTES} bytes", "check the path", "CG-PROFILE-003")
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except ValueError as error:
        raise _unusable(source, f"not TOML: {error}", "correct the file", "CG-PROFILE-003") from error


def _unusable(source: str, what: str, hint: str, code: str) -> ProfileError:
    return ProfileError(what, op="load profile", where=source, hint=hint, code=code)


def _is_toml(entry: Traversable) -> bool:
    return entry.name.endswith(".toml")
