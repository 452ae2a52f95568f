# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
import argparse
import json
import re
from pathlib import Path

import pytest

from agent import settings
from agent.batch.keyplace import FilePlace, TpmPlace
from agent.batch.keys import PublicKey
from agent.cli import config as command
from agent.config import Bus, GatewayConfig, load
from agent.errors import ConfigError
from agent.filter import Span

DOCS = Path(__file__).parents[2] / "docs"
KEY = PublicKey.from_text("civigate-key:ed25519:O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik")
"""The same in every process: it is part of the names of tests."""

BOARD = '[concentrator]\nboard = "rak_2287"\n'


def destination(*lines: str, name: str = "city", url: str = "https://h") -> str:
    head = f'[[destination]]\nname = "{name}"\nurl = "{url}"\nreceipt_key = "{KEY.text}"\n'
    return head + "".join(line + "\n" for line in lines)


def put(folder: Path, text: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(text)
    return path


def test_the_documented_example_is_the_generated_one() -> None:
    written = (DOCS / "gateway.example.toml").read_text()
    assert written == settings.example(GatewayConfig), "run: civigate config example > docs/gateway.example.toml"


def example() -> str:
    """Return the example with the one thing set that nobody can guess."""
    return re.sub(r'^receipt_key = ".*"', f'receipt_key = "{KEY.text}"', settings.example(GatewayConfig), flags=re.M)


def test_the_example_loads(tmp_path: Path) -> None:
    assert load(put(tmp_path, example())).destination[0].name == "city"


def test_a_placeholder_key_that_was_not_replaced_is_named(tmp_path: Path) -> None:
    """Taken for a key, every receipt of the platform would be called forged."""
    with pytest.raises(ConfigError, match=r"destination\[1\]\.receipt_key: .*placeholder.*civigate-receiver identity"):
        load(put(tmp_path, settings.example(GatewayConfig)))


@pytest.mark.parametrize(("key", "name"), [("board", "semtech_corecel_eu868"), ("plan", "eu886"), ("plan", "/no.toml")])
def test_a_board_or_plan_that_is_not_there_is_named_with_file_and_key(tmp_path: Path, key: str, name: str) -> None:
    values = {"board": "rak_2287", "plan": "eu868"} | {key: name}
    lines = "\n".join(f'{field} = "{value}"' for field, value in values.items())
    with pytest.raises(ConfigError, match=f"gateway.toml: concentrator.{key}: {name}: ") as caught:
        load(put(tmp_path, f"[concentrator]\n{lines}\n"))
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_every_line_of_the_example_can_be_taken_into_use(tmp_path: Path) -> None:
    lines = example().splitlines()
    live = "\n".join(line.removeprefix("#") for line in lines if not line.startswith("# "))
    # an HTTPS destination has no MQTT login
    live = live.replace('user = "gateway-17"', "").replace('password_file = "mqtt-password"', "")
    live = live.replace('key = "tpm:0x81000001"', "")  # there is a key_file
    live = live.replace('enrolment = "https://platform.example.org:8444"', "")  # there is a cert_file
    config = load(put(tmp_path, live))
    assert config.gateway.eui == bytes.fromhex("0016c001ff10a235")
    assert config.concentrator.bus == Bus("spi", Path("/dev/spidev0.0"))
    assert config.destination[0].filter.dev_addr == (Span(0x26000000, 0x27FFFFFF),)
    assert config.destination[0].ca_file == tmp_path / "platform-ca.pem"


def test_places_left_out_are_in_the_state_folder(tmp_path: Path) -> None:
    config = load(put(tmp_path, '[gateway]\nstate_dir = "state"\n' + BOARD))
    assert config.spool_path == tmp_path / "state/spool.db"
    assert config.key_path == tmp_path / "state/gateway.key"
    assert config.firmware_dirs[0] == tmp_path / "state/firmware"


def test_a_key_is_in_a_file_or_in_a_device(tmp_path: Path) -> None:
    config = load(put(tmp_path, BOARD + '[identity]\nkey = "tpm:0x81000002"\nprevious_key = "/old.key"'))
    assert config.key_place == TpmPlace(0x81000002)
    assert config.identity.previous_key == FilePlace(Path("/old.key"))
    with pytest.raises(ConfigError, match=r"identity\.key: .*key_file"):
        load(put(tmp_path, BOARD + '[identity]\nkey = "tpm:0x81000002"\nkey_file = "a"'))
    with pytest.raises(ConfigError, match=r"identity\.key: found .*no persistent handle"):
        load(put(tmp_path, BOARD + '[identity]\nkey = "tpm:0x2"'))


@pytest.mark.parametrize("name", ["key", "previous_key"])
def test_a_pin_in_the_configuration_is_not_repeated(tmp_path: Path, name: str) -> None:
    text = f'[identity]\n{name} = "pkcs11:object=a?module-path=/x.so&pin-value=2468"'
    with pytest.raises(ConfigError, match="PIN") as caught:
        load(put(tmp_path, BOARD + text))
    assert "2468" not in f"{caught.value} {caught.value.hint}"


def test_an_emulated_bus(tmp_path: Path) -> None:
    config = load(put(tmp_path, BOARD + 'bus = "emulator:/tmp/spi.sock"'))
    assert config.concentrator.bus == Bus("emulator", Path("/tmp/spi.sock"))


def test_the_receipt_key_is_read(tmp_path: Path) -> None:
    assert load(put(tmp_path, BOARD + destination())).destination[0].receipt_key == KEY


@pytest.mark.parametrize("url", ["https://h", "https://h:8443/a/b", "mqtts://[::1]:8883", "mqtt://broker/"])
def test_urls_that_serve(tmp_path: Path, url: str) -> None:
    assert load(put(tmp_path, BOARD + destination(url=url))).destination[0].url == url


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("", "concentrator.board", "missing"),
        (BOARD + 'bus = "pci:/dev/x"', "concentrator.bus", 'unknown kind "pci"'),
        (BOARD + 'bus = "spi:spidev0.0"', "concentrator.bus", "does not begin with /"),
        (BOARD + 'plan = "../x.toml"', "concentrator.plan", "does not begin with /"),
        (BOARD + '[gateway]\neui = "0016c001ff10a23"', "gateway.eui", "16 hex digits"),
        (BOARD + '[gateway]\neui = "0016c001ff10a2 5"', "gateway.eui", "16 hex digits"),
        (BOARD + "[spool]\nbatch_frames = 5000", "spool.batch_frames", "from 1 to 4096"),
        (BOARD + "[spool]\ncommit_window_s = -1", "spool.commit_window_s", "from 0 to 60 (s)"),
        (BOARD + destination(url="http://h"), "destination[1].url", 'unknown scheme "http"'),
        (BOARD + destination(url="h:443"), "destination[1].url", "expected https://"),
        (BOARD + destination(url="https://"), "destination[1].url", "no host"),
        (BOARD + destination(url="https://h:99999"), "destination[1].url", "ut of range"),
        (BOARD + destination(url="https://u:p@h"), "destination[1].url", "password do not belong"),
        (BOARD + destination(url="mqtt://h/topic"), "destination[1].url", "more than host"),
        (BOARD + destination(url="https://h?x=1"), "destination[1].url", "more than host"),
        (BOARD + destination(url="https://[::1"), "destination[1].url", "expected https://"),
        (BOARD + destination(name="City"), "destination[1].name", "1 to 32 of a-z"),
        (BOARD + destination(name="x" * 33), "destination[1].name", "1 to 32 of a-z"),
        (BOARD + destination() + destination(), "destination[2].name", "a second time"),
        (BOARD + "".join(destination(name=f"d{i}") for i in range(17)), "destination", "0 to 16 tables"),
        (BOARD + destination().replace(KEY.text, KEY.text[:-2]), "destination[1].receipt_key", "civigate-key:"),
        (BOARD + destination('key_file = "k"'), "destination[1].key_file", "without a certificate"),
        (BOARD + destination('ca_file = "c"', url="mqtt://h"), "destination[1].ca_file", "without TLS"),
        (BOARD + destination('user = "u"'), "destination[1].user", "MQTT"),
        (BOARD + destination('password_file = "p"', url="mqtts://h"), "destination[1].password_file", "user"),
        (BOARD + destination('mqtt_version = "4"', url="mqtts://h"), "destination[1].mqtt_version", '"3.1.1"'),
        (BOARD + destination("[destination.filter]", 'dev_addr = ["26011bda/7"]'),
         "destination[1].filter.dev_addr", "is 26000000/7 meant?"),
        (BOARD + destination("[destination.filter]", 'dev_addr = ["26000000/33"]'),
         "destination[1].filter.dev_addr", "not 0 to 32"),
        (BOARD + destination("[destination.filter]", 'dev_adr = []'),
         "destination[1].filter.dev_adr", "unknown key"),
    ],
)  # fmt: skip
def test_configurations_that_cannot_work_are_refused(tmp_path: Path, text: str, key: str, said: str) -> None:
    path = put(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.where == f"{path}: {key}"
    assert said in caught.value.what
    assert "\n" not in f"{caught.value} {caught.value.hint}"


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["config", *argv])
    code: int = args.func(args)
    return code


def test_check_says_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(tmp_path, BOARD)
    assert run("check", str(path)) == 0
    assert capsys.readouterr().out == f"{path}: ok\n"


def test_check_refuses(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        run("check", str(put(tmp_path, "")))


def test_explain_prints_lines_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(tmp_path, BOARD)
    assert run("explain", str(path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["concentrator.board", '"rak_2287"', str(path)] for line in lines)
    assert any(line.split() == ["spool.commit_window_s", "1.0", "s", "default"] for line in lines)
    assert run("explain", "--json", str(path)) == 0
    assert {"key": "concentrator.plan", "value": '"eu868"', "unit": "", "origin": "default"} in json.loads(
        capsys.readouterr().out
    )


def test_example_prints_the_documented_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("example") == 0
    assert capsys.readouterr().out == (DOCS / "gateway.example.toml").read_text()
