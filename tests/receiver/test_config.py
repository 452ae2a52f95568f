# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

from pathlib import Path

import pytest

from agent import settings
from agent.errors import ConfigError
from receiver import config

DOCS = Path(__file__).parents[2] / "docs"


def test_the_documented_example_is_what_the_program_prints() -> None:
    written = (DOCS / "receiver.example.toml").read_text()
    assert written == settings.example(config.ReceiverConfig), (
        "run: civigate-receiver config example > docs/receiver.example.toml"
    )


def test_the_documented_example_is_valid() -> None:
    loaded = config.load(DOCS / "receiver.example.toml")
    assert loaded.https is not None
    assert loaded.https.certificate == DOCS.absolute() / "server.pem"


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "https", "neither [https] nor [mqtt] is there"),
        ("[https]\ncertificate='a'\nkey='b'\nprot=1", "https.prot", "unknown key"),
        ("[https]\ncertificate='a'\nkey='b'\nport=0", "https.port", "found 0"),
        ("[https]\ncertificate='a'", "https.key", "missing"),
        ("[https]\ncertificate='a'\nkey='b'\nlisten='localhost'", "https.listen", "an IP address"),
        ("[mqtt]\nurl='mqtt://u:p@h'", "mqtt.url", "user and password"),
        ("[mqtt]\nurl='mqtt://h'\nca_file='x'", "mqtt.ca_file", "without TLS"),
        ("[mqtt]\nurl='mqtt://h'\npassword_file='x'", "mqtt.user", "missing"),
        ("[mqtt]\nurl='mqtt://h'\nshared_group='a/b'", "mqtt.shared_group", "other characters"),
        ("[mqtt]\nurl='mqtt://h'\n[api]\nlisten='0.0.0.0'", "api.token_file", "open to others"),
        ("[mqtt]\nurl='mqtt://h'\n[limits]\nburst=0", "limits.burst", "found 0"),
        ("[mqtt]\nurl='mqtt://h'\n[ledger]\nurl='mysql://h/d'", "ledger.url", "PostgreSQL"),
        ("[mqtt]\nurl='mqtt://h'\n[ledger]\nkeep_days=-1", "ledger.keep_days", "found -1"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(text: str, where: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "receiver.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value).startswith(f"{path}: {where}: ")
    assert what in str(caught.value)
    assert "\n" not in f"{caught.value}{caught.value.hint}"
    assert caught.value.exit_code == 2


def test_the_default_port_of_a_broker_is_that_of_its_scheme(tmp_path: Path) -> None:
    path = tmp_path / "receiver.toml"
    for url, port in (("mqtt://h", 1883), ("mqtts://h", 8883), ("mqtts://[::1]:99", 99)):
        path.write_text(f"[mqtt]\nurl='{url}'")
        section = config.load(path).mqtt
        assert section is not None
        assert section.port == port


@pytest.mark.parametrize("url", ["postgresql://u:geheim@h/d", "postgresql://u@h/d?password=geheim"])
def test_a_password_in_the_address_of_a_database_is_refused_and_not_repeated(url: str, tmp_path: Path) -> None:
    path = tmp_path / "receiver.toml"
    path.write_text(f"[mqtt]\nurl='mqtt://h'\n[ledger]\nurl='{url}'")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value).startswith(f"{path}: ledger.url: a password")
    assert "geheim" not in f"{caught.value}{caught.value.hint}"
