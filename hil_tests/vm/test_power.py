# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Power cuts at three levels: what was committed arrives, and arrives once.

1. The machine's power is cut while frames arrive, and comes back: two boots per cut.
2. The state disk is copied in the midst of it, with the machine held for that moment: each copy is a cut.
3. The disk's cache lies: of what was written after the last flush, a random half is gone, in no order.

A frame counts as committed when another reader of the database sees it. CUTS="3 7 10" says how many of each.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from hil_tests.measured import Measure
from hil_tests.vm.afterlife import Afterlife, copy_state, live_on
from hil_tests.vm.air import Air, AirError, frame
from hil_tests.vm.disks import copy_sparse, make_state_disk, recover
from hil_tests.vm.factory import installed
from hil_tests.vm.gateway import CONFIG, UNIT, Gateway
from hil_tests.vm.machine import Disk, Machine
from hil_tests.vm.platform import Platform
from hil_tests.vm.writelog import WriteLog

SUITE = "trixie"
KILLS, SNAPSHOTS, LIES = (int(word) for word in os.environ.get("CUTS", "3 7 10").split())
SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
PACE_S = 0.05
DROP = 0.5
DELIVERY_LIMIT_S = 300.0
RECORDED_FRAMES = 60


@dataclass
class Site:
    """A gateway whose state is on a disk of its own, off; and its platform, on."""

    installed: str
    machine: Machine
    gateway: Gateway
    platform: Platform
    state: Path
    config: str
    rng: random.Random


@pytest.fixture(scope="module")
def site(work: Path) -> Iterator[Site]:
    made = installed(SUITE)
    disk, state = copy_sparse(made.disk, work / "card.raw"), make_state_disk(work / "state.raw")
    with Platform(work / "platform", mqtt=False) as platform:
        with Machine(made.card, disk, work / "machine", disks=[Disk(state)]) as machine:
            machine.boot()
            gateway = Gateway(machine)
            gateway.configure(platform, batch_age_s=1.0, commit_window_s=0.2)
            shell = gateway.shell
            shell.check(f"systemctl stop {UNIT}")
            shell.check("mount LABEL=state /mnt && cp -a /var/lib/civigate/. /mnt/ && umount /mnt")
            shell.check("echo 'LABEL=state /var/lib/civigate ext4 defaults,noatime 0 2' >>/etc/fstab")
            shell.check(
                "systemctl daemon-reload && mount /var/lib/civigate && chown civigate: /var/lib/civigate && sync"
            )
            config = shell.get(CONFIG).decode()
            machine.power_off()
        rng = random.Random(SEED)
        print(f"seed {SEED}: SEED={SEED} repeats it")
        with Machine(made.card, disk, work / "machine", disks=[Disk(state)]) as machine:
            yield Site(str(made.disk), machine, Gateway(machine), platform, state, config, rng)


class Traffic:
    """Sensors that send, in a thread, until told otherwise."""

    def __init__(self, site: Site, series: int) -> None:
        self._port = site.machine.air_port
        self._series = series
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self.sent: list[bytes] = []

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(150)

    def _run(self) -> None:
        with Air(self._port) as air:
            for number in count():
                payload = frame(number, self._series)
                try:
                    air.send([payload])
                except AirError:
                    # the power is off
                    return
                self.sent.append(payload)
                if self._stop.wait(PACE_S):
                    return


def start(site: Site) -> float:
    """Switch it on and wait until it receives; return how long that took, in seconds."""
    began = time.monotonic()
    if not site.machine.on:
        site.machine.boot()
    with Air(site.machine.air_port) as air:
        air.wait()
    site.gateway.wait_for(site.gateway.receiving, "the radio")
    return time.monotonic() - began


def some(site: Site, traffic: Traffic, more: int) -> set[bytes]:
    """Wait until some more frames of the traffic are committed or delivered; return all that are."""
    begun = len(traffic.sent)
    while True:
        there = site.gateway.committed() | set(site.platform.delivered())
        mine = there & set(traffic.sent)
        if len(traffic.sent) > begun + more and len(mine) > more:
            return there
        assert len(traffic.sent) < begun + 5000, "frames are sent, but none is committed"


@pytest.mark.skipif(not KILLS, reason="CUTS says none of these")
def test_the_power_is_cut_and_comes_back(site: Site, measure: Measure) -> None:
    committed: set[bytes] = set()
    boots_s = [start(site)]
    for cut in range(KILLS):
        with Traffic(site, 100 + cut) as traffic:
            committed |= some(site, traffic, site.rng.randrange(5, 60))
            site.machine.cut()
        boots_s.append(start(site))
    there = site.platform.wait_for(lambda said: committed <= set(said), "all committed frames", DELIVERY_LIMIT_S)
    site.gateway.wait_for(lambda: site.gateway.waiting() == 0, "an empty spool")
    there = site.platform.delivered()
    measure("power cuts with two boots each", KILLS, low=1)
    measure("committed frames", len(committed), low=KILLS)
    measure("of these, lost", len(committed - set(there)), high=0)
    measure("frames twice at the platform", sum(times - 1 for times in there.values()), high=0)
    measure("power to receiving, longest", max(boots_s), "s", high=900)
    assert bool(site.platform.ask("status", "--json")["ok"])


