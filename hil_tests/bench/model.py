# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A bench: its roles, its numbers, its log, and how to wait on it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

from hil_tests.bench.limits import Limits
from hil_tests.bench.roles import (
    IN_WORDS,
    ROLES,
    Air,
    Disk,
    Dut,
    GnssDoor,
    Golden,
    Platform,
    Power,
    ReferenceNode,
    RfPath,
    SpiDoor,
    System,
    WallClock,
    Witness,
)
from hil_tests.bench.steps import Steps, recorded

T = TypeVar("T")

LOOK_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Run:
    """What a bench is opened with.

    Attributes:
        folder: for its files, empty; short, since Unix sockets go there.
        seed: of everything that is drawn at random.
        options: what the command line says beside it: `board_serial`, `operator`, `gateway`.
        wanted: roles that the tests of the run will ask for, as far as that is known.
    """

    folder: Path
    seed: int
    options: dict[str, str] = field(default_factory=dict)
    wanted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Bench:
    """One bench, as the tests see it. Make one with the roles that there are; `opening` adds log and digest.

    Attributes:
        name: for the report.
        simulated: nothing that it proves was proved on hardware.
        limits: its numbers.
        description: what is known of it before the tests: `board`, `emulator`, `image`..., for the report.
        digest: SHA-256 of its file, or of its name where it has none, hex.
        signing_key: private key of the bench that signs certificates; None for one of each run alone.
        history: file that keeps how its golden gateway heard, run after run; None for none.
        steps: its log.
        seed: of the run.
        dev_addr: of the frames that the tests send; the gateway's filter must take it.
        dut, spi, power, node, rf, platform, golden, gnss, clock, disk, system, air: its
            roles; None without.
    """

    name: str
    simulated: bool
    limits: Limits = field(default_factory=Limits)
    description: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    signing_key: Path | None = None
    history: Path | None = None
    steps: Steps = field(default_factory=Steps)
    seed: int = 1
    dev_addr: int = 0x48000007
    dut: Dut | None = None
    spi: SpiDoor | None = None
    power: Power | None = None
    node: ReferenceNode | None = None
    rf: RfPath | None = None
    platform: Platform | None = None
    golden: Golden | None = None
    gnss: GnssDoor | None = None
    clock: WallClock | None = None
    disk: Disk | None = None
    system: System | None = None
    air: Air | None = None

    @property
    def roles(self) -> list[str]:
        """Those that it fills."""
        return [name for name in ROLES if getattr(self, name) is not None]

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those of some roles that it does not fill."""
        return [name for name in names if getattr(self, name) is None]

    def lacks(self, names: Iterable[str]) -> str:
        """Return the sentence of a report that some of these roles are missing; empty when none is."""
        missing = [f"{IN_WORDS[name]} (role {name})" for name in self.missing(names)]
        return f"bench {self.name} has no {', no '.join(missing)}" if missing else ""

    def wait_for(self, look: Callable[[], T | None], what: str, within_s: float | None = None) -> T:
        """Look again and again; return the first result that is neither None nor False.

        Args:
            look: asks; must itself come back soon.
            what: waited for, to complete the sentence "waited 60 s for".
            within_s: at most; None for `limits.answer_s`.

        Raises:
            AssertionError: it did not come.
        """
        limit_s = self.limits.answer_s if within_s is None else within_s
        deadline = time.monotonic() + limit_s
        while (result := look()) is None or result is False:
            assert time.monotonic() < deadline, f"waited {limit_s:g} s for {what}"
            time.sleep(LOOK_S)
        return result

    def evidence(self, folder: Path) -> list[Path]:
        """Let every role write what it knows into a folder of its own below this one; return the files."""
        for name in self.roles:
            role = getattr(self, name)
            if isinstance(role, Witness):
                own = folder / name
                own.mkdir(parents=True, exist_ok=True)
                try:
                    role.evidence(own)
                except Exception as error:
                    (own / "no-evidence.txt").write_text(f"{type(error).__name__}: {error}\n")
        return sorted(path for path in folder.rglob("*") if path.is_file())


def with_log(bench: Bench, *, seed: int, file: bytes | None) -> Bench:
    """Return the bench with every call of a role in its log, and its digest."""
    digest = hashlib.sha256(bench.name.encode() if file is None else file).hexdigest()
    roles = {name: recorded(name, getattr(bench, name), bench.steps) for name in ROLES}
    return replace(bench, seed=seed, digest=digest, **roles)
