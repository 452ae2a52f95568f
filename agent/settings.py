# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Strict TOML configuration, declared once: a dataclass is parser, range check, error text and documentation.

    @table
    class Radio:
        # the docstring here documents [radio]
        poll_interval_ms: int = setting("Time between two looks.", default=10, unit="ms", minimum=1)

`load` gives frozen instances, `example` the documented file, `explain` every value and where it came from. An
unknown key, a wrong type or a value out of range is a `ConfigError` of one line: file, key, what was found, what is
expected.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import textwrap
import tomllib
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, cast, dataclass_transform

from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MAX_FILE_BYTES = 1 << 20
MAX_TEXT = 4096
"""Characters in one string."""
MAX_ITEMS = 4096
"""Elements of one array."""
_SHOWN = 60
"""Characters of a wrong value that are repeated in the message."""
_WIDTH = 100
_PASSWORD = re.compile(r"(://)[^/@\s]*@")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")

T = TypeVar("T")
Toml = object
"""What tomllib gives for one value."""


class _Required:
    """Stands for "has no default"."""


REQUIRED: Final = _Required()


class Unfit(ValueError):  # noqa: N818 - says what the value is; becomes a ConfigError with file and full key
    """A value that contradicts another one; raised by `__post_init__` of a table.

    Args:
        key: of the table that raises.
        what: what was found and what is expected, one clause.
        hint: what to do.
    """

    def __init__(self, key: str, what: str, hint: str) -> None:
        super().__init__(what)
        self.key = key
        self.what = what
        self.hint = hint


@dataclasses.dataclass(frozen=True, slots=True)
class _Spec:
    """What is known of one key besides its type."""

    doc: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    items: tuple[int, int] = (0, MAX_ITEMS)
    parse: Callable[[str], object] | None = None
    expected: str = ""
    example: Toml = None
    secret: bool = False


def setting(
    doc: str,
    *,
    default: T | _Required = REQUIRED,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    items: tuple[int, int] = (0, MAX_ITEMS),
    parse: Callable[[str], object] | None = None,
    expected: str = "",
    example: Toml = None,
    secret: bool = False,
) -> T:
    """Declare a key of type bool, int, float, str, Path (relative to the file), `X | None` or `tuple[X, ...]`.

    Args:
        doc: one sentence or two for the person who sets it.
        default: value where the key is absent; without one the key is required.
        unit: of the number, e.g. "ms".
        minimum: smallest number (of every element).
        maximum: largest number (of every element).
        choices: the only strings allowed.
        items: fewest and most elements of an array.
        parse: makes the value (of every element) from a string; says no with ValueError.
        expected: what `parse` takes, e.g. "an EUI of 16 hex digits".
        example: value in the documented example where there is no default to show.
        secret: whether what was found may never be repeated: `parse` has to hold to that as well.
    """
    spec = _Spec(doc, unit, minimum, maximum, choices, items, parse, expected, example, secret)
    if isinstance(default, _Required):
        return cast(T, dataclasses.field(metadata={"spec": spec}))
    return dataclasses.field(default=default, metadata={"spec": spec})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(setting,))
def table(cls: type[T]) -> type[T]:
    """Make a TOML table of a class: frozen, keyword-only; the docstring is its documentation.

    A field of a `table` type is a sub-table (absent: all its defaults), one of type `table | None` with a default of
    None a sub-table that may be left away, one of type `tuple[table, ...]` repeated tables; none needs a `setting`. In
    the documented example, a sub-table that may be left away is commented out unless its `setting` has an example.
    `__post_init__` may raise `Unfit`.
    """
    return dataclasses.dataclass(frozen=True, slots=True, kw_only=True)(cls)


@dataclasses.dataclass(frozen=True, slots=True)
class Explained:
    """One value of a configuration: full key, value as TOML ("" where not set), unit, and its origin."""

    key: str
    value: str
    unit: str
    origin: str