@pytest.mark.skipif(not SNAPSHOTS, reason="CUTS says none of these")
def test_the_disk_is_frozen_in_the_midst_of_it(site: Site, work: Path, measure: Measure) -> None:
    start(site)
    cuts: list[tuple[Path, Path, set[bytes]]] = []
    with Traffic(site, 200) as traffic:
        for cut in range(SNAPSHOTS):
            known = some(site, traffic, site.rng.randrange(3, 25))
            time.sleep(site.rng.uniform(0, 0.5))  # any instant, not only those right after a look
            site.machine.qmp.call("stop")
            image = copy_sparse(site.state, work / f"snapshot-{cut}.raw")
            ledger = site.platform.copy_ledger(work / f"snapshot-{cut}.ledger")
            site.machine.qmp.call("cont")
            cuts.append((image, ledger, known))
    site.machine.power_off()
    lost = doubled = 0
    for cut, (image, ledger, known) in enumerate(cuts):
        state = recover(image, work / f"recovered-{cut}")
        after = live_on(state, site.config, site.platform, ledger, work / f"after-{cut}")
        lost, doubled = lost + _lost(after, known), doubled + _doubled(after)
        assert after.verifies, after.agent
        image.unlink()
    measure("snapshots of the disk", SNAPSHOTS, low=1)
    measure("committed frames at the last", len(cuts[-1][2]) if cuts else 0, low=1)
    measure("committed frames lost", lost, high=0)
    measure("frames twice at the platform", doubled, high=0)


@pytest.mark.skipif(not LIES, reason="CUTS says none of these")
def test_the_cache_of_the_disk_lies(site: Site, work: Path, measure: Measure) -> None:
    """The platform is away meanwhile: whatever the cut, it knows what it knew before, and nothing more."""
    if site.machine.on:
        site.machine.power_off()
    site.platform.stop()
    ledger = site.platform.copy_ledger(work / "before.ledger")
    before = copy_sparse(site.state, work / "before.raw")
    log = work / "writes.log"
    log.touch()
    marks: list[tuple[int, set[bytes]]] = []
    logged = site.machine.with_disks([Disk(site.state, log=log)])
    recording = Site(site.installed, logged, Gateway(logged), site.platform, site.state, site.config, site.rng)
    with logged:
        start(recording)
        with Traffic(recording, 300) as traffic:
            while len(traffic.sent) < RECORDED_FRAMES or not marks or len(marks[-1][1]) < RECORDED_FRAMES // 2:
                known = recording.gateway.committed()
                # in this order: what was seen before the log had this size is in any cut beyond it
                marks.append((log.stat().st_size, known))
        logged.cut()
    writes = WriteLog(log)
    first = next(number for number, entry in enumerate(writes.entries) if entry.end > marks[0][0])
    lost = doubled = dropped = most = 0
    for cut in range(LIES):
        upto = site.rng.randrange(first, len(writes.entries)) + 1
        reached = writes.entries[upto - 1].end
        known = max((known for size, known in marks if size <= reached), key=len, default=set())
        image = work / "replayed.raw"
        dropped += writes.replay(before, upto, DROP, site.rng, image)
        state = recover(image, work / f"lied-{cut}")
        after = live_on(
            copy_state(state, work / f"lied-{cut}-state"),
            site.config,
            site.platform,
            ledger,
            work / f"lied-{cut}-after",
        )
        most = max(most, len(known))
        lost, doubled = lost + _lost(after, known), doubled + _doubled(after)
        assert after.verifies, f"cut after entry {upto}: {after.agent}"
        for folder in (state, work / f"lied-{cut}-state"):
            shutil.rmtree(folder)
    site.platform.start()
    measure("cuts with a lying cache", LIES, low=1)
    measure("writes recorded", len(writes.entries), low=RECORDED_FRAMES // 10)
    measure("flushes recorded", writes.flushes, low=3)
    measure("writes lost from the cache", dropped, low=0)
    measure("committed frames at the latest cut", most, low=1)
    measure("committed frames lost", lost, high=0)
    measure("frames twice at the platform", doubled, high=0)


def _lost(after: Afterlife, known: set[bytes]) -> int:
    return len(known - set(after.delivered))


def _doubled(after: Afterlife) -> int:
    return sum(times - 1 for times in after.delivered.values())
