# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What root's commands leave in the receiver's folder is the receiver's: it serves with it, and goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from agent.demo.authority import Authority
from tests.receiver.enrolment.town import Town, town
from tests.receiver.gateway import EUI, Gateway, stick
from tests.receiver.platform import LIMIT_S, PROGRAM, Certificates, until
from tests.rights import SERVICE, give, only_root, open_folder, service_call, strangers

pytestmark = only_root


@pytest.fixture
def here() -> Iterator[Town]:
    """A town whose data folder is the service's; configuration and stick are root's."""
    with open_folder() as folder:
        (folder / "tls").mkdir()
        authority = Authority(folder / "tls")
        certificates = Certificates(authority.certificate, authority.server("platform"), authority.client("gateway"))
        give(folder / "data", folder / "tls")
        (folder / "stick").mkdir(mode=0o700)
        yield town(folder, certificates)


def test_the_service_serves_with_what_root_set_up(here: Town) -> None:
    platform, gateway = here.platform, Gateway()
    platform.json("gateways", "add", EUI.hex(), "--key", gateway.signer.public.text)
    here.code(None)
    folder = platform.folder / "stick"
    batches = stick(folder, gateway.wires(3))
    assert platform.json("import", "--receipts", folder, batches)["accepted"] == 3
    for command in (("status",), ("gateways", "list"), ("ca", "crl"), ("ca", "show"), ("gateways", "revoke", "0" * 16)):
        platform.run(*command)
    assert strangers(platform.data_dir) == []
    assert {path.name for path in platform.data_dir.iterdir()} == {"ca", "enrolment.db", "ledger.db", "ledger.lock"}
    assert (platform.folder / "receipt.key").stat().st_uid == SERVICE
    assert {path.stat().st_uid for path in folder.iterdir()} == {0}
    call = service_call("receiver.cli.main", "serve", "-c", platform.toml)
    log = platform.folder / "receiver.log"
    with log.open("wb") as file, subprocess.Popen(call, stderr=file) as serving:
        try:
            until(lambda: b"event=ready " in log.read_bytes() or serving.poll() is not None, LIMIT_S)
            assert serving.poll() is None, log.read_text()
            again = stick(folder, gateway.wires(2))
            assert platform.json("import", again)["accepted"] == 2
            platform.json("gateways", "invite")
        finally:
            serving.terminate()
            serving.wait(LIMIT_S)
    assert serving.returncode == 0, log.read_text()
    assert strangers(platform.data_dir) == []


def test_the_key_of_receipts_is_the_services_where_root_makes_it(here: Town) -> None:
    toml = here.platform.toml
    toml.write_text(toml.read_text().replace('"receipt.key"', '"data/receipt.key"'))
    here.platform.json("identity", "create")
    assert strangers(here.platform.data_dir) == []


def test_root_registers_in_a_process_that_has_loaded_nothing_yet(here: Town) -> None:
    """The program may lie where the owner of the ledger does not get at it."""
    key = Gateway().signer.public.text
    call = [*PROGRAM, "gateways", "add", EUI.hex(), "--key", key, "-c", str(here.platform.toml)]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert strangers(here.platform.data_dir) == []