def load(cls: type[T], path: Path) -> T:
    """Read and check a configuration file.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or says something that `cls` does not allow.
    """
    return _Reader(path, cls).build(cls, _parse(path), ())


def explain(cls: type[object], path: Path) -> list[Explained]:
    """Say of every key which value holds and where it came from.

    Raises:
        ConfigError: as `load`.
    """
    raw = _parse(path)
    reader = _Reader(path, cls)
    reader.build(cls, raw, ())
    return list(reader.explain(cls, raw, ()))


def example(cls: type[object]) -> str:
    """Write the documented file: every key with type, range, unit, default; commented out where it has one."""
    return "\n".join([*_comment(cls.__doc__ or ""), *_example(cls, ())]) + "\n"


@dataclasses.dataclass(frozen=True, slots=True)
class _Key:
    """One field of a table, its type taken apart."""

    name: str
    spec: _Spec
    type: type
    many: bool
    default: object

    @property
    def is_table(self) -> bool:
        return dataclasses.is_dataclass(self.type) and self.spec.parse is None

    @property
    def required(self) -> bool:
        return isinstance(self.default, _Required)

    @property
    def shown_default(self) -> str:
        return "not set" if self.default is None else "none" if self.default == () else _toml(self.default)

    @property
    def expected(self) -> str:
        """What the key takes, in words."""
        spec = self.spec
        words = {bool: "true or false", int: "an integer", float: "a number", Path: "a path in quotes"}
        one = spec.expected or words.get(self.type, "a string")
        if spec.choices:
            one = "one of " + ", ".join(map(_toml, spec.choices))
        if self.is_table:
            one = f"tables [[{self.name}]]" if self.many else f"a table [{self.name}]"
        if spec.minimum is not None and spec.maximum is not None:
            one += f" from {_number(spec.minimum)} to {_number(spec.maximum)}"
        elif spec.minimum is not None:
            one += f" of at least {_number(spec.minimum)}"
        elif spec.maximum is not None:
            one += f" of at most {_number(spec.maximum)}"
        one += f" ({spec.unit})" if spec.unit else ""
        if not self.many:
            return one
        fewest, most = spec.items
        many = "any number of" if spec.items == (0, MAX_ITEMS) else f"{fewest} to {most}"
        return f"{many} {one}" if self.is_table else f"an array of {many} elements, each {one}"


def _keys(cls: type[object]) -> Iterator[_Key]:
    """Take a table's fields apart; tables last, as TOML wants them."""
    hints = typing.get_type_hints(cls)
    keys = []
    for field in dataclasses.fields(cast("type[_Spec]", cls)):
        kind = hints[field.name]
        if isinstance(kind, types.UnionType):
            kind = next(arm for arm in typing.get_args(kind) if arm is not types.NoneType)
        many = typing.get_origin(kind) is tuple
        kind = typing.get_args(kind)[0] if many else kind
        default = REQUIRED if field.default is dataclasses.MISSING else field.default
        keys.append(_Key(field.name, field.metadata.get("spec", _Spec("")), kind, many, default))
    yield from sorted(keys, key=lambda key: key.is_table)


def _parse(path: Path) -> Mapping[str, Toml]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        hint = "give the path of an existing file; 'config example' prints one to start from"
        raise ConfigError("no such file", where=str(path), hint=hint, code="CG-CFG-001") from error
    except OSError as error:
        what, hint = f"cannot be read: {error.strerror}", "check its type and permissions"
        raise ConfigError(what, where=str(path), hint=hint, code="CG-CFG-002") from error
    if len(data) > MAX_FILE_BYTES:
        what, hint = f"larger than {MAX_FILE_BYTES} bytes", "this is not a configuration file of ours"
        raise ConfigError(what, where=str(path), hint=hint, code="CG-CFG-002")
    try:
        text = data.decode("utf-8-sig")  # some editors put a byte order mark in front
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what, hint = f"line {line}: byte 0x{data[error.start]:02x} is not UTF-8", "save the file as UTF-8 text"
        raise ConfigError(what, where=str(path), hint=hint, code="CG-CFG-003") from error
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        what = re.sub(r"(.*) \(at (.*)\)", r"\2: \1", str(error).replace("\n", " "))
        hint = "correct the TOML there (text goes in quotes)"
        raise ConfigError(what, where=str(path), hint=hint, code="CG-CFG-003") from error


