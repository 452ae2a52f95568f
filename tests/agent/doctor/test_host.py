# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What is read of the host: on roots like those of Raspberry Pis, on this machine, with and without rights."""

from __future__ import annotations

import json
import os
import pty
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch.model import Anchor
from agent.clock import HostClock
from agent.config import load
from agent.doctor import buses, card, context, gateway, host, network, power, times
from agent.doctor.context import AgentState, Context
from agent.doctor.finding import Finding, Verdict
from agent.spool import state
from agent.spool.orders import Policy
from agent.spool.state import State
from agent.spool.writer import SpoolWriter
from drivers.emulator import Emulator
from tests.agent.doctor.scene import FILTER, Scene, destination
from tests.agent.spool.gateway import CITY, EUI, SIGNER, frame, heard

Capsys = pytest.CaptureFixture[str]
Files = Mapping[str, str]


@pytest.fixture
def pi(tmp_path: Path) -> Callable[..., Context]:
    """Return what makes the context of a machine with such files."""

    def make(files: Files, toml: str = "", agent: AgentState = AgentState.STOPPED) -> Context:
        for name, text in files.items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        config = tmp_path / "gateway.toml"
        config.write_text(f'[gateway]\nstate_dir = "{tmp_path}/state"\n[concentrator]\nboard = "rak_2287"\n{toml}')
        return Context(tmp_path / "root", config, load(config), None, HostClock(), agent, None)

    return make


def code(findings: object) -> str:
    """Return the code of the only finding."""
    (finding,) = cast("list[Finding]", list(cast("list[Finding]", findings)))
    return finding.code


@pytest.mark.parametrize(
    ("flags", "celsius", "expected"),
    [
        ("0", 48_000, ""),
        ("50005", 48_000, "CG-DOC-101"),
        ("50000", 48_000, "CG-DOC-102"),
        ("e0008", 82_000, "CG-DOC-103"),
        ("0", 83_000, "CG-DOC-103"),
        ("e0000", 55_000, "CG-DOC-104"),
    ],
)
def test_power(pi: Callable[..., Context], flags: str, celsius: int, expected: str) -> None:
    files = {
        power.THROTTLED: f"{flags}\n",
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "sys/class/thermal/thermal_zone0/temp": f"{celsius}\n",
    }
    (finding,) = power.power(pi(files))
    assert finding.code == expected
    assert "Raspberry Pi 4 Model B Rev 1.4" in finding.evidence
    assert finding.values["processor_celsius"] == celsius / 1000


@pytest.mark.parametrize(
    ("flags", "celsius", "expected"),
    [("50005", 84_000, ["CG-DOC-101", "CG-DOC-103"]), ("d0000", 55_000, ["CG-DOC-102", "CG-DOC-104"])],
)
def test_a_weak_supply_hides_no_heat(pi: Callable[..., Context], flags: str, celsius: int, expected: list[str]) -> None:
    files = {power.THROTTLED: f"{flags}\n", "sys/class/thermal/thermal_zone0/temp": f"{celsius}\n"}
    assert [finding.code for finding in power.power(pi(files))] == expected


def test_power_by_the_kernels_monitor(pi: Callable[..., Context]) -> None:
    files = {"sys/class/hwmon/hwmon1/name": "rpi_volt\n", "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n"}
    assert code(power.power(pi(files))) == "CG-DOC-102"


