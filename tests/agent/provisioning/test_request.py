# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""civigate.toml: what it may say, what is said about what it may not, and that no secret is repeated."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.main import main
from agent.demo.authority import Authority
from agent.enrolment import claim
from agent.errors import ConfigError
from agent.provisioning import network, outcome, request
from agent.provisioning.boot import MAX_BYTES, BootPartition
from agent.provisioning.desk import Desk
from agent.provisioning.outcome import Outcome, Stage

CODE = "7K9Q-2MXT-04BV-H3R2"
PSK = "correct horse battery"
FULL = f"""
[provision]
format = 1
name = "north-mast-07"
platform = "https://platform.example.org:8444"
claim = "{CODE}"
fingerprint = "{"5f" * 32}"
region = "EU868"
board = "rak_2287"
antenna_gain_dbi = 2

[network]
ssid = "site"
psk = "{PSK}"
country = "DE"
"""


def _partition(tmp_path: Path, text: str | bytes, name: str = "civigate.toml") -> BootPartition:
    folder = tmp_path / "boot"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return BootPartition(folder)


def _desk(tmp_path: Path) -> Desk:
    (tmp_path / network.CONNECTION).parent.mkdir(parents=True, exist_ok=True)
    return Desk(tmp_path / "desk", tmp_path)


def test_a_request_is_taken_and_survives_its_file(tmp_path: Path) -> None:
    desk = _desk(tmp_path)
    partition = _partition(tmp_path, FULL)
    taken = desk.take(partition)
    assert taken is not None
    asked, new = taken
    assert new
    assert (asked.provision.name, asked.provision.region) == ("north-mast-07", "eu868")
    partition.publish(outcome.write(asked, Outcome(Stage.WORKING)))
    assert desk.take(partition) == (asked, False), "the file is an outcome now: the copy counts"
    assert (tmp_path / "desk").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "desk/request.toml").stat().st_mode & 0o777 == 0o600
    desk.clear()
    assert desk.take(partition) is None


def test_the_outcome_has_no_secret_and_reads_as_toml(tmp_path: Path) -> None:
    asked = request.load(_partition(tmp_path, FULL).request() or Path())
    detail = 'the platform says "no"\nand more \\ of it'
    said = outcome.write(asked, Outcome(Stage.REFUSED, detail=detail, next_step="ask", eui="0016c001ff123456"))
    assert CODE not in said
    assert claim.parse(CODE) not in said
    assert PSK not in said
    read = tomllib.loads(said)
    assert read["result"] == {"stage": "refused", "detail": detail, "next_step": "ask", "eui": "0016c001ff123456"}
    assert read["provision"]["antenna_gain_dbi"] == 2
    assert request.is_outcome(said.encode())


