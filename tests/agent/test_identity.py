# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
import argparse
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import durable, identity
from agent.batch import keyfile
from agent.batch.keys import Algorithm, PublicKey, Signer
from agent.batch.model import Receipt
from agent.cli import identity as command
from agent.config import GatewayConfig, load
from agent.errors import IdentityError
from agent.spool.reader import SpoolReader
from agent.spool.writer import SpoolWriter
from tests.agent.batch.devices import SoftwareTpm
from tests.agent.spool.gateway import CITY, POLICY, frame, heard

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


def begun(config: GatewayConfig, signer: Signer, previous: Signer | None = None) -> None:
    """Let the spool seal a batch."""
    with SpoolWriter(
        config.spool_path,
        journal_folder=config.gateway.state_dir / "journal",
        destinations=[CITY],
        policy=POLICY,
        signer=signer,
        previous=previous,
        gateway_eui=EUI,
        commit_window_s=0.0,
    ) as spool:
        assert spool.offer(heard([frame(0)]))
        assert spool.flush(30.0)


def acknowledge(config: GatewayConfig, signer: Signer, previous: Signer | None = None) -> None:
    """Let the platform acknowledge everything."""
    with SpoolReader(config.spool_path) as reader:
        stream = next(iter(reader.state().streams.values()))
    spool = SpoolWriter(
        config.spool_path,
        journal_folder=config.gateway.state_dir / "journal",
        destinations=[CITY],
        policy=POLICY,
        signer=signer,
        previous=previous,
        gateway_eui=EUI,
    )
    with spool:
        spool.receipt(Receipt(stream.stream_id, stream.next_number - 1, stream.last_hash, 1))
        assert spool.flush(30.0)


def test_a_new_key_takes_the_place_of_the_old_one(config: GatewayConfig) -> None:
    old = identity.load_or_create(config).signer
    begun(config, old)
    new = identity.rotate(config)
    assert (new.signer.kid != old.kid, new.previous and new.previous.kid, new.waiting) == (True, old.kid, ("city",))
    assert stat.S_IMODE(config.key_path.stat().st_mode) == 0o600
    keys = identity.keys(config)
    assert (keys.current.kid, keys.previous and keys.previous.kid) == (new.signer.kid, old.kid)
    with pytest.raises(IdentityError, match="not known yet to city") as caught:
        identity.rotate(config)
    assert caught.value.code == "CG-IDN-008"
    begun(config, keys.current, keys.previous)  # the old key announces the new one
    acknowledge(config, keys.current, keys.previous)
    assert identity.keys(config).previous is not None
    begun(config, keys.current, keys.previous)  # the new one signs
    assert identity.keys(config).previous is not None
    acknowledge(config, keys.current, keys.previous)
    assert identity.load(config).previous is None
    assert identity.keys(config).previous is None
    assert [path.name for path in config.key_path.parent.glob("gateway.key*")] == ["gateway.key"]
    assert identity.rotate(config).previous is not None, "the next change may begin"


def test_without_a_spool_nobody_can_tell_that_a_change_is_complete(config: GatewayConfig) -> None:
    old = identity.load_or_create(config).signer
    identity.rotate(config)
    keys = identity.keys(config)
    assert keys.previous is not None
    assert keys.previous.kid == old.kid
    with pytest.raises(IdentityError, match="not known yet to any destination"):
        identity.rotate(config)