@pytest.mark.parametrize(
    ("config_txt", "expected"),
    [
        ("# nothing\n", "CG-DOC-201"),
        ("dtparam=i2c_arm=on,spi=off\n", "CG-DOC-201"),
        ("[all]\ndtparam=spi=on  # radio\n", "CG-DOC-202"),
        ("dtparam=i2c_arm=on,spi=on\n", "CG-DOC-202"),
        ("device_tree_param=spi=on\n", "CG-DOC-202"),
        ("dtoverlay=spi0-1cs,cs0_pin=7\n", "CG-DOC-202"),
        ("dtoverlay=spi1-1cs\n", "CG-DOC-201"),
        ("[pi4]\ndtparam=spi=on\n", "CG-DOC-202"),
        ("[pi5]\ndtparam=spi=on\n", "CG-DOC-201"),
        ("dtparam=spi=on\n[pi5]\ndtparam=spi=off\n", "CG-DOC-202"),
        ("[pi5]\n[all]\ndtparam=spi=on\n", "CG-DOC-202"),
        ("[pi0]\n[PI4]\ndtparam=spi=on\n", "CG-DOC-202"),
        ("[none]\ndtparam=spi=on\n", "CG-DOC-201"),
        ("[cm4]\ndtparam=spi=on\n", "CG-DOC-201"),
        ("[EDID=VSC-TD2220]\ndtparam=spi=on\n", "CG-DOC-202"),
    ],
)
def test_spi_in_config_txt(pi: Callable[..., Context], config_txt: str, expected: str) -> None:
    model = "Raspberry Pi 4 Model B Rev 1.4\0"
    made = pi({"boot/firmware/config.txt": config_txt, "proc/device-tree/model": model})
    assert code(buses._no_spi(made, Path("/dev/spidev0.0"), "is not there")) == expected


@given(st.text())
def test_any_config_txt_says_something_or_nothing(text: str) -> None:
    assert host.switched_on(text, "spi", "Raspberry Pi 5 Model B Rev 1.0") in {None, True, False}


@pytest.mark.parametrize(
    ("section", "model", "applies"),
    [
        ("pi4", "Raspberry Pi Compute Module 4 Rev 1.0", True),
        ("pi4", "Raspberry Pi 400 Rev 1.0", True),
        ("cm4", "Raspberry Pi Compute Module 4 Rev 1.0", True),
        ("pi400", "Raspberry Pi 4 Model B Rev 1.4", False),
        ("pi3", "Raspberry Pi 3 Model B Plus Rev 1.3", True),
        ("pi3+", "Raspberry Pi 3 Model B Plus Rev 1.3", True),
        ("pi3+", "Raspberry Pi 3 Model B Rev 1.2", False),
        ("pi0", "Raspberry Pi Zero 2 W Rev 1.0", True),
        ("pi02", "Raspberry Pi Zero 2 W Rev 1.0", True),
        ("pi0w", "Raspberry Pi Zero W Rev 1.1", True),
        ("pi2", "Raspberry Pi Zero 2 W Rev 1.0", False),
        ("pi5", "Raspberry Pi Compute Module 5 Rev 1.0", True),
        ("pi1", "Raspberry Pi Model B Plus Rev 1.2", True),
        ("pi4", None, True),
    ],
)
def test_sections_of_config_txt(section: str, model: str | None, applies: bool) -> None:
    assert (host.switched_on(f"[{section}]\ndtparam=spi=on\n", "spi", model) is True) == applies


def test_the_console_on_the_receivers_port(pi: Callable[..., Context]) -> None:
    line = "console=serial0,115200 console=tty1 root=PARTUUID=1234-02 rootwait\n"
    made = pi({"boot/cmdline.txt": line}, '[gnss]\ndevice = "/dev/serial0"\n')
    assert code(buses.serial(made)) == "CG-DOC-231"
    free = pi({"boot/cmdline.txt": "console=tty1\n"}, '[gnss]\ndevice = "/dev/serial0"\n')
    assert list(buses.serial(free)) == []