def test_an_outcome_is_a_request_again_without_its_result(tmp_path: Path) -> None:
    """What the head of the file tells a technician to do works."""
    asked = request.load(_partition(tmp_path, FULL).request() or Path())
    said = outcome.write(asked, Outcome(Stage.REFUSED, detail="no"))
    again = said[: said.rindex("[result]")].replace('#claim = "..."', f'claim = "{CODE}"')
    again = again.replace('#psk = "..."', f'psk = "{PSK}"')
    assert request.load(_partition(tmp_path, again).request() or Path()) == asked


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "north-mast-07"', "", "provision.name: missing"),
        ("format = 1", "format = 2", "from 1 to 1"),
        ("https://platform", "mqtts://platform", "unknown scheme"),
        (CODE, CODE[:-1], "provision.claim: 15 symbols"),
        ("EU868", "EU999", "no such plan"),
        ("rak_2287", "rak_9999", "provision.board"),
        ('fingerprint = "5f', 'fingerprint = "5', "64 hex digits"),
        ("format = 1", 'format = 1\nca_file = "ca.pem"', "an authority besides a fingerprint"),
        ("format = 1", 'format = 1\nfirmware = "../hal.zip"', "a plain name"),
        ("format = 1", "format = 1\nplattform = 1", "did you mean provision.platform?"),
        (PSK, "short", "a Wi-Fi password has 8 to 63"),
        ('ssid = "site"', "", "a password without a network"),
        ('ssid = "site"', 'ssid = ""', "1 to 32 bytes"),
        ('ssid = "site"', f'ssid = "{17 * "ü"}"', "1 to 32 bytes"),
        ('country = "DE"', 'country = "Germany"', "two capitals"),
        ('country = "DE"', 'gateway = "192.0.2.1"', "without a fixed address"),
        ('country = "DE"', 'interface = "eth0"', "found eth0 for a Wi-Fi network"),
        (f'ssid = "site"\npsk = "{PSK}"\n', "", "a Wi-Fi without its network"),
        ('country = "DE"', 'address = "192.0.2.17"', "its length is missing"),
        ('country = "DE"', 'address = "192.0.2.17/24"\ngateway = "198.51.100.1"', "which is not in 192.0.2.0/24"),
        ("[provision]", "[provision", "line 2"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_taken(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in FULL
    desk, partition = _desk(tmp_path), _partition(tmp_path, FULL.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        desk.take(partition)
    words = f"{caught.value} {caught.value.hint}"
    assert said in words
    assert claim.parse(CODE)[:8] not in words.replace("-", "")
    note = outcome.explain(caught.value)
    assert str(tmp_path) not in note, "paths of the gateway say nothing to a person with a laptop"
    assert not (tmp_path / "desk").exists()


@pytest.mark.parametrize("secret", [CODE[:-1], f"{CODE}X"])
def test_a_mistyped_secret_is_not_repeated(tmp_path: Path, secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _desk(tmp_path).take(_partition(tmp_path, FULL.replace(CODE, secret)))
    assert secret not in f"{caught.value}{caught.value.hint}{outcome.explain(caught.value)}"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (f'psk = "{PSK}"', "psk = 12345678", "found a number, expected 8 to 63 characters"),
        (f'psk = "{PSK}"', "psk = 2026-12-24", "found something else, expected 8 to 63 characters"),
        (f'claim = "{CODE}"', "claim = 12345678", "found a number, expected four groups of four"),
        (f'claim = "{CODE}"', 'claim = ["12345678"]', "found an array, expected four groups of four"),
    ],
)
def test_a_secret_without_quotes_is_not_repeated(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in FULL
    with pytest.raises(ConfigError) as caught:
        _desk(tmp_path).check(_partition(tmp_path, FULL.replace(old, new)).request() or Path())
    note = outcome.explain(caught.value)
    assert said in note
    assert "put it in quotes" in note
    assert "12345678" not in note
    assert "12-24" not in note


def test_any_computer_can_check_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was held against the laptop's own network service."""
    path = _partition(tmp_path, FULL).request()
    assert main(["provision", "check", str(path)]) == 0
    assert "ok" in capsys.readouterr().out


def test_what_a_laptop_makes_of_the_file_is_read(tmp_path: Path) -> None:
    text = FULL.replace("\n", "\r\n").encode("utf-8-sig")
    for name in ("civigate.toml", "CIVIGATE.TOML", "civigate.toml.txt"):
        partition = _partition(tmp_path, text, name)
        taken = Desk(tmp_path / name, _desk(tmp_path).root).take(partition)
        assert taken is not None, name
        partition.publish(outcome.write(taken[0], Outcome(Stage.WORKING)))
        assert b"\r\n" in (partition.folder / name).read_bytes()
        (partition.folder / name).unlink()


def test_what_is_named_must_be_there(tmp_path: Path) -> None:
    desk = _desk(tmp_path)
    with_ca = FULL.replace(f'fingerprint = "{"5f" * 32}"', 'ca_file = "ca.pem"')
    partition = _partition(tmp_path, with_ca)
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        desk.take(partition)
    (partition.folder / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        desk.take(partition)
    (tmp_path / "authority").mkdir()
    (partition.folder / "ca.pem").write_bytes(Authority(tmp_path / "authority").certificate.read_bytes())
    taken = desk.take(partition)
    assert taken is not None
    kept = desk.authorities(taken[0])
    assert kept is not None
    assert kept.read_bytes() == (partition.folder / "ca.pem").read_bytes()
    bare = _partition(tmp_path, FULL.replace("format = 1", 'format = 1\nfirmware = "hal"'))
    with pytest.raises(ConfigError, match="hal"):
        desk.take(bare)
    (bare.folder / "hal").mkdir()
    with pytest.raises(ConfigError, match="no firmware"):
        desk.take(bare)


def test_a_file_of_any_size_or_content_does_no_harm(tmp_path: Path) -> None:
    desk = _desk(tmp_path)
    with pytest.raises(ConfigError, match="longer than"):
        desk.take(_partition(tmp_path, b"#" * (MAX_BYTES + 1)))
    with pytest.raises(ConfigError, match="UTF-8"):
        desk.take(_partition(tmp_path, FULL.encode("utf-16")))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_clear_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    tmp_path = tmp_path_factory.mktemp("boot")
    with pytest.raises(ConfigError):
        Desk(tmp_path / "desk", tmp_path).take(_partition(tmp_path, data))


def test_the_documented_file_is_right(tmp_path: Path) -> None:
    asked = request.load(_partition(tmp_path, request.example()).request() or Path())
    assert asked.network is None
    everything = "\n".join(
        line.removeprefix("#") if line[:2] != "# " else line for line in request.example().split("\n")
    )
    everything = everything.replace('ca_file = "platform-ca.pem"', "")
    asked = request.load(_partition(tmp_path, everything).request() or Path())
    assert asked.network is not None
    assert asked.network.address is not None


def test_networkmanager_gets_what_was_asked_for(tmp_path: Path) -> None:
    text = FULL + 'address = "192.0.2.17/24"\ngateway = "192.0.2.1"\ndns = ["192.0.2.2"]\nntp = ["time.example"]\n'
    desk = _desk(tmp_path)
    asked = desk.check(_partition(tmp_path, text).request() or Path())
    assert asked.network is not None
    files = network.plan(asked.network, tmp_path)
    assert network.apply(files, tmp_path) == []
    connection = tmp_path / network.CONNECTION
    assert connection.stat().st_mode & 0o777 == 0o600
    said = connection.read_text()
    assert "ssid=115;105;116;101;" in said
    assert f"psk={PSK.replace(' ', chr(92) + 's')}" in said
    assert "address1=192.0.2.17/24,192.0.2.1" in said
    assert "interface-name=wlan0" in said
    assert (tmp_path / network.TIME_SERVERS).read_text() == "[Time]\nNTP=time.example\n"
    network.apply(files, tmp_path)
    assert connection.read_text() == said, "the second time changes nothing"


def test_the_time_service_is_no_root_and_may_read_its_servers(tmp_path: Path) -> None:
    """The unit's umask is 077; the folder is ours to make."""
    asked = _desk(tmp_path).check(_partition(tmp_path, FULL + 'ntp = ["time.example"]\n').request() or Path())
    assert asked.network is not None
    before = os.umask(0o077)
    try:
        network.apply(network.plan(asked.network, tmp_path), tmp_path)
    finally:
        os.umask(before)
    servers = tmp_path / network.TIME_SERVERS
    assert (servers.stat().st_mode & 0o777, servers.parent.stat().st_mode & 0o777) == (0o644, 0o755)


def test_a_router_may_be_known_by_its_cable(tmp_path: Path) -> None:
    text = FULL + 'address = "2001:db8::17/64"\ngateway = "fe80::1"\n'
    asked = _desk(tmp_path).check(_partition(tmp_path, text).request() or Path())
    assert asked.network is not None
    (connection, *_) = network.plan(asked.network, tmp_path)
    assert "address1=2001:db8::17/64,fe80::1" in connection.text


def test_a_system_that_cannot_do_it_is_named_before_anything_is_done(tmp_path: Path) -> None:
    partition = _partition(tmp_path, FULL)
    with pytest.raises(ConfigError, match="no NetworkManager"):
        Desk(tmp_path / "desk", tmp_path).take(partition)
    (tmp_path / network.NETWORK).parent.mkdir(parents=True)
    cable = FULL[: FULL.index("[network]")] + '[network]\naddress = "192.0.2.17/24"\n'
    asked = Desk(tmp_path / "desk", tmp_path).check(_partition(tmp_path, cable).request() or Path())
    assert asked.network is not None
    network.apply(network.plan(asked.network, tmp_path), tmp_path)
    assert "Address=192.0.2.17/24" in (tmp_path / network.NETWORK).read_text()