@dataclasses.dataclass(frozen=True, slots=True)
class _Reader:
    """Makes tables of one file's content; `at` is always the path of keys from its top."""

    file: Path
    root: type[object]

    def where(self, at: tuple[str, ...]) -> str:
        return f"{self.file}: {'.'.join(at)}"

    def build(self, cls: type[T], raw: Mapping[str, Toml], at: tuple[str, ...]) -> T:
        keys = {key.name: key for key in _keys(cls)}
        for name in raw:
            if name not in keys:
                raise self.unknown(name, keys, at)
        values = {}
        for name, key in keys.items():
            here = (*at, name)
            if name in raw:
                values[name] = self.value(key, raw[name], here)
            elif key.is_table and not key.many and key.required:
                values[name] = self.build(key.type, {}, here)
            elif key.is_table and key.many and key.spec.items[0] == 0:
                values[name] = ()
            elif key.required:
                what, hint = f"missing, expected {key.expected}", f"set it; {key.spec.doc}".rstrip(". ")
                raise ConfigError(what, where=self.where(here), hint=hint, code="CG-CFG-006")
        try:
            return cls(**values)
        except Unfit as unfit:
            where = self.where((*at, unfit.key))
            raise ConfigError(unfit.what, where=where, hint=unfit.hint, code="CG-CFG-007") from unfit

    def unknown(self, name: str, keys: Mapping[str, _Key], at: tuple[str, ...]) -> ConfigError:
        """Name the key that was probably meant: the same one in another table, or the nearest here."""
        elsewhere = [path for path in _paths(self.root, ()) if path[-1] == name]
        nearest = elsewhere[0] if elsewhere else (*at, difflib.get_close_matches(name, keys, n=1, cutoff=0)[0])
        hint = f"did you mean {'.'.join(nearest)}?"
        found = name if _BARE_KEY.fullmatch(name) else _found(name)
        return ConfigError("unknown key", where=self.where((*at, found)), hint=hint, code="CG-CFG-004")

    def value(self, key: _Key, raw: Toml, at: tuple[str, ...]) -> object:
        """Turn one TOML value into the one of the key's type."""
        try:
            return self.many(key, raw, at) if key.many else self.one(key, raw, at)
        except ConfigError:
            raise
        except ValueError as error:
            reason = f" ({error})" if error.args else ""
            found = _kind(raw) if key.spec.secret else _found(raw)
            what = f"found {found}{reason}, expected {key.expected}"
            hint = "correct it" if key.required else f"correct it or leave it out (default: {key.shown_default})"
            if key.spec.secret and not isinstance(raw, str):
                hint = "put it in quotes"
            raise ConfigError(what, where=self.where(at), hint=hint, code="CG-CFG-005") from error

    def many(self, key: _Key, raw: Toml, at: tuple[str, ...]) -> tuple[object, ...]:
        """Turn one TOML array; ValueError as `one`. Repeated tables are counted from 1, as people do."""
        fewest, most = key.spec.items
        if not isinstance(raw, list) or not fewest <= len(raw) <= most:
            raise ValueError
        count = range(1, len(raw) + 1)
        ats = [(*at[:-1], f"{at[-1]}[{number}]") if key.is_table else at for number in count]
        return tuple(self.one(key, item, where) for item, where in zip(raw, ats, strict=True))

    def one(self, key: _Key, raw: Toml, at: tuple[str, ...]) -> object:
        """Turn one TOML value that is no array; ValueError, with a reason if there is one to add, if it is unfit."""
        spec = key.spec
        if key.is_table and isinstance(raw, dict):
            return self.build(key.type, raw, at)
        if spec.parse is None and key.type is bool and isinstance(raw, bool):
            return raw
        if (
            spec.parse is None
            and key.type in (int, float)
            and isinstance(raw, (int, key.type))
            and not isinstance(raw, bool)
        ):
            low, high = spec.minimum, spec.maximum
            if math.isfinite(raw) and (low is None or raw >= low) and (high is None or raw <= high):
                return key.type(raw)
        elif isinstance(raw, str) and 0 < len(raw) <= MAX_TEXT and "\0" not in raw:
            if spec.parse is not None:
                return spec.parse(raw)
            if key.type is Path:
                return self.file.absolute().parent / raw
            if key.type is str and (not spec.choices or raw in spec.choices):
                return raw
        raise ValueError

    def explain(self, cls: type[object], raw: Mapping[str, Toml], at: tuple[str, ...]) -> Iterator[Explained]:
        for key in _keys(cls):
            here, given = (*at, key.name), raw.get(key.name)
            if key.is_table and key.many:
                for number, item in enumerate(cast("list[dict[str, Toml]]", given or []), 1):
                    yield from self.explain(key.type, item, (*at, f"{key.name}[{number}]"))
            elif key.is_table and (key.required or given is not None):
                yield from self.explain(key.type, cast("dict[str, Toml]", given or {}), here)
            elif key.is_table:
                yield Explained(".".join(here), "", "", "default")
            else:
                value = key.default if given is None else given
                if key.type is Path and isinstance(given, str):
                    value = self.one(key, given, here)
                shown = "" if value is None else _toml(value)
                yield Explained(".".join(here), shown, key.spec.unit, "default" if given is None else str(self.file))


