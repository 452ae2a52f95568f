# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.settings import Unfit, example, explain, load, setting, table


@table
class Inner:
    """A table within a table."""

    ports: tuple[int, ...] = setting("Ports.", default=(), minimum=0, maximum=255)


@table
class Place:
    """Somewhere."""

    name: str = setting("What it is called.", example="here")
    inner: Inner


@table
class Radio:
    """How it listens."""

    poll_interval_ms: int = setting("Pause.", default=10, unit="ms", minimum=1, maximum=1000)
    gain_db: float = setting("Gain.", default=1.5)
    plan: str = setting("Plan.", default="eu868", choices=("eu868", "us915"))
    live: bool = setting("Live.", default=True)
    file: Path | None = setting("File.", default=None, example="some/file")
    number: int | None = setting("In hex.", default=None, parse=lambda text: int(text, 16), expected="a hex number")

    def __post_init__(self) -> None:
        if self.plan == "us915" and self.gain_db > 20:
            raise Unfit("gain_db", f"found {self.gain_db}, at most 20 with us915", "lower it")


@table
class Root:
    """Everything."""

    place: tuple[Place, ...] = setting("", items=(0, 2))
    radio: Radio
    spare: Place | None = None


def put(folder: Path, text: str) -> Path:
    path = folder / "x.toml"
    path.write_text(text)
    return path


def test_absent_tables_have_their_defaults(tmp_path: Path) -> None:
    assert load(Root, put(tmp_path, "")) == Root(radio=Radio(), place=())


def test_a_file_of_an_editor_that_writes_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert load(Root, put(tmp_path, "\ufeff[radio]\ngain_db = 3.0")).radio.gain_db == 3.0


def test_a_file_that_is_not_utf_8_is_called_that_with_the_line(tmp_path: Path) -> None:
    path = put(tmp_path, "")
    path.write_bytes(b"[radio]\n# f\xfcr alle\n")
    with pytest.raises(ConfigError, match="line 2: byte 0xfc is not UTF-8") as caught:
        load(Root, path)
    assert "UTF-8" in caught.value.hint


def test_a_table_that_may_be_left_away_is_checked_when_it_is_there(tmp_path: Path) -> None:
    assert load(Root, put(tmp_path, '[spare]\nname = "a"')).spare == Place(name="a", inner=Inner())
    with pytest.raises(ConfigError, match=r"spare\.name: missing"):
        load(Root, put(tmp_path, "[spare]"))
    assert [line.value for line in explain(Root, put(tmp_path, "")) if line.key == "spare"] == [""]


def test_values_are_taken_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = """
        [radio]
        poll_interval_ms = 20
        gain_db = 3
        file = "sub/file"
        number = "ff"
        [[place]]
        name = "a"
        [place.inner]
        ports = [1, 255]
        [[place]]
        name = "b"
    """
    root = load(Root, put(tmp_path, text))
    assert root.radio == Radio(poll_interval_ms=20, gain_db=3.0, file=tmp_path / "sub/file", number=255)
    assert isinstance(root.radio.gain_db, float)
    assert root.place == (Place(name="a", inner=Inner(ports=(1, 255))), Place(name="b", inner=Inner()))


RANGE = "expected an integer from 1 to 1000 (ms)"


