# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A rig that a TOML file describes: which roles it fills, and how each is reached. docs/hil.md shows one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from agent.config import load
from agent.errors import ConfigError
from drivers.boards import load_board
from drivers.bus import SerialPort
from drivers.linux.tty import TtyPort
from drivers.plans import load_plan
from drivers.profile import Table, open_profile
from hil_tests.bench.bridge import SOURCE, Bridge, BridgedDoor
from hil_tests.bench.limits import read_limits
from hil_tests.bench.model import Bench, Run
from hil_tests.bench.receiver import Address, receiver
from hil_tests.bench.remote import Place, RemoteClock, RemoteDisk, RemoteDut, RemoteGolden, RemoteSystem
from hil_tests.bench.roles import BenchError, Power, ReferenceNode
from hil_tests.bench.switches import LinePower, RelayPower
from hil_tests.nodes import lora_e5, rak3172
from hil_tests.nodes.lora_e5 import LoraE5
from hil_tests.nodes.rak3172 import Rak3172

NODES: Final[dict[str, tuple[Callable[[Callable[[], SerialPort]], Rak3172 | LoraE5], int]]] = {
    "rak3172": (Rak3172, rak3172.BAUD),
    "lora-e5": (LoraE5, lora_e5.BAUD),
}
MOST_DBM: Final = 30.0
MOST_WORDS: Final = 16
MOST_FILES: Final = 8
LEAST_DB: Final = 60.0
"""Between node and gateway: less, and a gateway that transmits at full power destroys the node."""


class FixedPath:
    """Pads that nobody turns.

    Args:
        attenuation_db: of pads, splitter and cables together.
    """

    def __init__(self, attenuation_db: float) -> None:
        self.attenuation_db = attenuation_db
        self.steps_db: Sequence[float] = (attenuation_db,)

    def attenuate(self, attenuation_db: float) -> None:
        """Set the only step that there is."""
        if attenuation_db != self.attenuation_db:
            raise BenchError(f"{attenuation_db} dB is no step of it", role="rf", hint="it has fixed pads")


@contextmanager
def bench(run: Run) -> Iterator[Bench]:
    """Open it.

    Raises:
        ProfileError: the file cannot be used as it is written.
        BenchError: something that it names is not there.
    """
    file = Path(run.options["file"])
    table, name = open_profile("hil_tests.benches", file.resolve())
    with ExitStack() as stack:
        top = _required(table, "bench")
        title, simulated = top.text("name"), top.boolean("simulated", default=False)
        dev_addr = int(top.optional_text("dev_addr") or "48000007", 16)
        description = {
            key.replace("_", " "): said for key in ("board", "image") if (said := top.optional_text(key)) is not None
        }
        signing_key, history = top.optional_text("signing_key"), top.optional_text("history")
        top.finish()
        place, dut = None, None
        if (section := table.table("dut")) is not None:
            place = _place(section)
            dut = RemoteDut(place)
            clock, disk = section.boolean("clock", default=False), section.boolean("disk", default=False)
            section.finish()
        open_door, open_platform, path = None, None, None
        if (section := table.table("spi")) is not None:
            if dut is None or place is None:
                raise section.error("python", "without a gateway", "name it in [dut]")
            open_door = _door(section, dut, place, run.folder)
        open_power = _power(table.table("power"))
        open_node = _node(table.table("node"))
        if (section := table.table("rf")) is not None:
            path = FixedPath(section.number("attenuation_db", LEAST_DB, 200.0))
            section.finish()
        if (section := table.table("platform")) is not None:
            open_platform = partial(receiver, _address(section, file), run.folder)
        golden = None
        if (section := table.table("golden")) is not None:
            offset_db = section.number("offset_db", -50.0, 50.0, 0.0)
            golden = RemoteGolden(_place(section), offset_db)
            section.finish()
        system = None
        if (section := table.table("system")) is not None:
            if dut is None or place is None:
                raise section.error("this", "without a gateway", "name it in [dut]")
            packages = {which: _beside(file, section.text(which)) for which in ("this", "previous")}
            system = RemoteSystem(dut, place, packages)
            section.finish()
        limits = read_limits(table.table("limits"))
        table.finish()
        # Nothing is touched before all of the file is understood.
        power = None if open_power is None else open_power(stack)
        node = None if open_node is None else open_node(stack, description)
        door = None if open_door is None else open_door()
        if door is not None:
            stack.callback(door.release)
        platform = None if open_platform is None else stack.enter_context(open_platform())
        yield Bench(
            title or name,
            simulated=simulated,
            limits=limits,
            description=description,
            signing_key=None if signing_key is None else _beside(file, signing_key),
            history=None if history is None else _beside(file, history),
            dev_addr=dev_addr,
            dut=dut,
            spi=door,
            power=power,
            node=node,
            rf=path,
            platform=platform,
            golden=golden,
            clock=RemoteClock(dut, place) if dut is not None and place is not None and clock else None,
            disk=RemoteDisk(dut, place) if dut is not None and place is not None and disk else None,
            system=system,
        )