def _paths(cls: type[object], at: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for key in _keys(cls):
        yield (*at, key.name)
        if key.is_table:
            yield from _paths(key.type, (*at, key.name))


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _kind(raw: Toml) -> str:
    """Say of which kind a value is, and nothing of what it is."""
    words = {str: "a text", bool: "true or false", int: "a number", float: "a number", list: "an array"}
    return words.get(type(raw), "something else")


def _found(raw: Toml) -> str:
    text = "a table" if isinstance(raw, dict) else _toml(raw)
    text = _PASSWORD.sub(r"\1***@", text)  # nobody shall find his password in a log because it is in the wrong place
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:_SHOWN])
    return shown if len(text) <= _SHOWN else shown + "..."


def _toml(value: Toml) -> str:
    """Write one value as TOML; the JSON form of a string is a TOML form of it, and what is parsed prints itself."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + "}"
    return str(value) if isinstance(value, (int, float)) else json.dumps(str(value), ensure_ascii=False)


def _comment(doc: str) -> list[str]:
    paragraphs = re.split(r"\n\s*\n", doc.strip())
    return [f"# {line}" for text in paragraphs for line in textwrap.wrap(" ".join(text.split()), _WIDTH)]


def _example(cls: type[object], at: tuple[str, ...]) -> Iterator[str]:
    for key in _keys(cls):
        here = (*at, key.name)
        if key.is_table:
            yield from ("", "", *_comment(key.type.__doc__ or ""))
            header = f"[[{'.'.join(here)}]]" if key.many else f"[{'.'.join(here)}]"
            lines = [header, *_example(key.type, here)]
            left_away = not key.many and not key.required and key.spec.example is None
            yield from (f"#{line}" if left_away and line and line[0] != "#" else line for line in lines)
            continue
        fact = "required" if key.required else f"default: {key.shown_default}"
        value = key.default if key.spec.example is None else key.spec.example
        yield from ("", *_comment(key.spec.doc), *_comment(f"Takes {key.expected}; {fact}."))
        yield f"{'' if key.required else '#'}{key.name} = {_toml(value)}"
