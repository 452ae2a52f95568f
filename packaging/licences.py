# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Who holds the rights in each file of a package, under which licence, and the statement of it that Debian asks for.

Files say it themselves, or the file beside them does [REUSE 3.3]. Debian has none of these licences in
/usr/share/common-licenses, so that their texts are part of the statement [Debian Policy 12.5].
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_HEAD_BYTES = 4096
_TAG = re.compile(r"SPDX-" r"License-Identifier: ([A-Za-z0-9.+ ()-]*[A-Za-z0-9.+)])")
_NOTICE = re.compile(r"SPDX-" r"FileCopyrightText: (.*?)(?: \*/| -->)?$", re.MULTILINE)
_HOLDER = re.compile(r"(?P<years>[0-9, -]*[0-9]) (?P<name>[^<]*[^< ])(?: <(?P<contact>[^>]*)>)?")
_IDENTIFIER = re.compile(r"(?!AND |OR |WITH )[A-Za-z0-9.+-]+")


@dataclass(frozen=True, slots=True, order=True)
class Holder:
    """Somebody who holds rights.

    Attributes:
        years: e.g. "2023-2024".
        name: of a person, some persons, or an organisation.
        contact: URL or e-mail address; empty for ourselves, whom packaging/vendor.toml names.
    """

    years: str
    name: str
    contact: str = ""

    def __str__(self) -> str:
        return f"{self.years} {self.name}" + (f" <{self.contact}>" if self.contact else "")


@dataclass(frozen=True, slots=True, order=True)
class Terms:
    """What a file says of its rights.

    Attributes:
        expression: of SPDX.
        holders: at least one.
        origin: where it is from, as told beside it; may be empty.
    """

    expression: str
    holders: tuple[Holder, ...]
    origin: str = ""


OURS = Terms("EUPL-1.2", (Holder("2026", "civigate contributors"),))
"""Also of what is generated, which says nothing."""


def read(path: Path) -> Terms:
    """Return the terms of a file.

    Raises:
        ValueError: it names a licence and no holder, or one in another form than "YEARS NAME <CONTACT>".
    """
    beside = path.with_name(f"{path.name}.license")
    source = beside if beside.exists() else path
    with source.open("rb") as file:
        head = file.read(_HEAD_BYTES).decode(errors="replace")
    tag = _TAG.search(head)
    if tag is None:
        return OURS
    found = [(notice, _HOLDER.fullmatch(notice)) for notice in _NOTICE.findall(head)]
    for notice, match in found:
        if match is None:
            raise ValueError(f"{source}: {notice!r} is not YEARS NAME <CONTACT>")
    holders = tuple(Holder(match["years"], match["name"], match["contact"] or "") for _, match in found if match)
    if not holders:
        raise ValueError(f"{source}: names {tag[1]} and no holder of rights")
    told = [line for line in head.splitlines() if "SPDX-" not in line] if source.suffix == ".license" else []
    return Terms(tag[1], holders, " ".join(" ".join(told).split()))


def together(expressions: Iterable[str]) -> str:
    """Return the SPDX expression of something that has parts under each of these."""
    return " AND ".join(f"({one})" if " OR " in one else one for one in sorted(set(expressions)))


def statement(tree: Path, texts: Path, url: str) -> str:
    """Return the file `copyright` of a package [copyright-format 1.0].

    Args:
        tree: all files of the package.
        texts: folder with the licences' texts, each by its identifier of SPDX.
        url: where the source is.

    Raises:
        ValueError: a file does not say who holds the rights.
        FileNotFoundError: the text of a licence is missing.
    """
    files: dict[Terms, list[str]] = {}
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        files.setdefault(read(path), []).append(str(path.relative_to(tree)))
    paragraphs = [
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        f"Upstream-Name: civigate\nSource: {url}\n",
        _stanza(OURS, ["*"]),
        *(_stanza(terms, names) for terms, names in sorted(files.items()) if terms != OURS),
    ]
    for name in sorted({one for terms in [OURS, *files] for one in _IDENTIFIER.findall(terms.expression)}):
        text = (texts / f"{name}.txt").read_text(encoding="utf-8")
        paragraphs.append(f"License: {name}\n{_field(text.strip().splitlines())}")
    return "\n".join(paragraphs)


def _stanza(terms: Terms, names: Sequence[str]) -> str:
    # The format has no capitals in its expressions.
    licence = re.sub(" (AND|OR|WITH) ", lambda found: found[0].lower(), terms.expression)
    holders = "\n ".join(str(holder) for holder in terms.holders)
    origin = f"Comment:\n{_field(textwrap.wrap(terms.origin, 100))}" if terms.origin else ""
    return "Files: " + "\n ".join(names) + f"\nCopyright: {holders}\nLicense: {licence}\n{origin}"


def _field(lines: Iterable[str]) -> str:
    return "".join(f" {line.strip() or '.'}\n" for line in lines)
