# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""H13, H14, H21, H22: what only an installed system can show. They are skipped where the bench has none."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from hil_tests.bench.model import Bench
from hil_tests.bench.roles import Done, Dut, Platform, ReferenceNode, System
from hil_tests.bench.strategy import State, bring, receives
from hil_tests.marks import begins, hil, needs
from hil_tests.measured import Measure
from hil_tests.test_h15_h19_path import Field

EXPOSURE = 1.5
"""What `systemd-analyze security` may say of the service, at most."""
ROOT = "0"
WATCHDOG_S = 300.0
SOAK_LOOKS = 24
SOAK_PAUSE_S = 2.0


def shown(dut: Dut, service: str, name: str) -> str:
    """Return a property of a unit."""
    done = dut.run("systemctl", "show", service, f"--property={name}", "--value")
    assert done.exit_code == 0, done.stderr
    return done.stdout.strip()


def as_root(dut: Dut, *command: str) -> Done:
    """Run a command with the rights of an administrator, whoever the user of the bench is there."""
    script = 'if [ "$(id -u)" = 0 ]; then exec "$@"; else exec sudo -n "$@"; fi'
    return dut.run("sh", "-c", script, "sh", *command)


@hil("H13")
@needs("dut", "system")
@begins(State.RUNNING)
def test_h13_the_service_is_up_sandboxed_and_not_root(dut: Dut, system: System, measure: Measure) -> None:
    assert shown(dut, system.service, "ActiveState") == "active"
    user = shown(dut, system.service, "User")
    assert user not in {"", "root", ROOT}
    overall = dut.run("systemd-analyze", "security", "--no-pager", system.service).stdout
    said = [line for line in overall.splitlines() if "Overall exposure level" in line]
    assert said, "systemd-analyze says no overall level"
    level = float(said[0].partition(": ")[2].split()[0])  # a face comes last, on some terminals ":-)"
    measure("exposure of the service", level, "", high=EXPOSURE)
    pid = shown(dut, system.service, "MainPID")
    uid = dut.run("stat", "-c", "%u", f"/proc/{pid}").stdout.strip()
    assert uid not in {"", ROOT}
    groups = dut.run("id", "-Gn", user).stdout.split()
    nodes = dut.run("sh", "-c", "stat -c '%n %G %a' /dev/spidev* /dev/gpiochip* 2>/dev/null").stdout.splitlines()
    closed = [one for one in map(str.split, nodes) if one[1] not in groups or not one[2].endswith("60")]
    measure("nodes of bus and lines", len(nodes), low=1)
    measure("of these, not the service's groups' alone", len(closed), high=0)


@hil("H14")
@needs("dut", "system")
@begins(State.RUNNING)
def test_h14_a_hung_agent_is_restarted(bench: Bench, dut: Dut, system: System, measure: Measure) -> None:
    pid, restarts = shown(dut, system.service, "MainPID"), int(shown(dut, system.service, "NRestarts"))
    stopped = as_root(dut, "kill", "-STOP", pid)
    assert stopped.exit_code == 0, stopped.stderr
    begin_s = time.monotonic()
    bench.wait_for(lambda: int(shown(dut, system.service, "NRestarts")) > restarts, "the watchdog", WATCHDOG_S)
    bench.wait_for(lambda: receives(bench), "the agent to receive again", WATCHDOG_S)
    measure("from the hang to reception", time.monotonic() - begin_s, "s", high=WATCHDOG_S)
    assert shown(dut, system.service, "MainPID") != pid


@hil("H14")
@needs("dut", "system", "power")
@begins(State.RUNNING)
def test_h14_a_hung_kernel_is_restarted(bench: Bench, dut: Dut, system: System, measure: Measure) -> None:
    boot = dut.run("cat", "/proc/sys/kernel/random/boot_id").stdout
    begin_s = time.monotonic()
    system.hang_kernel()

    def is_back() -> bool:
        try:
            return dut.run("cat", "/proc/sys/kernel/random/boot_id", limit_s=10).stdout not in {"", boot}
        except Exception:
            return False

    bench.wait_for(is_back, "the hardware watchdog", WATCHDOG_S + bench.limits.boot_s)
    bench.wait_for(lambda: receives(bench), "the agent to receive again", WATCHDOG_S)
    measure("from the hang to reception", time.monotonic() - begin_s, "s", high=WATCHDOG_S + bench.limits.boot_s)


@hil("H21")
@needs("dut", "node", "platform", "system")
@begins(State.ENROLLED)
@pytest.mark.timeout(0)
def test_h21_soak(
    bench: Bench, dut: Dut, node: ReferenceNode, platform: Platform, system: System, measure: Measure
) -> None:
    field = Field(bench, node, platform)
    pid = shown(dut, system.service, "MainPID")
    looks = []
    end_s = time.monotonic() + bench.limits.soak_s
    next_look_s = time.monotonic()
    while time.monotonic() < end_s:
        field.send()
        time.sleep(SOAK_PAUSE_S)  # the pace of the soak
        if time.monotonic() >= next_look_s:
            next_look_s += bench.limits.soak_s / SOAK_LOOKS
            memory_kb = dut.run("sh", "-c", f"awk '/VmRSS/ {{print $2}}' /proc/{pid}/status").stdout
            files = as_root(dut, "sh", "-c", f"ls /proc/{pid}/fd | wc -l").stdout
            said = dut.status()
            assert said is not None
            waiting = sum(one["waiting"] for one in said["destinations"])
            looks.append((int(memory_kb) / 1000, int(files), waiting))
    settled = looks[1:]  # caches fill in the beginning
    measure("looks", len(settled), low=2)
    measure("open files, fewest", min(one[1] for one in settled), low=1)
    measure("memory, growth", settled[-1][0] - settled[0][0], "MB", high=bench.limits.memory_growth_mb)
    measure("open files, growth", settled[-1][1] - settled[0][1], high=bench.limits.descriptor_growth)
    measure("batches waiting, growth", max(b[2] - a[2] for a, b in pairwise(settled)), high=10)
    bench.wait_for(lambda: len(field.arrived()) >= len(field.sent) * (1 - bench.limits.loss_share), "the last frames")
    missed = 1 - len({one.payload for one in field.arrived()}) / len(field.sent)
    measure("packets missed", missed, "", high=bench.limits.loss_share)
    assert shown(dut, system.service, "MainPID") == pid, "it was restarted meanwhile"


@hil("H22")
@needs("dut", "node", "platform", "system")
@begins(State.ENROLLED)
def test_h22_upgrade_with_a_full_spool(
    bench: Bench, dut: Dut, node: ReferenceNode, platform: Platform, system: System, measure: Measure
) -> None:
    done = system.install("previous")
    assert done.exit_code == 0, done.stderr
    bring(bench, State.ENROLLED)
    platform.cut()
    field = Field(bench, node, platform)
    heard = field.heard()
    while len(field.sent) < bench.limits.frames_away:
        field.send()
    bench.wait_for(lambda: field.heard() >= heard + len(field.sent), "all frames to be heard")
    done = system.install("this")
    assert done.exit_code == 0, done.stderr
    refused = system.install("previous")
    assert refused.exit_code != 0, "a downgrade with a newer spool was let in"
    assert refused.stderr.strip(), "it does not say why"
    platform.restore()
    bring(bench, State.ENROLLED)
    field.wait_for_all("the frames of the release before")
    measure("frames that waited over the upgrade", len(field.sent), low=1)
    measure("frames that arrived twice", field.doubled(), high=0)
    assert platform.verifies()
