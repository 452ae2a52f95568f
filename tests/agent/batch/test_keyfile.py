# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from agent.batch import keyfile
from agent.batch.keys import Algorithm
from agent.errors import IdentityError


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_new_key_is_the_owners_alone_and_loads_again(tmp_path: Path, algorithm: Algorithm) -> None:
    path = tmp_path / "key.pem"
    old_mask = os.umask(0)
    try:
        made = keyfile.create(path, algorithm)
    finally:
        os.umask(old_mask)
    assert path.stat().st_mode & 0o7777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["key.pem"]
    loaded = keyfile.load(path)
    assert loaded.public == made.public
    assert loaded.algorithm is algorithm
    assert made.public.verify(loaded.sign(b"data"), b"data")


def test_openssl_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    made = keyfile.create(path)
    shown = subprocess.run(
        ["openssl", "pkey", "-in", path, "-pubout", "-outform", "DER"], capture_output=True, check=True
    )
    assert shown.stdout.endswith(made.public.x)


def test_an_existing_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"precious")
    with pytest.raises(IdentityError) as caught:
        keyfile.create(path)
    assert caught.value.code == "CG-IDN-005"
    assert path.read_bytes() == b"precious"
    assert [entry.name for entry in tmp_path.iterdir()] == ["key.pem"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    keyfile.create(path)
    path.chmod(mode)
    with pytest.raises(IdentityError, match=f"{mode:04o}") as caught:
        keyfile.load(path)
    assert caught.value.code == "CG-IDN-003"
    assert "chmod 600" in caught.value.hint


def test_a_missing_folder_or_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(IdentityError) as caught:
        keyfile.load(tmp_path / "none.pem")
    assert caught.value.code == "CG-IDN-002"
    with pytest.raises(IdentityError) as caught:
        keyfile.create(tmp_path / "none" / "key.pem")
    assert caught.value.code == "CG-IDN-006"
    with pytest.raises(IdentityError) as caught:
        keyfile.load(tmp_path)
    assert caught.value.code == "CG-IDN-002"


def test_what_is_not_such_a_key_is_refused_without_showing_it(tmp_path: Path) -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    wrong = {
        "empty": b"",
        "text": b"BEGIN nothing SECRETSECRET",
        "cut": secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())[:150],
        "encrypted": secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
        "curve": ec.generate_private_key(ec.SECP384R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
        "rsa": rsa.generate_private_key(65537, 1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "long": b"A" * 10_000,
    }
    for name, data in wrong.items():
        path = tmp_path / name
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(IdentityError) as caught:
            keyfile.load(path)
        assert caught.value.code == "CG-IDN-004", name
        assert caught.value.__cause__ is None
        assert "SECRET" not in str(caught.value)


def test_many_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    barrier = threading.Barrier(8)
    found: list[bytes] = []

    def start() -> None:
        barrier.wait(10)
        found.append(keyfile.load_or_create(path).kid)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 8
    assert len(set(found)) == 1
