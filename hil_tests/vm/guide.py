# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The field guide as a list of what it tells a technician to type, so that a test can do it word by word."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from hil_tests.vm.image import ROOT

ENGLISH, GERMAN = ROOT / "docs" / "field-guide.md", ROOT / "docs" / "field-guide.de.md"
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`((?:sudo |journalctl |civigate)[^`]*)`")


@dataclass(frozen=True, slots=True)
class Guide:
    """One edition.

    Attributes:
        commands: blocks of commands, in their order.
        files: blocks of TOML, in their order.
        inline: commands within sentences and tables.
    """

    commands: tuple[str, ...]
    files: tuple[str, ...]
    inline: tuple[str, ...]

    def block(self, part: str) -> str:
        """Return the one block of commands that has a part.

        Raises:
            LookupError: there is none, or there are several.
        """
        (found,) = (block for block in self.commands if part in block)
        return found

    def said(self, command: str) -> str:
        """Return a command that the guide has within a sentence.

        Raises:
            LookupError: it has not.
        """
        if command not in self.inline:
            raise LookupError(f"the guide does not say: {command}")
        return command


def read(path: Path) -> Guide:
    """Read an edition."""
    text = path.read_text(encoding="utf-8")
    blocks = [(language, textwrap.dedent(content).strip()) for _, language, content in _BLOCK.findall(text)]
    return Guide(
        tuple(content for language, content in blocks if not language),
        tuple(content for language, content in blocks if language == "toml"),
        tuple(" ".join(found.split()) for found in _INLINE.findall(_BLOCK.sub("", text))),
    )
