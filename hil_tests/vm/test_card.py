# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""From a clean Debian to a gateway that delivers, that comes back by itself, and that can be upgraded.

One card per suite goes through all tests in their order: installed, set up by a file on its boot partition, hung,
hung again, upgraded.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hil_tests.measured import Measure
from hil_tests.vm.air import Air, frame, number_of
from hil_tests.vm.bench import SUITE as BENCH_SUITE
from hil_tests.vm.disks import copy_sparse
from hil_tests.vm.factory import NEW, OLD, Installed, install, keep
from hil_tests.vm.gateway import BOARD, CONFIG, NEWER_SPOOL, SPOOL, UNIT, Gateway
from hil_tests.vm.image import SUITES
from hil_tests.vm.machine import Disk, Machine
from hil_tests.vm.platform import EUI, Platform
from hil_tests.vm.stick import BootPartition

DELIVERY_LIMIT_S = 300.0
FIRST_BOOT_LIMIT_S = 900.0
EXPOSURE_LIMIT = 1.5
QUOTA_MB = 8
FILL = Path(__file__).with_name("fill.py")
PROVISION = "civigate-provision.service"
REFUSED = "nothing was changed"


@pytest.fixture(scope="module", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Seen:
    """What was seen right after the installation, before the card was ever set up."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}

    def look(self, gateway: Gateway) -> None:
        shell = gateway.shell
        # the board is switched on after the package came: its nodes get their owners from the rules now
        shell.check("systemctl start bench-concentrator.service")
        self.facts = {
            "verify": shell.run("systemd-analyze verify --man=no civigate.service civigate-provision.service").output,
            "exposure": shell.check("systemd-analyze security --no-pager civigate.service"),
            "groups": shell.check("id -Gn civigate"),
            "shell": shell.check("getent passwd civigate"),
            "spool": shell.check("stat -c '%a %U' /var/lib/civigate"),
            "config": shell.check("stat -c '%a %U %G' /etc/civigate"),
            "nodes": shell.check("stat -c '%n %G %a' /dev/spidev0.0 /dev/gpiochip0"),
            "controllers": shell.check("gpiodetect"),
            "active": shell.run("systemctl is-active civigate.service").output.strip(),
            "enabled": shell.check("systemctl is-enabled civigate.service"),
            "failed": shell.check("systemctl --failed --no-legend --plain"),
            "version": shell.check("civigate --version"),
            "python": shell.check("python3 --version"),
            "kernel": shell.check("uname -r"),
            "watchdog": shell.check(
                "systemctl show -P RuntimeWatchdogUSec; systemd-analyze cat-config systemd/system.conf"
            ),
        }


@pytest.fixture(scope="module")
def seen(suite: str) -> Seen:
    del suite  # one for each
    return Seen()


@pytest.fixture(scope="module")
def made(suite: str, work: Path, seen: Seen) -> Installed:
    folder = work / suite
    folder.mkdir()
    done = install(suite, folder, seen.look)
    keep(done)
    return done


@pytest.fixture(scope="module")
def platform(suite: str, work: Path) -> Iterator[Platform]:
    with Platform(work / f"platform-{suite}", mqtt=suite != "bookworm") as running:
        yield running


@pytest.fixture(scope="module")
def claim(platform: Platform) -> str:
    code, _ = platform.invite()
    return code


@pytest.fixture(scope="module")
def gateway(made: Installed, work: Path, suite: str) -> Iterator[Gateway]:
    """Return a gateway on a copy of the card, off: it is for the first test to switch it on."""
    disk = copy_sparse(made.disk, work / f"{suite}.raw")
    with Machine(made.card, disk, work / f"machine-{suite}", disks=[Disk(made.stick, read_only=True)]) as machine:
        yield Gateway(machine)
        if machine.on:
            machine.power_off()


def test_it_installs_on_a_clean_system(made: Installed, seen: Seen, suite: str, measure: Measure) -> None:
    facts = seen.facts
    measure("boot of the clean card", made.boot_s, "s", high=420)
    measure("installation with all dependencies", made.install_s, "s", high=900)
    for name in ("kernel", "python", "version"):
        measure.fact(f"{name} of {suite}", facts[name])
    assert facts["verify"].strip() == ""
    assert {"civigate", "spi", "gpio", "i2c", "dialout"} <= set(facts["groups"].split())
    assert facts["shell"].endswith("/usr/sbin/nologin")
    assert facts["spool"] == "700 civigate"
    assert facts["config"] == "750 root civigate"
    assert (facts["active"], facts["enabled"]) == ("inactive", "enabled"), "it waits for a configuration"
    assert facts["failed"] == ""
    assert facts["watchdog"].splitlines()[0] not in {"", "0", "off"}, "the processor's watchdog is not on"
    assert "60-civigate-watchdog.conf\n" in facts["watchdog"], "it is the bench alone that switches it on"


def test_nodes_belong_to_the_groups_of_the_rules(made: Installed, seen: Seen) -> None:
    """The rules were read before the groups existed, and not again: the nodes stayed root's."""
    assert made.disk.exists()
    assert "cp2112_gpio" in seen.facts["controllers"]
    assert seen.facts["nodes"].splitlines() == ["/dev/spidev0.0 spi 660", "/dev/gpiochip0 gpio 660"]


def test_the_fence_is_tight(made: Installed, seen: Seen, suite: str, measure: Measure) -> None:
    assert made.disk.exists()
    verdict = seen.facts["exposure"].splitlines()[-1]
    measure(f"exposure by systemd-analyze of {suite}", float(verdict.split()[-3]), high=EXPOSURE_LIMIT)


def test_first_boot_with_a_file_on_the_boot_partition(
    gateway: Gateway, platform: Platform, claim: str, suite: str, measure: Measure
) -> None:
    """Nobody touches it between power and the first signed receipt; the outcome is on the card for the laptop."""
    machine = gateway.machine
    boot = BootPartition(machine.disk)
    boot.write("platform.pem", platform.authority_pem)
    boot.write(
        "civigate.toml",
        f'[provision]\nformat = 1\nname = "mast-{suite}"\nplatform = "{platform.enrolment_url}"\n'
        f'claim = "{claim}"\nca_file = "platform.pem"\nregion = "EU868"\nboard = "{BOARD}"\n'
        f'bus = "spi:/dev/spidev0.0"\n',
    )
    assert claim.encode() in boot.sectors()
    began = time.monotonic()
    boot_s = machine.boot()
    gateway.wait_for(
        lambda: any(
            one["counts"].get("receipts", 0) or one["phase"] in {"online", "draining"} for one in _links(gateway)
        ),
        "a link to the platform",
        FIRST_BOOT_LIMIT_S,
    )
    linked_s = time.monotonic() - began
    gateway.wait_for(gateway.receiving, "the radio")
    gateway.wait_for(
        lambda: "online" in gateway.shell.run("grep -i stage /boot/firmware/civigate.toml").output,
        "the outcome in civigate.toml",
    )
    online_s = time.monotonic() - began
    payloads = [frame(number) for number in range(20)]
    with Air(machine.air_port) as air:
        air.send(payloads)
    there = platform.wait_for(lambda said: len(said) >= 20, "the first frames", DELIVERY_LIMIT_S)
    gateway.wait_for(lambda: all(one["waiting"] == 0 and one["in_flight"] == 0 for one in _links(gateway)), "receipts")
    assert there == dict.fromkeys(payloads, 1)
    measure(f"{suite}: power to shell", boot_s, "s", high=420)
    measure(f"{suite}: power to the platform's first signature", linked_s, "s", high=FIRST_BOOT_LIMIT_S)
    measure(f"{suite}: power to 'online' in the file", online_s, "s", high=FIRST_BOOT_LIMIT_S)
    measure(f"{suite}: power to first frames acknowledged", time.monotonic() - began, "s", high=2 * FIRST_BOOT_LIMIT_S)
    assert EUI in platform.call("gateways", "list")


def test_the_outcome_can_be_read_on_a_laptop(gateway: Gateway, claim: str) -> None:
    """It is on the FAT partition itself, and the claim code is not: nor in sectors that no file has any more."""
    gateway.wait_for(
        lambda: gateway.properties("ActiveState", unit=PROVISION)["ActiveState"] == "inactive",
        "the end of the set-up",
    )
    gateway.shell.check("sync")
    boot = BootPartition(gateway.machine.disk)
    told = boot.read("civigate.toml")
    assert 'stage = "online"' in told
    assert EUI in told
    assert "claim = " not in "\n".join(line for line in told.splitlines() if not line.startswith("#"))
    assert claim.encode() not in boot.sectors()
    assert "civigate-error.txt" not in boot.names()
    assert "civigate-report.html" in boot.names()
    assert gateway.shell.run("test -e /var/lib/civigate-provision/request.toml").code != 0


def test_the_service_is_no_root_and_sees_what_it_must(gateway: Gateway) -> None:
    said = gateway.properties("Type", "User", "MainPID", "NRestarts", "WatchdogUSec", "StatusText", "ActiveState")
    assert (said["Type"], said["User"], said["ActiveState"]) == ("notify", "civigate", "active")
    assert said["WatchdogUSec"] == "30s"
    pid = said["MainPID"]
    status = gateway.shell.check(f"cat /proc/{pid}/status")
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in status.splitlines())}
    assert "0" not in fields["Uid"]
    assert {fields[name][0] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == (["1"], ["2"])
    # one of them may be closed while they are listed: then ls complains
    files = gateway.shell.run(f"ls -l /proc/{pid}/fd").output
    assert "/dev/spidev0.0" in files
    assert "/var/lib/civigate/spool.db" in files
    # what its fence shows it of the rest, seen from within
    gateway.shell.check("touch /home/theirs /root/theirs")
    for path in ("/home/theirs", "/root/theirs"):
        assert gateway.shell.run(f"nsenter -t {pid} -m test -e {path}").code != 0, path
    for path in ("/usr/mine", "/etc/mine", "/boot/firmware/mine", "/var/lib/mine"):
        assert gateway.shell.run(f"nsenter -t {pid} -m touch {path}").code != 0, f"{path} can be written, even by root"
    assert gateway.shell.run(f"nsenter -t {pid} -m touch /var/lib/civigate/mine").code == 0


def test_the_agent_may_not_touch_the_clock_and_knows_how_good_it_is(gateway: Gateway) -> None:
    """Asking is the same system call as setting; it killed the agent, and before that it was allowed."""
    boot_id = gateway.shell.check("tr -d - </proc/sys/kernel/random/boot_id")
    gateway.wait_for(lambda: boot_id in gateway.shell.run("cat /run/civigate-clock/anchor.json").output, "the note")
    assert gateway.properties("User", unit="civigate-clock.service")["User"] != "root"
    journal = gateway.shell.check(f"journalctl -b -u {UNIT} --no-pager")
    assert "status=31/SYS" not in journal
    assert "clock_unknown" not in journal


def test_a_hung_agent_is_restarted_by_systemd(
    gateway: Gateway, platform: Platform, suite: str, measure: Measure
) -> None:
    _hangs_here(suite)
    before = gateway.properties("MainPID", "NRestarts")
    sent = [frame(number, 1) for number in range(10)]
    with Air(gateway.machine.air_port) as air:
        gateway.shell.check(f"kill -STOP {before['MainPID']}")
        air.send(sent)
        took_s = gateway.wait_for(
            lambda: int(gateway.properties("NRestarts")["NRestarts"]) > int(before["NRestarts"]), "the restart"
        )
        back_s = took_s + gateway.wait_for(gateway.receiving, "the radio")
    assert gateway.properties("MainPID")["MainPID"] != before["MainPID"]
    assert "atchdog" in gateway.shell.check(f"journalctl -u {UNIT} --no-pager -n 200 | grep -i watchdog")
    platform.wait_for(
        lambda there: all(there[one] == 1 for one in sent), "what the chip kept meanwhile", DELIVERY_LIMIT_S
    )
    measure(f"{suite}: hung agent to its end by the watchdog", took_s, "s", low=10, high=300)
    measure(f"{suite}: hung agent to receiving", back_s, "s", high=600)


def test_a_hung_kernel_is_reset_by_the_hardware_watchdog(
    gateway: Gateway, platform: Platform, suite: str, measure: Measure
) -> None:
    _hangs_here(suite)
    boot_id = gateway.shell.check("cat /proc/sys/kernel/random/boot_id")
    assert gateway.shell.run("ls /dev/watchdog0").code == 0
    # init is all that feeds the watchdog; a kernel that panics and stays so does not
    gateway.shell.check("sysctl -q -w kernel.panic=0; echo 1 >/proc/sys/kernel/sysrq; sync")
    began = time.monotonic()
    gateway.shell.send("echo c >/proc/sysrq-trigger")
    gateway.machine.wait_for_reset()
    gateway.machine.wait_for_shell()
    back_s = time.monotonic() - began
    assert gateway.shell.check("cat /proc/sys/kernel/random/boot_id") != boot_id
    gateway.wait_for(gateway.receiving, "the radio after the reset")
    sent = [frame(number, 2) for number in range(5)]
    with Air(gateway.machine.air_port) as air:
        air.send(sent)
    platform.wait_for(lambda there: all(there[one] == 1 for one in sent), "frames after the reset", DELIVERY_LIMIT_S)
    measure(f"{suite}: hung kernel to a shell again", back_s, "s", low=10, high=600)


def test_an_upgrade_with_a_full_spool_loses_nothing_of_it(
    gateway: Gateway, platform: Platform, suite: str, measure: Measure
) -> None:
    """The platform was away for weeks: the oldest frames go already. What there is then arrives after it, once."""
    platform.stop()
    shell = gateway.shell
    shell.check(f"systemctl stop {UNIT}; printf '[spool]\\nquota_mb = {QUOTA_MB}\\n' >>{CONFIG}")
    shell.put("/run/fill.py", FILL.read_text())
    filled = int(shell.check(f"umask 077; runuser -u civigate -- python3 -I /run/fill.py {CONFIG}", limit_s=900))
    gateway.start()
    gateway.wait_for(gateway.receiving, "the radio")
    sent = [frame(number, 3) for number in range(150)]
    with Air(gateway.machine.air_port) as air:
        for at in range(0, len(sent), 10):
            air.send(sent[at : at + 10])
    marks = {number_of(one) for one in sent}
    gateway.wait_for(lambda: marks <= gateway.numbers(), "150 frames more in the spool")
    before = gateway.numbers()
    assert len(before) < filled + len(sent), "it was not full: nothing had to go"
    began = time.monotonic()
    gateway.install(NEW)
    took_s = time.monotonic() - began
    assert NEW in shell.check("civigate --version")
    gateway.wait_for(lambda: gateway.properties("ActiveState")["ActiveState"] == "active", "the service")
    assert gateway.numbers() == before
    platform.start()
    began = time.monotonic()

    def arrived(there: Counter[bytes]) -> bool:
        return before <= {number_of(one) for one in there}

    there = platform.wait_for(arrived, "all that waited", 3 * DELIVERY_LIMIT_S)
    drained_s = time.monotonic() - began
    assert max(there.values()) == 1
    assert bool(platform.ask("status", "--json")["ok"])
    measure(f"{suite}: frames in the full spool at the upgrade", len(before), low=10_000)
    measure(f"{suite}: upgrade", took_s, "s", high=900)
    measure(f"{suite}: their way to the platform", drained_s, "s", high=3 * DELIVERY_LIMIT_S)


def test_a_downgrade_below_the_spool_is_refused_and_nothing_stops(gateway: Gateway) -> None:
    pid = gateway.properties("MainPID")["MainPID"]
    gateway.shell.check(f"systemctl stop {UNIT}")
    before = gateway.shell.check(f"sqlite3 {SPOOL} 'PRAGMA user_version'")
    gateway.shell.check(f"sqlite3 {SPOOL} 'PRAGMA user_version = {NEWER_SPOOL}'")
    gateway.trust_stick()
    done = gateway.shell.run(f"apt-get install -y -q --allow-downgrades civigate={OLD}", limit_s=600)
    assert done.code != 0
    assert REFUSED in done.output.lower()
    assert NEW in gateway.shell.check("civigate --version")
    gateway.shell.check(f"sqlite3 {SPOOL} 'PRAGMA user_version = {before}'")
    gateway.start()
    assert gateway.properties("MainPID")["MainPID"] != pid
    gateway.wait_for(gateway.receiving, "the radio")


def test_purge_keeps_key_and_spool(gateway: Gateway) -> None:
    digest = gateway.shell.check("sha256sum /var/lib/civigate/gateway.key")
    gateway.shell.check("apt-get purge -y -q civigate", limit_s=600)
    assert gateway.shell.check("sha256sum /var/lib/civigate/gateway.key") == digest
    assert gateway.shell.run(f"test -s {CONFIG}").code == 0
    assert gateway.shell.run("test -e /usr/lib/civigate").code != 0
    assert gateway.properties("LoadState")["LoadState"] in {"masked", "not-found"}


def _hangs_here(suite: str) -> None:
    if suite == BENCH_SUITE:
        pytest.skip("H14 hangs agent and kernel of this suite (pytest hil_tests --bench vm), for minutes")


def _links(gateway: Gateway) -> list[dict[str, Any]]:
    said = gateway.report().get("destinations", [])
    assert isinstance(said, list)
    return said
