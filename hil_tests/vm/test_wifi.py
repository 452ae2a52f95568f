# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A gateway whose only way out is a Wi-Fi network that nobody but its civigate.toml knows."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hil_tests.measured import Measure
from hil_tests.vm import wifi
from hil_tests.vm.air import FREQUENCY_HZ, frame
from hil_tests.vm.disks import copy_sparse
from hil_tests.vm.factory import installed
from hil_tests.vm.gateway import BOARD, Gateway
from hil_tests.vm.machine import AIR_PORT, Disk, Machine
from hil_tests.vm.platform import EUI, Platform
from hil_tests.vm.stick import BootPartition

SUITE = "trixie"
SSID = "Bauhof; Süd\\2 "
"""What ends a list or begins an escape in NetworkManager's files, a letter beyond ASCII, and a space at the end."""
PASSWORD = " correct\\horse; #1 "
ONLINE_LIMIT_S = 900.0
DELIVERY_LIMIT_S = 300.0
TIME_SERVERS = "/etc/systemd/timesyncd.conf.d/civigate.conf"
CONNECTION = "/etc/NetworkManager/system-connections/civigate.nmconnection"
REQUEST = "/boot/firmware/civigate.toml"


@pytest.fixture(scope="module")
def platform(work: Path) -> Iterator[Platform]:
    with Platform(work / "platform", mqtt=False) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(work: Path) -> Iterator[Gateway]:
    made = installed(SUITE)
    disk = copy_sparse(made.disk, work / "card.raw")
    with Machine(made.card, disk, work / "machine", disks=[Disk(made.stick, read_only=True)]) as machine:
        yield Gateway(machine)


def test_enrolled_over_wifi_and_the_password_is_gone(gateway: Gateway, platform: Platform, measure: Measure) -> None:
    machine = gateway.machine
    claim, _ = platform.invite()
    card = BootPartition(machine.disk)
    card.write("platform.pem", platform.authority_pem)
    card.write(
        "asked.toml",
        f'[provision]\nformat = 1\nname = "by-air"\nplatform = "{platform.enrolment_url}"\nclaim = "{claim}"\n'
        f'ca_file = "platform.pem"\nboard = "{BOARD}"\nbus = "spi:/dev/spidev0.0"\n\n'
        f'[network]\nssid = {json.dumps(SSID)}\npsk = {json.dumps(PASSWORD)}\nntp = ["10.0.2.2"]\n',
    )
    assert PASSWORD.encode().replace(b"\\", b"\\\\") in card.sectors()
    machine.boot()
    shell = gateway.shell
    wifi.build(shell, SSID.encode(), PASSWORD)
    assert shell.check("ip -4 route show") == "", "there is a way without"
    # the access point is in the machine: here the file is found a while after power, as on a second start
    shell.check(f"mv /boot/firmware/asked.toml {REQUEST} && systemctl start --no-block civigate-provision.service")
    online_s = gateway.wait_for(
        lambda: 'stage = "online"' in shell.run(f"cat {REQUEST}").output, "the outcome in the file", ONLINE_LIMIT_S
    )
    gateway.wait_for(
        lambda: gateway.properties("ActiveState", unit="civigate-provision.service")["ActiveState"] == "inactive",
        "the end of the set-up",
    )
    active = shell.check("nmcli -t -f NAME,DEVICE,STATE connection show --active")
    assert "civigate:wlan0:activated" in active.splitlines()
    assert shell.check(f"stat -c '%a %U' {CONNECTION}") == "600 root"
    assert shell.check(f"stat -c %a {TIME_SERVERS} $(dirname {TIME_SERVERS})").split() == ["644", "755"]
    sent = [frame(number) for number in range(5)]
    _send(gateway, sent)
    platform.wait_for(lambda there: all(there[one] == 1 for one in sent), "frames over the air", DELIVERY_LIMIT_S)
    machine.power_off()
    told = card.read("civigate.toml")
    assert EUI in told
    assert tomllib.loads(told)["network"]["ssid"] == SSID
    sectors = card.sectors()
    for secret in (PASSWORD.encode(), PASSWORD.encode().replace(b"\\", b"\\\\"), claim.encode()):
        assert secret not in sectors
    measure("from the file to online over Wi-Fi", online_s, "s", high=ONLINE_LIMIT_S)


def _send(gateway: Gateway, payloads: Sequence[bytes]) -> None:
    """Let frames arrive, from within the machine: no port of this host leads to its Wi-Fi."""
    told = [{"cmd": "inject", "freq_hz": FREQUENCY_HZ, "sf": 7, "payload": one.hex()} for one in payloads]
    talk = (
        f"import socket; air = socket.create_connection(('127.0.0.1', {AIR_PORT})); lines = air.makefile('rw')\n"
        f"for one in {[json.dumps(one) for one in told]}:\n"
        " lines.write(one + chr(10)); lines.flush(); print(lines.readline())"
    )
    said = gateway.shell.check(f"python3 -c {shlex.quote(talk)}")
    assert [json.loads(line)["ok"] for line in said.split("\n\n")] == [True] * len(payloads), said