@pytest.mark.parametrize(
    ("text", "key", "what", "hint"),
    [
        ("[radio]\npol_interval_ms = 3", "radio.pol_interval_ms", "unknown key", "radio.poll_interval_ms?"),
        ("poll_interval_ms = 3", "poll_interval_ms", "unknown key", "did you mean radio.poll_interval_ms?"),
        ('"a\\nb" = 3', '"a\\nb"', "unknown key", "did you mean"),
        ("[radi]", "radi", "unknown key", "did you mean radio?"),
        ("[radio]\npoll_interval_ms = 0", "radio.poll_interval_ms", f"found 0, {RANGE}", "default: 10"),
        ("[radio]\npoll_interval_ms = 1001", "radio.poll_interval_ms", f"found 1001, {RANGE}", "default: 10"),
        ("[radio]\npoll_interval_ms = true", "radio.poll_interval_ms", f"found true, {RANGE}", "default: 10"),
        ("[radio]\npoll_interval_ms = 3.0", "radio.poll_interval_ms", f"found 3.0, {RANGE}", "default: 10"),
        ('[radio]\npoll_interval_ms = "3"', "radio.poll_interval_ms", f'found "3", {RANGE}', "default: 10"),
        ("[radio]\npoll_interval_ms = [3]", "radio.poll_interval_ms", f"found [3], {RANGE}", "default: 10"),
        ("[radio]\nlive = 1", "radio.live", "found 1, expected true or false", "default: true"),
        ("[radio]\ngain_db = nan", "radio.gain_db", "found nan, expected a number", "default: 1.5"),
        ("[radio]\ngain_db = inf", "radio.gain_db", "found inf, expected a number", "default: 1.5"),
        ('[radio]\nplan = "eu"', "radio.plan", 'found "eu", expected one of "eu868", "us915"', '"eu868"'),
        ('[radio]\nfile = ""', "radio.file", 'found "", expected a path in quotes', "default: not set"),
        ('[radio]\nfile = "a\\u0000"', "radio.file", "found", "default: not set"),
        ('[radio]\nnumber = "xy"', "radio.number", "invalid literal", "default: not set"),
        ("[radio]\nnumber = 12", "radio.number", "found 12, expected a hex number", "default: not set"),
        ("[radio]\nplan = 1979-05-27", "radio.plan", "1979-05-27", "eu868"),
        ('[radio]\nplan = "us915"\ngain_db = 21', "radio.gain_db", "found 21.0, at most 20", "lower it"),
        ("radio = 3", "radio", "found 3, expected a table [radio]", "correct it"),
        ("[[radio]]", "radio", "found [{}], expected a table [radio]", "correct it"),
        ("[place]", "place", "found a table, expected 0 to 2 tables [[place]]", "correct it"),
        ("place = [3]", "place", "expected 0 to 2 tables [[place]]", "correct it"),
        ("[[place]]\n[[place]]", "place[1].name", "missing, expected a string", "What it is called"),
        ('[[place]]\nname="a"\n[[place]]\nname=2', "place[2].name", "found 2, expected a string", "correct it"),
        ('place = [{name="a"},{name="b"},{name="c"}]', "place", "expected 0 to 2 tables", "correct it"),
        ('[[place]]\nname="a"\ninner.ports = [1, 256]', "place[1].inner.ports", "256", "default: none"),
        ('[[place]]\nname="a"\ninner.ports = 1', "place[1].inner.ports", "expected an array", "default: none"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, key: str, what: str, hint: str) -> None:
    path = put(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(Root, path)
    error = caught.value
    assert error.where == f"{path}: {key}"
    assert what in error.what
    assert hint in error.hint
    assert "\n" not in f"{error} {error.hint}"
    assert error.exit_code == 2


def test_a_long_wrong_value_is_cut(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Root, put(tmp_path, f'[radio]\nplan = "{"x" * 3000}"'))
    assert len(str(caught.value.what)) < 150


def test_syntax_errors_have_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2, column 5: "):
        load(Root, put(tmp_path, "[radio]\nlive\n"))


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a = " + b"[" * 50_000, b"x" * (1 << 21)])
def test_files_that_are_no_toml_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load(Root, path)
    assert "\n" not in str(caught.value)


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(Root, tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(Root, tmp_path)


def test_explain_says_where_each_value_comes_from(tmp_path: Path) -> None:
    path = put(tmp_path, '[radio]\ngain_db = 3\nfile = "f"\n[[place]]\nname = "a"')
    lines = {line.key: line for line in explain(Root, path)}
    assert (lines["radio.gain_db"].value, lines["radio.gain_db"].origin) == ("3", str(path))
    assert lines["radio.file"].value == f'"{tmp_path / "f"}"'
    assert (lines["radio.poll_interval_ms"].value, lines["radio.poll_interval_ms"].unit) == ("10", "ms")
    assert lines["radio.poll_interval_ms"].origin == "default"
    assert lines["radio.number"].value == ""
    assert lines["place[1].name"].value == '"a"'
    assert lines["place[1].inner.ports"].value == "[]"


def test_the_example_loads_as_it_is_and_with_every_line_made_live(tmp_path: Path) -> None:
    text = example(Root)
    here = Place(name="here", inner=Inner())
    assert load(Root, put(tmp_path, text)) == Root(radio=Radio(), place=(here,))
    spare = text.replace("#[spare", "[spare").replace('#name = "here"', 'name = "here"')
    assert load(Root, put(tmp_path, spare)).spare == here, "a table that may be left away is there, commented out"
    live = "\n".join(line.removeprefix("#") for line in text.splitlines() if not line.startswith("# "))
    live = live.replace("number = None", "")
    assert set(tomllib.loads(live)["radio"]) <= {"poll_interval_ms", "gain_db", "plan", "live", "file", "number"}


@given(st.recursive(
    st.integers() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
))  # fmt: skip
def test_any_value_anywhere_is_taken_or_refused(value: object) -> None:
    from agent.settings import _Reader

    for name in ("radio", "place"):
        said = ""
        try:
            _Reader(Path("x.toml"), Root).build(Root, {name: value}, ())
        except ConfigError as error:
            said = str(error)
        assert said.isprintable()