@pytest.mark.parametrize("step", range(5))
def test_a_change_of_keys_survives_a_power_cut_at_any_step(
    config: GatewayConfig, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    old = identity.load_or_create(config).signer
    begun(config, old)
    calls = 0

    def cut(real: Callable[..., object]) -> Callable[..., object]:
        def perhaps(*args: object, **more: object) -> object:
            nonlocal calls
            calls += 1
            if calls > step:
                raise KeyboardInterrupt
            return real(*args, **more)

        return perhaps

    with monkeypatch.context() as patch:
        patch.setattr(keyfile, "create", cut(keyfile.create))
        patch.setattr(os, "link", cut(os.link))
        patch.setattr(durable, "sync", cut(durable.sync))
        patch.setattr(Path, "replace", cut(Path.replace))
        with pytest.raises(KeyboardInterrupt):
            identity.rotate(config)
    keys = identity.keys(config)
    assert old.kid in {keys.current.kid, keys.previous and keys.previous.kid}, "what has signed is still there"
    if keys.current.kid == old.kid:
        new = identity.rotate(config)
        assert (new.signer.kid != old.kid, new.previous and new.previous.kid) == (True, old.kid)
        assert not config.key_path.with_name("gateway.key.next").exists()


def test_a_stolen_key_says_nothing_more(config: GatewayConfig) -> None:
    old = identity.load_or_create(config).signer
    begun(config, old)
    identity.rotate(config)
    new = identity.rotate(config, announce=False)
    assert (new.signer.kid != old.kid, new.previous) == (True, None)
    assert [path.name for path in config.key_path.parent.glob("gateway.key*")] == ["gateway.key"]


def test_rotate_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configuration(tmp_path, 'eui = "0016c001ff10a235"')
    assert run("create", "-c", str(path), "--json") == 0
    old = json.loads(capsys.readouterr().out)
    begun(load(path), identity.load(load(path)).signer)
    assert run("rotate", "-c", str(path), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["previous_kid"], said["not_known_to"]) == (old["kid"], ["city"])
    assert run("show", "-c", str(path)) == 0
    assert "still signs for city" in capsys.readouterr().out
    assert run("rotate", "-c", str(path), "--stolen") == 0
    out = capsys.readouterr().out
    assert f"civigate-receiver gateways rotate {EUI.hex()} --key civigate-key:ed25519:" in out
    with pytest.raises(IdentityError, match="--to: no place of a key"):
        run("rotate", "-c", str(path), "--to", "gateway.key")


def test_a_key_moves_into_a_tpm(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    path = configuration(tmp_path, 'eui = "0016c001ff10a235"')
    old = identity.load_or_create(load(path)).signer
    begun(load(path), old)
    tpm = SoftwareTpm(tmp_path_factory.mktemp("t"))
    tpm.start()
    try:
        place = f"tpm:0x81000001?tcti={tpm.tcti}"
        assert run("rotate", "-c", str(path), "--to", place) == 0
        out = capsys.readouterr().out
        path.write_text(path.read_text() + out[out.index("[identity]") :])
        config = load(path)
        keys = identity.keys(config)
        assert keys.previous is not None
        assert (keys.previous.kid, keys.current.algorithm) == (old.kid, Algorithm.ES256)
        for _ in range(2):
            begun(config, keys.current, keys.previous)
            acknowledge(config, keys.current, keys.previous)
        assert identity.keys(config).previous is None
        assert run("show", "-c", str(path)) == 0
        assert "key         tpm:0x81000001" in capsys.readouterr().out
        with pytest.raises(IdentityError) as caught:
            identity.rotate(config)
        assert caught.value.code == "CG-IDN-009"
        tpm.stop()
        assert identity.keys(config).previous is not None, "nobody can tell"
        with pytest.raises(IdentityError, match="cannot be reached"):
            run("show", "-c", str(path))
    finally:
        tpm.stop()


def test_create_makes_a_key_in_a_tpm_once(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    tpm = SoftwareTpm(tmp_path_factory.mktemp("t"))
    tpm.start()
    try:
        path = configuration(tmp_path, 'eui = "0016c001ff10a235"')
        path.write_text(path.read_text() + f'[identity]\nkey = "tpm:0x81000001?tcti={tpm.tcti}"\n')
        kids = set()
        for _ in range(2):
            assert run("create", "-c", str(path), "--json") == 0
            kids.add(json.loads(capsys.readouterr().out)["kid"])
        assert len(kids) == 1
    finally:
        tpm.stop()
