# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What `civigate-receiver verify` finds in files, with nothing but a gateway's first key."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

from agent.batch.keys import Ed25519Signer, ES256Signer
from agent.batch.model import Account, HourAccount, Loss
from receiver.audit import Audit, StreamAudit, audit
from receiver.cli.main import main
from tests.receiver.gateway import BOOT_ID, Gateway, stick, wire, withdrawn


def read(folder: Path, wires: list[bytes], *gateways: Gateway) -> Audit:
    return audit([stick(folder, wires)], [gateway.signer.public for gateway in gateways])


def only(found: Audit) -> StreamAudit:
    (stream,) = found.streams
    return stream


def changed_keys(gateway: Gateway) -> list[bytes]:
    """Seal batches with three keys, one after the other; the gateway is left with the first."""
    first = gateway.signer
    wires = gateway.wires(2)
    for following in (ES256Signer.generate(), Ed25519Signer.generate()):
        wires += [wire(gateway.announce(following)), gateway.wire()]
        gateway.signer = following
        wires += gateway.wires(2)
    gateway.signer = first
    return wires


def test_keys_are_followed_from_the_first_one(tmp_path: Path) -> None:
    gateway = Gateway()
    wires = changed_keys(gateway)
    random.Random(3).shuffle(wires)
    found = read(tmp_path, wires, gateway)
    assert found.ok, found.refused
    keys = only(found).keys
    assert [(key.first, key.last, key.batches) for key in keys] == [(1, 4, 4), (5, 8, 4), (9, 10, 2)]
    assert [key.announced_by for key in keys] == [None, keys[0].kid, keys[1].kid]
    assert found.files[0].sha256 == hashlib.sha256(b"".join(wires)).hexdigest()


def test_a_key_that_nobody_announced_is_a_stranger(tmp_path: Path) -> None:
    gateway = Gateway()
    wires = changed_keys(gateway)
    del wires[6]  # announces the third key
    found = read(tmp_path, wires, gateway)
    assert [(one.number, "not registered" in one.reason) for one in found.refused] == [(9, True), (10, True)]
    assert only(found).chain.missing == [(7, 7)]


def test_an_old_key_that_goes_on_is_a_flaw(tmp_path: Path) -> None:
    gateway = Gateway()
    wires = changed_keys(gateway)
    wires.append(gateway.wire())
    found = read(tmp_path, wires, gateway)
    assert any("after its successor had signed" in flaw for flaw in only(found).chain.flaws)


def test_a_key_speaks_for_its_own_gateway_alone(tmp_path: Path) -> None:
    gateway = Gateway()
    other = Gateway(signer=gateway.signer, eui=bytes(8), seed=b"other")
    path = stick(tmp_path, other.wires(2))
    assert audit([path], [gateway.signer.public]).ok, "nobody has said whose key it is"
    found = audit([path], [gateway.signer.public], {gateway.signer.kid: gateway.eui})
    assert any("a key of another gateway" in flaw for flaw in only(found).chain.flaws)
    assert not read(tmp_path, [*gateway.wires(2), *other.wires(2)], gateway).ok


def test_the_sums_say_what_is_not_here(tmp_path: Path) -> None:
    gateway = Gateway()
    account = Account(heard=12, bad_crc=1, filtered=1, spooled=10, evicted=2, quarantined=1)
    wires = [gateway.wire(3), wire(gateway.seal(4, account=account))]
    stream = only(read(tmp_path, wires, gateway))
    assert (stream.from_start, stream.account.spooled, stream.waiting) == (True, 13, 3)
    assert only(read(tmp_path, wires[1:], gateway)).waiting is None
    too_many = Gateway(signer=gateway.signer)
    found = read(tmp_path, [wire(too_many.seal(4, account=Account(heard=3, spooled=3)))], gateway)
    assert any("1 frames more were delivered" in flaw for flaw in only(found).chain.flaws)


@pytest.mark.parametrize("present", [False, True])
@pytest.mark.parametrize("reason", [Loss.EVICTED, Loss.DAMAGED])
def test_withdrawn_batches_count_once(tmp_path: Path, present: bool, reason: Loss) -> None:
    gateway = Gateway()
    first, gone = gateway.seal(3), gateway.seal(2)
    stone = replace(withdrawn([gone], reason), count=2 if reason is Loss.EVICTED else 0)
    # its account, and what became of its frames, comes with the batch that withdraws it
    frames = 1 if reason is Loss.EVICTED else 3
    account = Account(heard=3, spooled=3, evicted=stone.count)
    last = gateway.seal(frames, account=account, tombstones=(stone,))
    found = read(tmp_path, [wire(first), *([wire(gone)] if present else []), wire(last)], gateway)
    stream = only(found)
    assert found.ok, stream.chain.flaws
    assert (stream.waiting, stream.withdrawn_frames, stream.account.heard) == (0, 2 if present else 0, 9)


def test_hours_that_are_not_the_account_are_a_flaw(tmp_path: Path) -> None:
    gateway = Gateway()
    account = Account(heard=3, spooled=3)
    hours = (HourAccount(BOOT_ID, 0, Account(heard=2, spooled=2)),)
    found = read(tmp_path, [wire(gateway.seal(3, account=account, hours=hours))], gateway)
    assert "not the sum of its hours" in only(found).chain.flaws[0]


def test_nothing_is_not_everything(tmp_path: Path) -> None:
    assert not read(tmp_path, [], Gateway()).ok
    strangers = read(tmp_path, Gateway().wires(2), Gateway())
    assert (strangers.ok, strangers.streams, strangers.refused_count) == (False, [], 2)


def test_an_auditor_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gateway = Gateway()
    path = stick(tmp_path, changed_keys(gateway)[2:])
    assert main(["verify", str(path), "--key", gateway.signer.public.text]) == 0
    said = capsys.readouterr().out
    for line in (
        "those before 3 are not in these files",
        f"key         {gateway.signer.kid.hex()}: batches 3 to 4, given",
        f"announced by {gateway.signer.kid.hex()[:16]}",
        "heard       48 = bad CRC 8 + filtered 16 + duplicate 0 + kept 24",
        "all of it verifies",
    ):
        assert line in said