@pytest.mark.parametrize(
    ("device", "console", "clash"),
    [
        ("/dev/ttyS0", "serial0", True),
        ("/dev/serial0", "ttyS0", True),
        ("/dev/serial0", "serial0", True),
        ("/dev/ttyAMA0", "serial0", False),
        ("/dev/serial1", "ttyAMA0", True),
    ],
)
def test_a_console_by_another_name(
    pi: Callable[..., Context], tmp_path: Path, device: str, console: str, clash: bool
) -> None:
    (tmp_path / "root/dev").mkdir(parents=True)
    for link, port in (("serial0", "ttyS0"), ("serial1", "ttyAMA0")):
        (tmp_path / "root/dev" / port).touch()
        (tmp_path / "root/dev" / link).symlink_to(port)
    made = pi({"boot/cmdline.txt": f"console={console},115200 rootwait\n"}, f'[gnss]\ndevice = "{device}"\n')
    assert [finding.code for finding in buses.serial(made)] == (["CG-DOC-231"] if clash else [])


def test_errors_of_a_file_system_whose_device_has_another_name(pi: Callable[..., Context], tmp_path: Path) -> None:
    number = tmp_path.stat().st_dev
    made = pi({"sys/fs/ext4/mmcblk0p2/errors_count": "3\n"})
    (tmp_path / "root/sys/devices/mmcblk0/mmcblk0p2").mkdir(parents=True)
    (tmp_path / "root/sys/dev/block").mkdir(parents=True)
    name = tmp_path / f"root/sys/dev/block/{os.major(number)}:{os.minor(number)}"
    name.symlink_to("../../devices/mmcblk0/mmcblk0p2")
    found = [finding.code for finding in card.disk(made)]
    assert "CG-DOC-506" in found


def test_the_receiver_of_a_running_forwarder_is_left_alone(pi: Callable[..., Context]) -> None:
    main, device = pty.openpty()
    made = pi({}, f'[gnss]\ndevice = "{os.ttyname(device)}"\n')
    busy = replace(made, forwarder="lora_pkt_fwd")
    try:
        (finding,) = times.gnss(busy)
    finally:
        os.close(main)
        os.close(device)
    assert finding.verdict is Verdict.SKIPPED
    assert "lora_pkt_fwd" in finding.evidence


def test_another_forwarder(pi: Callable[..., Context]) -> None:
    made = pi({"proc/4711/comm": "lora_pkt_fwd\n"})
    assert context._forwarder(made.root) == "lora_pkt_fwd"
    busy = Context(made.root, made.path, made.config, None, made.clock, AgentState.STOPPED, None, "lora_pkt_fwd")
    assert [finding.code for finding in gateway.agent(busy)] == ["CG-DOC-014", "CG-DOC-010"]
    assert "lora_pkt_fwd" in busy.hands_off


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "CG-DOC-601"),
        ({"proc/net/route": "Iface\tDestination\neth0\t0001A8C0\n"}, "CG-DOC-601"),
        ({"proc/net/route": "Iface\tDestination\neth0\t00000000\n"}, "CG-DOC-602"),
        (
            {"proc/net/route": "Iface\tDestination\neth0\t00000000\n", "etc/resolv.conf": "nameserver 192.168.1.1\n"},
            "",
        ),
        (
            {
                "proc/net/ipv6_route": f"{'0' * 32} 00 {'0' * 32} 00 {'f' * 32} 400 1 0 3 wwan0\n",
                "etc/resolv.conf": "nameserver fe80::1\n",
            },
            "",
        ),
    ],
)
def test_the_network(pi: Callable[..., Context], files: Files, expected: str) -> None:
    toml = destination("https://platform.example.org")
    assert code(network.network(pi(files, toml))) == expected


ROUTES = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n"
STATIC = {"proc/net/route": ROUTES + "eth0\t0000000A\t0101A8C0\t0003\t0\t0\t0\t000000FF\n"}
DEFAULT = {"proc/net/route": ROUTES + "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\n"}
REJECT = {"proc/net/route": ROUTES + "*\t00000000\t00000000\t0200\t0\t0\t0\t00000000\n"}
REJECT6 = {"proc/net/ipv6_route": f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} 400 1 0 00000200 eth0\n"}
SERVER = {"etc/resolv.conf": "nameserver 10.0.0.53\n"}
STUB = {"etc/resolv.conf": "nameserver 127.0.0.53\n", "run/systemd/resolve/resolv.conf": "nameserver 10.0.0.53\n"}
OUTSIDE = {"etc/resolv.conf": "nameserver 192.0.2.53\n"}
HOSTS = {"etc/hosts": "127.0.0.1 localhost\n10.1.2.3 town platform.town # ours\n"}


