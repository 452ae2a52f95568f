# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The field guide, followed word by word: what it tells a technician to type is taken out of it and typed.

What a Debian in a machine has not is left out: Raspberry Pi Imager, raspi-config, the green light, and Semtech's
firmware, which an emulated chip does not need.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil_tests.vm.air import Air, frame
from hil_tests.vm.disks import copy_sparse
from hil_tests.vm.factory import NEW, Installed, installed
from hil_tests.vm.gateway import BOARD, Gateway
from hil_tests.vm.guide import ENGLISH, Guide, read
from hil_tests.vm.machine import Disk, Machine
from hil_tests.vm.platform import EUI, Platform
from hil_tests.vm.reader import Stick, Usb
from hil_tests.vm.stick import BootPartition

SUITE = "trixie"
ONLINE_LIMIT_S = 900.0
DELIVERY_LIMIT_S = 300.0
WITHOUT_LINK = 200
"""Frames that wait while there is no network."""


@pytest.fixture(scope="module")
def guide() -> Guide:
    return read(ENGLISH)


@pytest.fixture(scope="module")
def made() -> Installed:
    """Return a card to copy from, as chapter 3.1 makes it."""
    return installed(SUITE)


@pytest.fixture(scope="module")
def platform(work: Path) -> Iterator[Platform]:
    with Platform(work / "platform", mqtt=False) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(made: Installed, work: Path) -> Iterator[Gateway]:
    disk = copy_sparse(made.disk, work / "card.raw")
    with Machine(made.card, disk, work / "machine", disks=[Disk(made.stick, read_only=True)]) as machine:
        yield Gateway(machine)


def _switch_on(gateway: Gateway) -> None:
    gateway.machine.boot()
    # who is root already needs no sudo, and has none
    gateway.shell.put("/usr/local/bin/sudo", '#!/bin/sh\nexec "$@"\n', 0o755)


def test_a_file_and_a_first_start(guide: Guide, gateway: Gateway, platform: Platform) -> None:
    """Chapters 3.2 to 3.4."""
    claim, fingerprint = platform.invite()
    text = guide.files[0]
    known = {"platform": platform.enrolment_url, "claim": claim, "fingerprint": fingerprint, "board": BOARD}
    assert {*known, "format", "name", "region"} == set(tomllib.loads(text)["provision"])
    for key, value in known.items():
        text = re.sub(rf'^{key} = ".*"$', f'{key} = "{value}"', text, flags=re.MULTILINE)
    card = BootPartition(gateway.machine.disk)
    card.write("civigate.toml", text + "\n")
    _switch_on(gateway)
    gateway.wait_for(
        lambda: (
            gateway.shell.run("systemctl is-active civigate-provision.service").output.strip() != "active"
            and "civigate-report.html" in gateway.shell.run("ls /boot/firmware").output
        ),
        "the end of the set-up",
        ONLINE_LIMIT_S,
    )
    gateway.machine.power_off()
    outcome = card.read("civigate.toml")
    assert outcome.startswith("# ONLINE"), outcome
    assert tomllib.loads(outcome)["result"]["eui"] == EUI
    assert claim not in outcome
    assert "civigate-report.html" in card.names()
    assert "civigate-error.txt" not in card.names()


def test_on_the_mast(guide: Guide, gateway: Gateway, platform: Platform) -> None:
    """Chapter 4, and what chapter 9 wants at hand."""
    _switch_on(gateway)
    gateway.wait_for(gateway.receiving, "the radio")
    sent = [frame(number) for number in range(20)]
    with Air(gateway.machine.air_port) as air:
        air.send(sent)
    platform.wait_for(lambda there: all(there[one] == 1 for one in sent), "the first frames", DELIVERY_LIMIT_S)
    shell = gateway.shell
    doctor = shell.run(guide.said("sudo civigate doctor"))
    assert doctor.code in {0, 1}, doctor.output
    assert "FAIL" not in doctor.output
    sheet = shell.run(guide.said("sudo civigate doctor --report sheet.html"))
    assert sheet.code in {0, 1}, sheet.output
    assert "(signed)" in sheet.output
    status = shell.run(guide.said("sudo civigate status"))
    assert status.code == 0, status.output
    assert "north-mast-07" in status.output
    assert EUI in status.output
    top = guide.said("sudo civigate top")
    live = shell.run(f"TERM=linux script -qec 'timeout --foreground 30 {top}' /dev/null")
    assert live.code == 124, live.output
    assert "north-mast-07" in live.output, "a terminal is drawn upon"
    listed = shell.check(guide.said("sudo civigate spool list -c /etc/civigate/gateway.toml --since 2h"))
    assert "Traceback" not in listed
    checked = shell.run(guide.said("sudo civigate uplink check -c /etc/civigate/gateway.toml"))
    assert checked.code == 0, checked.output
    assert shell.check(guide.said("journalctl -u civigate -e"))
    shell.check(
        f"{guide.block('doctor.json').replace('sudo civigate doctor --json', 'sudo civigate doctor --json ||:')}"
    )
    both = shell.check("cat doctor.json journal.txt")
    assert EUI in both
    secret = shell.check("tail -n 1 /var/lib/civigate/gateway.key")
    assert secret not in both
    assert not [one for one in sent if one.hex() in both]


