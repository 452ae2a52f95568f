# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
import argparse
import json
import stat
from pathlib import Path

import pytest

from agent import identity
from agent.batch.keys import PublicKey
from agent.cli import identity as command
from agent.config import GatewayConfig, load
from agent.errors import IdentityError

EUI = bytes.fromhex("0016c001ff10a235")


def configuration(folder: Path, extra: str = "") -> Path:
    path = folder / "gateway.toml"
    path.write_text(f'[gateway]\nstate_dir = "state/deep"\n{extra}\n[concentrator]\nboard = "rak_2287"\n')
    return path


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["identity", *argv])
    code: int = args.func(args)
    return code


@pytest.fixture
def config(tmp_path: Path) -> GatewayConfig:
    return load(configuration(tmp_path))


def test_a_key_is_made_once_and_kept(config: GatewayConfig) -> None:
    made = identity.load_or_create(config)
    assert stat.S_IMODE(config.key_path.stat().st_mode) == 0o600
    assert identity.load_or_create(config).signer.public == made.signer.public
    assert identity.load(config).signer.public == made.signer.public


def test_without_a_key_there_is_none_to_show(config: GatewayConfig) -> None:
    with pytest.raises(IdentityError, match="no such key file"):
        identity.load(config)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    config = load(configuration(tmp_path))
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(IdentityError, match="cannot be made") as caught:
        identity.load_or_create(config)
    assert caught.value.code == "CG-IDN-007"


def test_the_eui_is_the_configured_one_or_not_known_yet(tmp_path: Path) -> None:
    assert identity.known_eui(load(configuration(tmp_path))) is None
    assert identity.known_eui(load(configuration(tmp_path, 'eui = "0016c001ff10a235"'))) == EUI


def test_create_prints_what_the_platform_registers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configuration(tmp_path, 'eui = "0016c001ff10a235"')
    assert run("create", "-c", str(path), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["eui"] == EUI.hex()
    public = PublicKey.from_text(said["public_key"])
    assert public.kid.hex() == said["kid"]
    assert run("show", "-c", str(path)) == 0
    lines = capsys.readouterr().out
    assert EUI.hex() in lines
    assert public.text in lines
    secret = Path(said["key_file"]).read_text().splitlines()[1]
    assert secret not in lines