@pytest.mark.parametrize(
    ("urls", "files", "expected"),
    [
        (["https://10.1.2.3"], STATIC, ""),
        (["https://10.1.2.3"], DEFAULT, ""),
        (["https://192.0.2.3"], DEFAULT | SERVER, "CG-DOC-603"),
        (["https://[fd00::3]:8443"], {}, ""),
        (["https://192.0.2.3"], STATIC, "CG-DOC-601"),
        (["https://192.0.2.3"], REJECT | SERVER, "CG-DOC-601"),
        (["https://192.0.2.3", "https://10.1.2.3"], STATIC, ""),
        (["https://platform.town"], STATIC | SERVER, ""),
        (["https://platform.town"], STATIC | STUB, ""),
        (["https://platform.town"], STATIC | OUTSIDE, "CG-DOC-601"),
        (["https://platform.town"], STATIC, "CG-DOC-601"),
        (["https://platform.town"], STATIC | HOSTS, ""),
        (["https://platform.town"], DEFAULT, "CG-DOC-602"),
        (["https://platform.town"], DEFAULT | HOSTS, ""),
        (["https://platform.town", "https://10.1.2.3"], DEFAULT, ""),
        (["https://platform.town"], REJECT | OUTSIDE, "CG-DOC-601"),
        (["https://platform.town"], REJECT6 | OUTSIDE, "CG-DOC-601"),
        (["mqtt://localhost"], {}, ""),
        (["https://platform.town", "https://localhost"], {}, "CG-DOC-601"),
        (["https://192.0.2.3", "https://[::1]"], {}, "CG-DOC-601"),
        (["https://platform.town", "https://localhost"], DEFAULT, "CG-DOC-602"),
    ],
)
def test_a_network_of_a_towns_own(
    pi: Callable[..., Context], monkeypatch: pytest.MonkeyPatch, urls: list[str], files: Files, expected: str
) -> None:
    monkeypatch.setattr(
        network, "leads", lambda address: address.startswith(("10.", "fd00:", "127.", "::1")), raising=False
    )
    more = f"fallback_urls = {json.dumps(urls[1:])}"
    assert code(network.network(pi(files, destination(urls[0], more)))) == expected


def test_the_kernel_is_asked_for_a_route() -> None:
    assert network.leads("127.0.0.1")
    assert not network.leads("no address")
    assert not network.leads("0.0.0.1.2")


def clock_of(monkeypatch: pytest.MonkeyPatch, *, synchronised: bool, year: int = 2026) -> HostClock:
    made = HostClock()

    def anchor(_: HostClock) -> Anchor | None:
        return None

    if not synchronised:
        monkeypatch.setattr(HostClock, "anchor", anchor)
    moment = datetime(year, 12, 1, tzinfo=UTC).timestamp()
    monkeypatch.setattr(times, "time", SimpleNamespace(time=lambda: moment))
    return made


@pytest.mark.parametrize(
    ("files", "year", "expected"),
    [
        ({}, 2026, "CG-DOC-423"),
        ({"proc/300/comm": "systemd-timesyn\n"}, 2026, "CG-DOC-422"),
        ({"proc/300/comm": "chronyd\n"}, 1970, "CG-DOC-421"),
        ({"state": ""}, 2025, "CG-DOC-421"),
    ],
)
def test_a_clock_that_nobody_has_set(
    pi: Callable[..., Context], monkeypatch: pytest.MonkeyPatch, files: Files, year: int, expected: str
) -> None:
    clock_of(monkeypatch, synchronised=False, year=year)
    assert code(times.clock(pi(files))) == expected