def test_an_update(guide: Guide, gateway: Gateway) -> None:
    """Chapter 8, from a stick that carries the repository."""
    gateway.trust_stick()
    done = gateway.shell.run(guide.block("sudo apt install civigate"), limit_s=900)
    assert done.code == 0, done.output
    assert NEW in gateway.shell.check("civigate --version")
    gateway.wait_for(gateway.receiving, "the radio after the update")
    gateway.shell.check("umount /media/stick")


def test_frames_travel_on_a_stick(guide: Guide, gateway: Gateway, platform: Platform, work: Path) -> None:
    """Chapter 6: out, in at the platform, and the receipts back."""
    platform.stop()
    sent = [frame(number, 1) for number in range(WITHOUT_LINK)]
    with Air(gateway.machine.air_port) as air:
        for at in range(0, len(sent), 20):
            air.send(sent[at : at + 20])
    gateway.wait_for(lambda: gateway.waiting() >= WITHOUT_LINK, "frames that wait")
    stick, usb = Stick(work / "usb.raw"), Usb(gateway.machine)
    usb.plug(stick.path)
    gateway.shell.check(guide.block("spool export"))
    usb.pull()
    laptop = work / "laptop"
    laptop.mkdir()
    files = [str(path) for path in stick.read(laptop) if path.suffix == ".batches"]
    assert files
    operator = guide.block("civigate-receiver import").split()
    assert operator[2:4] == ["--receipts", "/media/stick"]
    platform.call("import", "--receipts", str(laptop), *files)
    there = platform.delivered()
    assert [there[one] for one in sent] == [1] * len(sent)
    assert max(there.values()) == 1
    for receipt in sorted(set(laptop.iterdir()) - {Path(name) for name in files}):
        stick.write(receipt)
    usb.plug(stick.path)
    gateway.shell.check(guide.block("spool acknowledge"))
    usb.pull()
    gateway.wait_for(lambda: gateway.waiting() == 0, "room again")
    platform.start()


def test_a_new_card_takes_over(guide: Guide, made: Installed, gateway: Gateway, platform: Platform, work: Path) -> None:
    """Chapter 7: key, spool and stream move; what waited on the old card arrives once."""
    platform.stop()
    waiting = [frame(number, 2) for number in range(30)]
    with Air(gateway.machine.air_port) as air:
        air.send(waiting)
    gateway.wait_for(lambda: gateway.waiting() >= len(waiting), "frames that wait")
    key = gateway.shell.check("sha256sum /var/lib/civigate/gateway.key")
    gateway.machine.power_off()
    platform.start()
    new = copy_sparse(made.disk, work / "new-card.raw")
    with Machine(made.card, new, work / "machine", disks=[Disk(made.stick, read_only=True)]) as machine:
        renewed = Gateway(machine)
        _switch_on(renewed)
        usb = Usb(machine)
        usb.plug(gateway.machine.disk)
        done = renewed.shell.run(guide.block("mount -o ro"), limit_s=600)
        assert "civigate doctor north-mast-07" in done.output, done.output
        usb.pull()
        assert renewed.shell.check("sha256sum /var/lib/civigate/gateway.key") == key
        renewed.wait_for(renewed.receiving, "the radio")
        again = renewed.shell.run(guide.said("sudo civigate doctor"))
        assert again.code in {0, 1}, again.output
        platform.wait_for(lambda there: all(there[one] == 1 for one in waiting), "what waited", DELIVERY_LIMIT_S)
        after = [frame(number, 3) for number in range(10)]
        with Air(machine.air_port) as air:
            air.send(after)
        there = platform.wait_for(lambda said: all(said[one] == 1 for one in after), "new frames", DELIVERY_LIMIT_S)
        assert max(there.values()) == 1
        machine.power_off()
    assert "verif" in platform.call("status"), "every chain"
