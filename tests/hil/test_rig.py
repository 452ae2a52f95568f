# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A rig as its users have it: a bench file, modules on serial ports, a gateway behind a command, a signed certificate.

The modules are stand-ins and their air is that of an emulated concentrator; everything between is what a rig runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.batch import keyfile
from agent.cli.main import main
from agent.demo.stage import CIVIGATE, GATEWAY_EUI
from drivers.emulator import Emulator
from drivers.emulator.remote import Server
from drivers.errors import ProfileError
from hil_tests.bench.limits import Limits
from hil_tests.bench.opening import open_bench
from hil_tests.bench.roles import BenchError
from hil_tests.bench.town import Town
from hil_tests.bench.virtual import VirtualNode, VirtualPath
from hil_tests.fakes import systemctl
from hil_tests.fakes.lora_e5 import DEV_EUI, VERSION, FakeLoraE5
from hil_tests.fakes.rak3172 import FakeRak3172
from hil_tests.fakes.relay import FakeRelay

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "hil_tests/benches/rig.example.toml"
LIMIT_S = 200
CHOSEN = "(h01 or h02 or h04 or h08_rssi or h10_the_node) and not over_its_wrap"
"""All 49 settings of H07 take long over a serial port, and the wrap of a counter its 134 s."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="cg-rig-") as name:
        yield Path(name)


def bench_file(folder: Path, kind: str, **changes: str) -> Path:
    """Write a bench file and what it names."""
    (folder / "gateway.toml").write_text(
        f'[gateway]\nstate_dir = "{folder}/state"\nruntime_dir = "{folder}/run"\n'
        f'[concentrator]\nbus = "emulator:{folder}/spi.sock"\nboard = "semtech_corecell_eu868"\n'
    )
    keyfile.create(folder / "bench.key")
    file = folder / "rig.toml"
    parts = {
        "bench": 'name = "test rig"\nboard = "a board"\nsigning_key = "bench.key"\n',
        "dut": f'via = ["sh", "-c"]\nroot = []\nconfig = "{folder}/gateway.toml"\n',
        "spi": f'python = ["env", "PYTHONPATH={ROOT}", "{sys.executable}"]\n',
        "power": f'kind = "relay"\nport = "{folder}/relay"\n',
        "node": f'kind = "{kind}"\nport = "{folder}/node"\n',
        "rf": "attenuation_db = 90.0\n",
        "limits": "tx_moment_error_us = 5e6\nstamp_error_us = 5e6\nread_backs = 50\n",
    } | changes
    if "platform" in changes:
        del parts["spi"]
    file.write_text("".join(f"[{name}]\n{text}\n" for name, text in parts.items()))
    return file


def test_a_rig_tests_a_gateway_somewhere_else_and_certifies_it(folder: Path) -> None:
    file, report = bench_file(folder, "rak3172"), folder / "report"
    emulator = Emulator()
    module = FakeRak3172(folder / "node", VirtualNode(emulator, VirtualPath(), lambda: False))
    with module, FakeRelay(folder / "relay") as relay, Server(emulator, folder / "spi.sock", folder / "control.sock"):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "hil_tests", "--ignore=hil_tests/vm"),
                *("--bench", str(file), "--hil-report", str(report), "-k", CHOSEN, "--board-serial", "SN 17"),
            ],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert relay.orders == [], "the supply was switched by opening its port"
    (certificate,) = (path for path in report.glob("*.json"))
    said = json.loads(certificate.read_text())["certificate"]
    outcomes = {one["id"]: one["outcome"] for one in said["tests"]}
    assert outcomes["H01"] == outcomes["H02"] == outcomes["H04"] == "PASS", outcomes
    assert outcomes["H08"] == outcomes["H10"] == "PARTLY", "the choice leaves out a part of each"
    (level,) = [one for one in said["tests"] if one["id"] == "H08"]
    assert [one["name"] for one in level["values"]][:2] == ["levels compared", "slope of RSSI over level"]
    assert said["verdict"] == "INCOMPLETE"
    assert (said["board"]["serial"], said["bench"]["name"]) == ("SN 17", "test rig")
    assert "test rig" in (report / "report.html").read_text()
    # The file calls itself a rig; the chip says that it is an emulated one, and that counts.
    assert said["simulated"]
    real, used = keyfile.load(folder / "bench.key").public.text, (report / "bench.pub").read_text()
    assert main(["certificate", "verify", str(certificate), "--key", used]) == 0
    assert main(["certificate", "verify", str(certificate), "--key", real]) == 4


@pytest.mark.timeout(LIMIT_S * 2)
def test_a_rig_tests_the_way_to_the_platform(folder: Path) -> None:
    """Everything of it is real but the module on the serial port, the concentrator, and the service manager."""
    emulator = Emulator(eui=bytes.fromhex(GATEWAY_EUI))
    services, report, home = folder / "services", folder / "report", folder / "home"
    services.mkdir()
    home.mkdir()
    for name, script in (
        ("systemctl", f'exec "{sys.executable}" "{systemctl.__file__}" "{services}" "$@"'),
        ("journalctl", f'exec cat "{services}/journal"'),
    ):
        (services / name).write_text(f"#!/bin/sh\n{script}\n")
        (services / name).chmod(0o755)
    with Town(home, emulator) as town:
        town.begin()
        town.take_away("receiver")  # the rig runs it
        town.relay.cut()
        (services / "command").write_text(json.dumps([*CIVIGATE, "run", "-c", str(town.gateway_toml)]))
        (https,) = (line for line in town.receiver_toml.read_text().splitlines() if line.startswith("port = "))
        path = f"PATH={services}:{os.environ['PATH']}"
        file = bench_file(
            folder,
            "rak3172",
            dut=f'via = ["env", "{path}", "sh", "-c"]\nroot = []\nconfig = "{town.gateway_toml}"\n'
            f'state_dir = "{home}/gateway"\nruntime_dir = "{home}/run"\n',
            platform=f'receiver = "{town.receiver_toml}"\n{https}\n'
            f'listen = "127.0.0.1"\nlisten_port = {town.relay.port}\n',
            limits="frames_away = 12\nanswer_s = 120.0\n",
        )
        module = FakeRak3172(folder / "node", VirtualNode(emulator, VirtualPath(), lambda: True))
        with module, FakeRelay(folder / "relay"):
            try:
                done = subprocess.run(
                    [
                        *(
                            sys.executable,
                            "-m",
                            "pytest",
                            "-q",
                            "-p",
                            "no:cacheprovider",
                            "hil_tests/test_h15_h19_path.py",
                        ),
                        *("--bench", str(file), "--hil-report", str(report), "-k", "h16_the or digest"),
                    ],
                    capture_output=True,
                    text=True,
                    timeout=LIMIT_S,
                    cwd=ROOT,
                )
            finally:
                systemctl.main(services, ["stop", "civigate"])
    assert done.returncode == 0, done.stdout + done.stderr
    (certificate,) = (path for path in report.glob("*.json"))
    said = json.loads(certificate.read_text())["certificate"]
    outcomes = {one["id"]: one["outcome"] for one in said["tests"]}
    assert (outcomes["H16"], outcomes["H17"]) == ("PASS", "PARTLY"), outcomes  # of H17 one false answer was chosen


def test_a_lora_e5_is_opened_by_its_kind(folder: Path) -> None:
    file = bench_file(folder, "lora-e5")
    text = file.read_text()
    file.write_text(text[: text.index("[dut]")] + text[text.index("[power]") :])
    air = VirtualNode(Emulator(), VirtualPath(), lambda: False)
    with FakeRelay(folder / "relay"), FakeLoraE5(folder / "node", air), open_bench(str(file)) as bench:
        assert bench.description["node"] == f"LoRa-E5 {DEV_EUI} {VERSION}"
        assert bench.signing_key == (folder / "bench.key").resolve()


def test_what_is_not_plugged_in_is_named(folder: Path) -> None:
    with pytest.raises(BenchError, match="cannot be opened"), open_bench(str(bench_file(folder, "rak3172"))):
        pass
    with (
        FakeRelay(folder / "relay"),
        pytest.raises(BenchError, match=r"node.*does not exist"),
        open_bench(str(folder / "rig.toml")),
    ):
        pass


@pytest.mark.parametrize(
    ("section", "text", "words"),
    [
        ("bench", 'name = "x"\nnmae = 1\n', "nmae"),
        ("limits", "rssi_eror_db = 2.0\n", "did you mean 'rssi_error_db'"),
        ("rf", "attenuation_db = 30.0\n", "60"),
        ("node", 'kind = "rn2483"\nport = "x"\n', "rak3172, lora-e5"),
        ("power", 'kind = "relay"\nport = "x"\nline = "rts"\n', "line"),
        ("relais", "a = 1\n", "relais"),
    ],
)
def test_a_mistake_in_a_bench_file_is_named(folder: Path, section: str, text: str, words: str) -> None:
    file = folder / "rig.toml"
    parts = {"bench": 'name = "x"\n', section: text}
    file.write_text("".join(f"[{name}]\n{part}\n" for name, part in parts.items()))
    with pytest.raises(ProfileError) as caught, open_bench(str(file)):
        pass
    assert words in f"{caught.value}; {caught.value.hint}"


def test_the_example_has_every_limit_that_there_is_or_fewer_and_no_unknown_key(folder: Path) -> None:
    """Its ports do not exist here; so all of it is read, up to the first of them."""
    said = tomllib.loads(EXAMPLE.read_text())
    assert set(said["limits"]) <= set(Limits.__dataclass_fields__)
    assert set(said) == {"bench", "dut", "spi", "power", "node", "rf", "platform", "golden", "system", "limits"}
    text = EXAMPLE.read_text()
    local = bench_file(folder, "rak3172").read_text()
    ours = tomllib.loads(local)
    for name in ("dut", "spi", "power", "node"):
        begin, end = text.index(f"[{name}]"), text.index("\n\n", text.index(f"[{name}]"))
        block = text[begin:end]
        swapped = block
        for key, value in ours[name].items():
            lines = [line for line in swapped.splitlines() if line.partition("=")[0].strip() == key]
            for line in lines:
                swapped = swapped.replace(line, f"{key} = {json.dumps(value)}")
        text = text.replace(block, swapped)
    text = text.replace('firmware_dir = "/var/lib/civigate/firmware"', f'firmware_dir = "{folder}"')
    begin = text.index("[platform]")
    text = text[:begin] + text[text.index("[golden]") :]
    file = folder / "example.toml"
    file.write_text(text)
    air = VirtualNode(Emulator(), VirtualPath(), lambda: False)
    with FakeRelay(folder / "relay"), FakeRak3172(folder / "node", air), open_bench(str(file)) as bench:
        assert bench.roles == ["dut", "spi", "power", "node", "rf", "golden", "clock", "disk", "system"]
        assert bench.limits.power_cuts == 20
        assert not bench.simulated
        assert bench.description["node"].startswith("RAK3172 AC1F09")


def test_a_rig_is_held_by_one_run_at_a_time(folder: Path) -> None:
    file = folder / "rig.toml"
    file.write_text('[bench]\nname = "x"\n')
    with (
        open_bench(str(file)),
        pytest.raises(BenchError, match=r"in use by .* \(process \d+"),
        open_bench(str(file)),
    ):
        pass
    with open_bench(str(file)) as bench:
        assert bench.roles == []
        assert bench.missing(("power", "node")) == ["power", "node"]


def test_an_unknown_bench_is_named() -> None:
    with pytest.raises(BenchError, match="emulator, vm, local-pi"), open_bench("emulatr"):
        pass
