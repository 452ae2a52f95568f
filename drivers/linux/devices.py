# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Where a concentrator may be attached: SPI devices and USB bridges, as the kernel describes them.

Numbers tell nothing: a Raspberry Pi 5 has a spidev10.0 that leads to its own flash, and a u-blox receiver is a ttyACM
like a concentrator's bridge. The device tree and the USB descriptors know better.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

NOT_ON_THE_HEADER: Final = {"spi@7d004000": "is the Raspberry Pi 5's own flash, not the header"}
"""SPI controllers of Raspberry Pis that have no pins on the header, by their node in the device tree [bcm2712.dtsi]."""

OTHER_VENDORS: Final = {
    "1546": "a u-blox receiver",
    "2c7c": "a Quectel modem",
    "1e0e": "a SIMCom modem",
    "1199": "a Sierra modem",
    "12d1": "a Huawei modem",
}
"""Who makes other things that are called ttyACM; nothing is sent to them [usb.ids]."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device at which a concentrator may be.

    Attributes:
        kind: "spi" or "usb".
        path: in /dev.
        detail: what the kernel knows of it: the node in the device tree, or vendor and product; may be empty.
        not_asked: why nothing is sent to it; None when it may be asked.
    """

    kind: str
    path: Path
    detail: str
    not_asked: str | None = None


def find_devices(root: Path = Path("/")) -> list[Device]:
    """Return all SPI devices and serial USB devices, those of the header first.

    Args:
        root: of the file system.
    """
    spi = [_spi(root, path) for path in sorted((root / "dev").glob("spidev*"))]
    usb = [_usb(root, path) for path in sorted((root / "dev").glob("ttyACM*"))]
    return sorted([*spi, *usb], key=lambda device: device.not_asked is not None)


def _spi(root: Path, path: Path) -> Device:
    node = root / "sys/class/spidev" / path.name / "device/of_node"
    if not node.exists():
        return Device("spi", path, "")
    place = node.resolve()
    return Device("spi", path, f"{place.parent.name}/{place.name}", NOT_ON_THE_HEADER.get(place.parent.name))


def _usb(root: Path, path: Path) -> Device:
    interface = root / "sys/class/tty" / path.name / "device"
    if not interface.exists():
        return Device("usb", path, "")
    told = {name: _text(interface.resolve().parent / name) for name in ("idVendor", "idProduct", "product")}
    detail = f"{told['idVendor']}:{told['idProduct']} {told['product']}".strip()
    other = OTHER_VENDORS.get(told["idVendor"])
    return Device("usb", path, detail, None if other is None else f"is {other}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:100].strip()
    except OSError:
        return ""
