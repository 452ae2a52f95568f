# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Is the way to the concentrator there, and may the agent use it? Nothing is opened, nobody is disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.doctor import host
from agent.doctor.causes import found
from agent.doctor.context import user_name
from agent.doctor.finding import Finding, ok, skipped

if TYPE_CHECKING:
    from agent.config import Bus
    from agent.doctor.context import Context

SPI_BUFFER: Final = "sys/module/spidev/parameters/bufsiz"
SPI_BUFFER_BYTES: Final = 4096
"""What the driver reads at once."""
MODEM_MANAGER: Final = "ModemManager"
UDEV_RULES: Final = ("etc/udev/rules.d/60-civigate.rules", "lib/udev/rules.d/60-civigate.rules")


def bus_of(context: Context) -> Bus:
    """Return where the concentrator is, as configured or as the board's profile says.

    Raises:
        DriverError: there is no such profile.
    """
    from agent.hardware import default_bus
    from drivers.boards import load_board

    assert context.config is not None
    section = context.config.concentrator
    return section.bus or default_bus(load_board(section.board))


def bus(context: Context) -> Iterator[Finding]:
    """Say whether the device of the concentrator is there and may be used."""
    if context.config is None:
        yield from _any_bus(context)
        return
    at = bus_of(context)
    if at.kind == "emulator":
        if at.path.exists():
            yield ok("bus", f"virtual concentrator at {at.path}", {"emulated": True})
        else:
            yield found("emulator-missing", "bus", f"{at.path} is not there", where=at.path)
    elif at.kind == "usb":
        yield from _usb(context, at.path)
    else:
        yield from _spi(context, at.path)


def _any_bus(context: Context) -> Iterator[Finding]:
    """Without a configuration, say what there is."""
    from drivers.linux.devices import find_devices

    there = [str(device.path) for device in find_devices(context.root) if device.not_asked is None]
    if there:
        yield skipped("bus", f"a concentrator may be at {', '.join(there)}; civigate probe asks")
    else:
        yield from _no_spi(context, Path("/dev/spidev0.0"), "no SPI device and no USB concentrator is there")


def _spi(context: Context, path: Path) -> Iterator[Finding]:
    from drivers.linux.devices import find_devices

    if not path.exists():
        others = ", ".join(sorted(device.name for device in Path("/dev").glob("spidev*"))) or "none"
        yield from _no_spi(context, path, f"{path} is not there; SPI devices: {others}")
        return
    for device in find_devices(context.root):
        if device.path == path and device.not_asked is not None:
            yield found("spi-flash", "bus", f"{path} {device.not_asked}")
            return
    yield from _rights("bus", "spi-rights", path, context.who)
    buffer_bytes = host.number(context.root / SPI_BUFFER)
    if buffer_bytes is not None and buffer_bytes < SPI_BUFFER_BYTES:
        yield found("spi-buffer", "bus", f"spidev.bufsiz is {buffer_bytes} bytes, {SPI_BUFFER_BYTES} are needed")


def _no_spi(context: Context, path: Path, evidence: str) -> Iterator[Finding]:
    config_txt = host.boot_file(context.root, "config.txt")
    state = None if config_txt is None else host.switched_on(config_txt, "spi", host.model(context.root))
    said = {None: "config.txt does not switch SPI on", False: "config.txt switches SPI off", True: "config.txt: spi=on"}
    pi = config_txt is not None
    detail = f"{evidence}; {said[state]}" if pi else evidence
    cause = "spi-missing" if state else "spi-off"
    yield found(cause if pi else "no-device", "bus", detail, where=path)


def _usb(context: Context, path: Path) -> Iterator[Finding]:
    if not path.exists():
        others = ", ".join(sorted(device.name for device in Path("/dev").glob("ttyACM*"))) or "none"
        yield found("usb-missing", "bus", f"{path} is not there; USB serial devices: {others}", where=path)
        return
    yield from _rights("bus", "usb-rights", path, context.who)
    ruled = any((context.root / rules).exists() for rules in UDEV_RULES)
    if not ruled and _runs(context.root, MODEM_MANAGER):
        yield found("modem-manager", "bus", f"{MODEM_MANAGER} runs, and no udev rule keeps it off {path}")


def _rights(check: str, cause: str, path: Path, user: str) -> Iterator[Finding]:
    if host.may_use(path, user):
        yield ok(check, f"{path} is there, and {user} may use it")
    else:
        mode = f"{path.stat().st_mode & 0o777:o}, group {host.group_of(path)}"
        yield found(cause, check, f"{path} has mode {mode}", user=user, where=path, group=host.group_of(path))


def lines(context: Context) -> Iterator[Finding]:
    """Say whether the GPIO lines of the board's profile can be driven, and by whom they are held."""
    from agent.doctor import gpio
    from drivers.boards import load_board

    if context.config is None:
        return
    board = load_board(context.config.concentrator.board)
    if bus_of(context).kind != "spi":
        yield skipped("lines", "this concentrator is not reset by lines of the header")
        return
    wanted = {name: line for name, line in (("reset", board.reset), ("power", board.power)) if line is not None}
    if not wanted:
        yield skipped("lines", f"the profile of {board.name} names no line of the header")
        return
    said = []
    for name, line in wanted.items():
        try:
            chip = gpio.find(line)
            held = gpio.holder(chip, line.number)
        except PermissionError as error:
            path = Path(str(error.filename))
            evidence = f"{path} may not be opened by {user_name()}"
            yield found("gpio-rights", "lines", evidence, user=context.who, group=host.group_of(path))
            return
        except OSError as error:
            yield found("gpio-missing", "lines", str(error.strerror or error))
            return
        if not host.may_use(chip, context.who):
            evidence = f"{chip} has group {host.group_of(chip)}"
            yield found("gpio-rights", "lines", evidence, user=context.who, group=host.group_of(chip))
            return
        if held is not None and not context.hands_off:
            yield found("line-used", "lines", f"GPIO{line.number} ({name}) is held by {held}")
            return
        said.append(f"{name} GPIO{line.number}, active {'high' if line.active_high else 'low'}")
    yield ok("lines", f"{chip}: {'; '.join(said)}")


def serial(context: Context) -> Iterator[Finding]:
    """Say whether the agent may use the port of the GNSS receiver, and whether the login console is on it."""
    device = None if context.config is None else context.config.gnss.device
    if device is None:
        return
    if host.is_device(device) and not host.may_use(device, context.who):
        mode = f"{device.stat().st_mode & 0o777:o}, group {host.group_of(device)}"
        yield found("gnss-rights", "serial", f"{device} has mode {mode}", user=context.who, group=host.group_of(device))
    line = host.boot_file(context.root, "cmdline.txt")
    if line is None:
        return
    consoles = [word.removeprefix("console=").split(",")[0] for word in line.split() if word.startswith("console=")]
    mine = _names(context.root, str(device).removeprefix("/dev/"))
    clash = [console for console in consoles if mine & _names(context.root, console)]
    if clash:
        yield found("console-on-port", "serial", f"cmdline.txt has console={clash[0]}, and [gnss] device = {device}")


def _names(root: Path, name: str) -> set[str]:
    """Return the names of a port: as it is called here, and what that leads to."""
    return {name, (root / "dev" / name).resolve().name}


def _runs(root: Path, name: str) -> bool:
    return any(host.text(comm) == name for comm in (root / "proc").glob("[0-9]*/comm"))
