# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A file that people keep is changed where it must be, and nowhere else."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import AgentError
from agent.tomledit import edit, set_values

EXAMPLE = (Path(__file__).parents[2] / "docs" / "gateway.example.toml").read_text()
VALUES = {"bus": "spi:/dev/spidev0.0", "board": "rak_2287"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[concentrator]\nbus = "spi:/dev/spidev0.0"\nboard = "rak_2287"\n'),
        (
            '# mine\n[concentrator] # radio\n#bus = "usb:/dev/x"\nboard="old" # on the mast\n[spool]\nbus = 1\n',
            '# mine\n[concentrator] # radio\n#bus = "usb:/dev/x"\nbus = "spi:/dev/spidev0.0"\n'
            'board = "rak_2287"  # on the mast\n[spool]\nbus = 1\n',
        ),
        (
            "[gateway]\nname = 'a'",
            '[gateway]\nname = \'a\'\n\n[concentrator]\nbus = "spi:/dev/spidev0.0"\nboard = "rak_2287"\n',
        ),
    ],
)
def test_values_come_where_a_person_would_put_them(before: str, after: str) -> None:
    assert edit(before, "concentrator", VALUES) == after
    assert edit(after, "concentrator", VALUES) == after


def test_the_documented_example_keeps_all_its_other_lines(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(EXAMPLE)
    path.chmod(0o640)
    set_values(path, "concentrator", VALUES)
    after = path.read_text()
    assert tomllib.loads(after) == tomllib.loads(EXAMPLE) | {"concentrator": tomllib.loads(after)["concentrator"]}
    lost = set(EXAMPLE.splitlines()) - set(after.splitlines())
    assert all(line.startswith(("board", "bus")) for line in lost)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        "concentrator = 1",
        'concentrator = { board = "x" }',
        'concentrator.board = "x"',
        '[concentrator]\nboard = """\nx\n"""\n',
        'a = """\n[concentrator]\n"""\n',
        "[[concentrator]]",
    ],
)
def test_what_cannot_be_changed_safely_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    with pytest.raises(AgentError, match="cannot be changed") as caught:
        set_values(path, "concentrator", VALUES)
    assert path.read_text() == text
    assert 'board = "rak_2287"' in caught.value.hint
    with pytest.raises(AgentError, match="cannot be changed"):
        set_values(tmp_path / "absent" / "gateway.toml", "concentrator", VALUES)


@given(value=st.text(st.characters(codec="utf-8"), max_size=40))
def test_any_text_can_be_a_value(value: str) -> None:
    assert tomllib.loads(edit(EXAMPLE, "gateway", {"name": value}))["gateway"]["name"] == value


def test_no_link_that_lies_in_the_way_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("[gateway]\n")
    path.chmod(0o640)
    (tmp_path / "precious").write_text("another's")
    (tmp_path / "gateway.toml.new").symlink_to("precious")
    set_values(path, "gateway", {"name": "mast"})
    assert ((tmp_path / "precious").read_text(), path.is_symlink()) == ("another's", False)
    assert (path.stat().st_mode & 0o777, 'name = "mast"' in path.read_text()) == (0o640, True)


def test_what_root_makes_the_service_may_read(tmp_path: Path) -> None:
    """Under the umask of a careful root the service could not read the file that `probe --write` had made."""
    path = tmp_path / "gateway.toml"
    before = os.umask(0o077)
    try:
        set_values(path, "concentrator", VALUES, head="# of its own\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.stat().st_gid == tmp_path.stat().st_gid
    assert path.read_text().startswith("# of its own\n\n[concentrator]\n")
    set_values(path, "concentrator", VALUES, head="# other\n")
    assert "other" not in path.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to groups")
def test_its_group_is_that_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 0, 12345)
    set_values(tmp_path / "gateway.toml", "concentrator", VALUES)
    assert (tmp_path / "gateway.toml").stat().st_gid == 12345
