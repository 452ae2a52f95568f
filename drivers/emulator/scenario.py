# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Scenarios: which devices are around the gateway, where, what they send, and what goes wrong, out of a TOML file.

Strict: an unknown key, a missing key or a value outside its range is an error that names file and key. The same file
makes the same transmissions, as far as they do not answer a network.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from drivers.emulator.chip import Chip
from drivers.emulator.device import EU868_HZ, DeviceProfile, Otaa
from drivers.emulator.faults import KINDS, FaultError, set_fault
from drivers.emulator.header import Stts751
from drivers.emulator.lorawan import Session
from drivers.emulator.medium import (
    DEMODULATORS,
    NOISE_FIGURE_DB,
    PATH_LOSS_1KM_DB,
    PATH_LOSS_EXPONENT,
    Crystal,
    PathLoss,
)
from drivers.profile import open_profile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from drivers.profile import Table

DEVICES_LIMIT: Final = 1_000
FAULTS_LIMIT: Final = 1_000
CLEAR: Final = "none"
"""As a kind of fault: all is whole again."""

_PARAMETER_LIMIT: Final = 1_000_000
_CHANNELS_LIMIT: Final = 16
_SEED_LIMIT: Final = (1 << 63) - 1
_FARTHEST_M: Final = 1_000_000
_EUI_BYTES: Final = 8
_KEY_BYTES: Final = 16
_ADDRESS_BYTES: Final = 4
_LONGEST_INTERVAL_S: Final = 30 * 86_400
_US_PER_S: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class ScriptedFault:
    """Something that goes wrong at a certain time.

    Attributes:
        at_us: after the emulator's start; 0 is before any program runs on it.
        kind: of the fault, or `CLEAR`.
        parameters: that it takes.
    """

    at_us: int
    kind: str
    parameters: Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is around a gateway.

    Attributes:
        seed: of all chance.
        noise_figure_db: of the gateway.
        demodulators: that it has.
        devices: around it.
        faults: in the order in which they happen.
    """

    seed: int
    noise_figure_db: float
    demodulators: int
    devices: tuple[DeviceProfile, ...]
    faults: tuple[ScriptedFault, ...] = ()


def load_scenario(path: Path) -> Scenario:
    """Read a scenario.

    Raises:
        ProfileError: it cannot be read, or says something that is not understood.
    """
    table, _ = open_profile(__package__ or "", path)
    seed = table.integer("seed", 0, _SEED_LIMIT, 1)
    place, noise_figure_db, demodulators = _gateway(table.table("gateway"))
    law, shadowing_db = _medium(table.table("medium"))
    devices: list[DeviceProfile] = []
    for item in table.tables("device", DEVICES_LIMIT):
        device = _device(item, seed, place, law, shadowing_db)
        if any(other.name == device.name for other in devices):
            raise item.error("name", f"{device.name!r} twice", "give each device a name of its own")
        devices.append(device)
    faults = sorted((_fault(item) for item in table.tables("fault", FAULTS_LIMIT)), key=lambda fault: fault.at_us)
    table.finish()
    return Scenario(seed, noise_figure_db, demodulators, tuple(devices), tuple(faults))


def _gateway(table: Table | None) -> tuple[tuple[float, float], float, int]:
    if table is None:
        return (0.0, 0.0), NOISE_FIGURE_DB, DEMODULATORS
    place = _position(table.table("position")) or (0.0, 0.0)
    noise_figure_db = table.number("noise_figure_db", 0, 20, NOISE_FIGURE_DB)
    demodulators = table.integer("demodulators", 1, DEMODULATORS, DEMODULATORS)
    table.finish()
    return place, noise_figure_db, demodulators


def _medium(table: Table | None) -> tuple[PathLoss, float]:
    if table is None:
        return PathLoss(), 0.0
    law = PathLoss(
        table.number("path_loss_1km_db", 60, 200, PATH_LOSS_1KM_DB),
        table.number("exponent", 1, 6, PATH_LOSS_EXPONENT),
    )
    shadowing_db = table.number("shadowing_db", 0, 20, 0.0)
    table.finish()
    return law, shadowing_db


def _device(
    table: Table, seed: int, gateway_m: tuple[float, float], law: PathLoss, shadowing_db: float
) -> DeviceProfile:
    name, activation = _activation(table, seed)
    place = _position(table.table("position"))
    if place is None:
        path_loss_db = table.number("path_loss_db", 0, 250)
    else:
        # Shadowing belongs to the place: one value for a device, whatever else is in the file.
        shadow = Random(f"{seed}/{name}/shadowing").gauss(0.0, shadowing_db)  # noqa: S311 - repeatable on purpose
        path_loss_db = law.db(place, gateway_m) + shadow
    interval_s = table.number("interval_s", 1, _LONGEST_INTERVAL_S)
    # Devices are not switched on all at once.
    first_s = Random(f"{seed}/{name}/first").uniform(0, interval_s)  # noqa: S311 - repeatable on purpose
    device = DeviceProfile(
        name=name,
        activation=activation,
        path_loss_db=path_loss_db,
        interval_us=round(interval_s * _US_PER_S),
        poisson=table.choice("traffic", ("periodic", "poisson"), "periodic") == "poisson",
        first_us=round(table.number("first_s", 0, _LONGEST_INTERVAL_S, first_s) * _US_PER_S),
        sf=table.integer("sf", 7, 12, 7),
        confirmed=table.boolean("confirmed", default=False),
        payload_bytes=table.integer("payload_bytes", 0, 222, 12),
        port=table.integer("port", 1, 223, 1),
        frequencies_hz=table.integers("frequencies_hz", 863_000_000, 870_000_000, _CHANNELS_LIMIT) or EU868_HZ,
        power_dbm=table.number("power_dbm", -20, 30, 14.0),
        fading_db=table.number("fading_db", 0, 20, 0.0),
        noise_figure_db=table.number("noise_figure_db", 0, 20, NOISE_FIGURE_DB),
        crystal=Crystal(
            table.number("crystal_ppm", -100, 100, 0.0),
            table.number("crystal_drift_ppm", 0, 100, 0.0),
        ),
    )
    table.finish()
    return device


def _fault(table: Table) -> ScriptedFault:
    at_us = round(table.number("at_s", 0, _LONGEST_INTERVAL_S) * _US_PER_S)
    kind = table.choice("kind", (CLEAR, *sorted(KINDS)))
    parameters: dict[str, int | str] = {}
    for name, default in KINDS[kind].parameters.items() if kind != CLEAR else ():
        if isinstance(default, int):
            parameters[name] = table.integer(name, -_PARAMETER_LIMIT, _PARAMETER_LIMIT, default)
        else:
            parameters[name] = table.optional_text(name) or default
    table.finish()
    if kind != CLEAR:
        try:
            # On a chip of its own, which is thrown away: so that nothing can be wrong in the middle of a run.
            set_fault(Chip(eui=bytes(_EUI_BYTES)), Stts751(0.0), 0, kind, parameters)
        except FaultError as error:
            raise table.error("kind", str(error), f"see the parameters of {kind} in the documentation") from None
    return ScriptedFault(at_us, kind, parameters)


def _activation(table: Table, seed: int) -> tuple[str, Otaa | Session]:
    """Take the keys of a device with DevEUI (joins) or DevAddr (has its session), and its name."""
    name, address = table.optional_text("name"), table.optional_text("dev_addr")
    if address is not None:
        dev_addr = int.from_bytes(_hexadecimal(table, "dev_addr", _ADDRESS_BYTES), "big")
        keys = [_hexadecimal(table, key, _KEY_BYTES) for key in ("nwk_s_key", "app_s_key")]
        return name or address, Session(dev_addr, *keys)
    if table.optional_text("dev_eui") is None:
        raise table.error("dev_eui", "missing", "give dev_eui, join_eui and app_key; or dev_addr and its session keys")
    dev_eui = _hexadecimal(table, "dev_eui", _EUI_BYTES)
    # A network refuses nonces that it has seen: a scenario that is played again needs others.
    dev_nonce = Random(f"{seed}/{dev_eui.hex()}/nonce").randrange(1 << 15)  # noqa: S311 - repeatable on purpose
    activation = Otaa(
        dev_eui=dev_eui,
        join_eui=_hexadecimal(table, "join_eui", _EUI_BYTES),
        app_key=_hexadecimal(table, "app_key", _KEY_BYTES),
        dev_nonce=table.integer("dev_nonce", 0, 65_535, dev_nonce),
    )
    return name or dev_eui.hex(), activation


def _position(table: Table | None) -> tuple[float, float] | None:
    if table is None:
        return None
    place = tuple(table.number(key, -_FARTHEST_M, _FARTHEST_M) for key in ("x_m", "y_m"))
    table.finish()
    return place[0], place[1]


def _hexadecimal(table: Table, key: str, length: int) -> bytes:
    text = table.text(key)
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != length:
        raise table.error(key, f"found {len(text)} characters", f"write {2 * length} hexadecimal digits in quotes")
    return value