def test_a_clock_behind_what_the_platform_has_signed(
    pi: Callable[..., Context], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from agent.enrolment.enrolling import folder_of
    from agent.trusted_time import FILE_NAME

    clock_of(monkeypatch, synchronised=False)
    made = pi({"proc/300/comm": "chronyd\n"}, destination("https://platform.example.org"))
    assert made.config is not None
    folder = folder_of(made.config, "city")
    assert folder is not None
    folder.mkdir(parents=True)
    (folder / FILE_NAME).write_text(f"{round(datetime(2027, 3, 1, tzinfo=UTC).timestamp() * 1e6)}\n")
    (finding,) = times.clock(made)
    assert finding.code == "CG-DOC-421"
    assert "2027-03-01" in finding.evidence


@pytest.mark.parametrize("text", ["9" * 30, "-" + "9" * 19, "soon", "0x"])
def test_a_time_floor_that_is_garbage(pi: Callable[..., Context], monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    from agent.enrolment.enrolling import folder_of
    from agent.trusted_time import FILE_NAME

    clock_of(monkeypatch, synchronised=False)
    made = pi({"proc/300/comm": "chronyd\n"}, destination("https://platform.example.org"))
    assert made.config is not None
    folder = folder_of(made.config, "city")
    assert folder is not None
    folder.mkdir(parents=True)
    (folder / FILE_NAME).write_text(text)
    assert code(times.clock(made)) == "CG-DOC-422"


def test_file_systems_that_fail(folder: Path) -> None:
    space = ("unshare", "--user", "--map-root-user", "--mount")
    if subprocess.run([*space, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here: nothing can be mounted")
    done = subprocess.run(
        [*space, sys.executable, "-m", "tests.agent.doctor.mounted", str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name: finding["code"] for name, finding in found.items()} == {
        "in memory": "CG-DOC-504",
        "full": "CG-DOC-501",
        "read-only": "CG-DOC-503",
    }


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("[destination.filter]\n", "CG-DOC-701"),
        ('[destination.filter]\ndev_addr = ["00000000/0"]\n', "CG-DOC-703"),
        ('[destination.filter]\njoin_eui = ["70b3000000000000/16"]\n', "CG-DOC-703"),
        (FILTER, None),
    ],
)
def test_filters(scene: Scene, capsys: Capsys, rules: str, expected: str | None) -> None:
    scene.destination = destination("https://127.0.0.1:9", rules=rules)
    assert scene.look(capsys, "--hands-off").one("filter")["code"] == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [("[gateway]\nnaem = 1\n", "naem"), ("[[[", ":"), ('[concentrator]\nboard = "rak_2288"\n', "rak_2288")],
)
def test_a_configuration_that_cannot_be_used(folder: Path, capsys: Capsys, text: str, word: str) -> None:
    from agent.cli.main import main

    path = folder / "gateway.toml"
    path.write_text(text)
    assert main(["doctor", "-c", str(path), "--json"]) == 3
    first = json.loads(capsys.readouterr().out)["findings"][0]
    assert (first["check"], first["code"]) == ("config", "CG-DOC-002")
    assert word in first["evidence"]


def test_no_configuration_and_no_hardware(folder: Path, capsys: Capsys) -> None:
    from agent.cli.main import main

    assert main(["doctor", "-c", str(folder / "none.toml")]) == 3
    said = capsys.readouterr().out
    assert "config" in said
    assert "CG-DOC-001" in said
    assert said.count("CG-DOC-015") == 0
    assert len(said.splitlines()) <= 40


def test_files_that_are_not_the_agents(scene: Scene, capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "SERVICE_USER", "nobody")
    (scene.folder / "state").chmod(0o755)
    finding = scene.look(capsys, "--hands-off").one("disk")
    assert finding["code"] == "CG-DOC-510"
    assert "is not for the user nobody" in finding["evidence"]
    assert finding["next"].startswith(f"sudo chown -R nobody: {scene.folder}/state")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_that_its_owner_may_only_read(scene: Scene, capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "SERVICE_USER", "nobody")
    key = scene.folder / "state/gateway.key"
    key.chmod(0o400)
    for place in (key, key.parent):
        os.chown(place, 65534, 65534)
    look = scene.look(capsys, "--hands-off")
    assert look.one("key")["verdict"] == "ok"
    assert look.one("disk")["code"] != "CG-DOC-510"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_root_elsewhere_is_no_matter_of_the_spools_folder(
    scene: Scene, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "SERVICE_USER", "nobody")
    elsewhere = scene.folder / "keys"
    elsewhere.mkdir()
    key = (scene.folder / "state/gateway.key").rename(elsewhere / "gateway.key")
    spool = scene.folder / "state/spool.db"
    os.chown(scene.folder / "state", 65534, 65534)
    scene.tables["identity"] = f'key_file = "{key}"'
    look = scene.look(capsys, "--hands-off")
    assert look.one("disk")["code"] != "CG-DOC-510"
    assert look.one("key")["next"].endswith(str(key))
    spool.touch(0o600)
    finding = scene.look(capsys, "--hands-off").one("disk")
    assert finding["next"] == f"sudo chown -R nobody: {spool}"


def test_a_receivers_port_that_is_not_for_the_agent(
    pi: Callable[..., Context], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(context, "SERVICE_USER", "nobody")
    _, device = os.openpty()
    port = Path(os.ttyname(device))
    port.chmod(0o600)
    assert code(buses.serial(pi({}, f'[gnss]\ndevice = "{port}"\n'))) == "CG-DOC-405"
    port.chmod(0o666)
    assert list(buses.serial(pi({}, f'[gnss]\ndevice = "{port}"\n'))) == []


def test_no_key(scene: Scene, capsys: Capsys) -> None:
    (scene.folder / "state/gateway.key").unlink()
    look = scene.look(capsys, "--hands-off")
    assert look.one("key")["code"] == "CG-DOC-541"
    assert not (scene.folder / "state/gateway.key").exists(), "a doctor makes no key"


def test_a_key_that_cannot_be_used(scene: Scene, capsys: Capsys) -> None:
    (scene.folder / "state/gateway.key").write_text("garbage")
    assert scene.look(capsys, "--hands-off").one("key")["code"] == "CG-DOC-542"


def as_nobody(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user without rights, for whom root has imported what may not be for everybody."""
    program = (
        "import contextlib, io, os, sys\n"
        "from agent.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()): main(sys.argv[1:])\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "doctor", "-c", str(path), *options]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
@pytest.mark.parametrize("hidden", ["gateway.toml", "."])
def test_a_configuration_that_this_user_may_not_read(folder: Path, hidden: str) -> None:
    with Scene(folder) as scene:
        path = scene.write()
        folder.chmod(0o755)
        (folder / hidden).chmod(0o700)
        done = as_nobody(path, "--json")
        told = json.loads(done.stdout)
        assert told["findings"][0]["code"] == "CG-DOC-004"
        assert (told["verdict"], told["agent"]) == ("fail" if told["counts"]["fail"] else "warn", "unknown")
        assert done.returncode == (3 if told["counts"]["fail"] else 1)
        assert "no agent runs" not in as_nobody(path).stdout.splitlines()[0]


def test_a_mistake_in_the_configuration_stops_no_agent(folder: Path, capsys: Capsys) -> None:
    from agent.cli.main import main

    with Scene(folder) as scene:
        scene.says()
        scene.write().write_text("[[[")
        assert main(["doctor", "-c", str(scene.toml), "--json"]) == 3
        assert json.loads(capsys.readouterr().out)["agent"] == "unknown"
        main(["doctor", "-c", str(scene.toml)])
        assert "whether an agent runs is not known" in capsys.readouterr().out.splitlines()[0]


def closed_to_nobody(folder: Path, emulator: Emulator | None = None) -> subprocess.CompletedProcess[str]:
    """Let a user look who may read the configuration, and nothing that is the service's."""
    with Scene(folder, emulator) as scene, socket.create_server(("127.0.0.1", 0)) as listener:
        certificate = folder / "state/gateway.pem"
        certificate.write_text("secret")
        files = (f'cert_file = "{certificate}"', "connect_timeout_s = 2.0")
        scene.destination = destination(f"https://127.0.0.1:{listener.getsockname()[1]}", *files)
        path = scene.write()
        for place in ("state", "run"):
            (folder / place).chmod(0o700)
        folder.chmod(0o755)
        return as_nobody(path, "--json")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
def test_a_look_at_nothing_is_not_all_in_order(folder: Path) -> None:
    done = closed_to_nobody(folder, Emulator())
    told = json.loads(done.stdout)
    assert told["findings"][-1]["code"] == "CG-DOC-005", told["findings"]
    assert told["verdict"] != "ok"
    assert done.returncode != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
def test_a_user_without_rights(folder: Path) -> None:
    done = closed_to_nobody(folder)
    found = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert done.stderr == ""
    for check in ("agent", "spool", "key", "firmware", "platform"):
        assert (found[check]["verdict"], found[check]["code"]) == ("skipped", "CG-DOC-003"), found[check]
    assert "may not" in found["chip"]["evidence"] or "not known to this user" in found["chip"]["evidence"]
    assert not any(finding["code"] == "CG-DOC-015" for finding in found.values())


def _spool(path: Path, frames: int) -> None:
    """Make a spool with frames for a destination that has not taken any yet."""
    spool = SpoolWriter(
        path,
        journal_folder=path.parent,
        destinations=(CITY,),
        policy=Policy(50, 3600.0, 16 << 20),
        signer=SIGNER,
        gateway_eui=EUI,
        commit_window_s=0.0,
    )
    with spool:
        assert spool.offer(heard([frame(number) for number in range(frames)]))
        assert spool.flush(60)


def test_a_whole_spool_and_damaged_ones(scene: Scene, capsys: Capsys) -> None:
    path = scene.folder / "state/spool.db"
    _spool(path, 300)
    whole = path.read_bytes()
    finding = scene.look(capsys, "--hands-off").one("spool")
    assert finding["verdict"] == "ok"
    assert finding["values"]["frames"] == 300
    assert finding["evidence"].startswith("sums match; 300 frames wait")
    codes, wrong = set(), []
    for begin in range(4096, len(whole) - 4096, 3 * 4096):
        path.write_bytes(whole[:begin] + bytes(4096) + whole[begin + 4096 :])
        code = scene.look(capsys, "--hands-off").one("spool")["code"]
        codes.add(code)
        wrong += [begin] if code else []
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    codes.add(scene.look(capsys, "--hands-off").one("spool")["code"])
    assert codes - {None} == {"CG-DOC-523"}
    assert len(wrong) > len(whole) // 4096 // 6, "most pages matter"
    assert not path.with_name("spool.db-wal").exists() or path.with_name("spool.db-wal").stat().st_size == 0


def test_a_large_spool_is_read_once(scene: Scene, capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    _spool(scene.folder / "state/spool.db", 30)
    scene.destination = destination("https://127.0.0.1:9")
    scene.says(radio={"state": "receiving", "heard": 30})
    by: list[str] = []
    load = state.load

    def counted(connection: sqlite3.Connection) -> State:
        by.append(threading.current_thread().name)
        return load(connection)

    monkeypatch.setattr(state, "load", counted)
    look = scene.look(capsys, "--hands-off")
    assert look.one("spool")["values"]["frames"] == 30
    assert {look.one(check)["code"] for check in ("filter", "heard")} <= {None, "CG-DOC-711", "CG-DOC-704"}
    assert [name for name in by if name in {"doctor-spool", "doctor-filter", "doctor-heard"}] == ["doctor-spool"]