def _required(table: Table, key: str) -> Table:
    section = table.table(key)
    if section is None:
        raise table.error(key, "missing", f"write a table [{key}]")
    return section


def _place(section: Table) -> Place:
    usual = Place(())
    return Place(
        via=section.texts("via", MOST_WORDS),
        root=section.texts("root", MOST_WORDS) if section.has("root") else usual.root,
        service=section.optional_text("service") or usual.service,
        config=section.optional_text("config") or usual.config,
        state_dir=section.optional_text("state_dir") or usual.state_dir,
        runtime_dir=section.optional_text("runtime_dir") or usual.runtime_dir,
    )


def _door(section: Table, dut: RemoteDut, place: Place, folder: Path) -> Callable[[], BridgedDoor]:
    python = section.texts("python", MOST_WORDS) or ("env", "PYTHONPATH=/usr/lib/civigate", "python3")
    firmware = section.optional_text("firmware_dir")
    section.finish()

    def open_() -> BridgedDoor:
        copy = folder / "dut-gateway.toml"
        done = dut.run(*place.root, "cat", place.config)
        copy.write_text(done.stdout)
        try:
            concentrator = load(copy).concentrator
        except ConfigError as error:
            what = f"{place.config} there: {done.stderr.strip() or error}"
            raise BenchError(what, role="dut", hint="correct it there") from error
        return BridgedDoor(
            partial(Bridge, place.words([*place.root, *python, "-c", SOURCE, place.config])),
            load_board(concentrator.board),
            load_plan(concentrator.plan),
            () if firmware is None else (Path(firmware),),
        )

    return open_


def _power(section: Table | None) -> Callable[[ExitStack], Power] | None:
    if section is None:
        return None
    kind, port = section.choice("kind", ("relay", "line")), section.text("port")
    make: Callable[[], RelayPower | LinePower]
    if kind == "relay":
        channel = section.integer("channel", 1, 255, 1)
        wiring = section.boolean("on_when_energised", default=False)
        make = partial(RelayPower, port, channel, on_when_energised=wiring)
    else:
        line = section.choice("line", ("dtr", "rts"), "rts")
        make = partial(LinePower, port, line, on_when_set=section.boolean("on_when_set", default=False))
    section.finish()

    def open_(stack: ExitStack) -> Power:
        power = make()
        stack.callback(power.close)
        return power

    return open_


def _node(section: Table | None) -> Callable[[ExitStack, dict[str, str]], ReferenceNode] | None:
    if section is None:
        return None
    kind, port = section.choice("kind", tuple(NODES)), section.text("port")
    make, usual_baud = NODES[kind]
    baud = section.integer("baud", 1200, 921_600, usual_baud)
    section.finish()

    def open_(stack: ExitStack, description: dict[str, str]) -> ReferenceNode:
        node = make(partial(TtyPort, port, baud))
        stack.callback(node.close)
        identity = node.identify()
        description["node"] = " ".join(filter(None, (identity.kind, identity.serial, identity.firmware)))
        return node

    return open_


def _address(section: Table, file: Path) -> Address:
    address = Address(
        receiver_toml=_beside(file, section.text("receiver")),
        port=section.integer("port", 1, 65_535),
        listen=section.text("listen"),
        listen_port=section.integer("listen_port", 1, 65_535),
    )
    section.finish()
    return address


def _beside(file: Path, name: str) -> Path:
    """Return a path that a bench file names: from its own folder."""
    return (file.parent / name).resolve()
