# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Devices are known by what the kernel says of them, not by their number."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from drivers.boards import GpioLine
from drivers.errors import BusError
from drivers.linux import gpio
from drivers.linux.devices import find_devices
from drivers.linux.gpio import HeaderLine


def _file(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _spi(root: Path, name: str, controller: str) -> None:
    _file(root / "dev" / name)
    node = root / "sys/firmware/devicetree/base" / controller / "spidev@0"
    node.mkdir(parents=True)
    device = root / "sys/class/spidev" / name / "device"
    device.mkdir(parents=True)
    (device / "of_node").symlink_to(node)


def _usb(root: Path, name: str, vendor: str, product: str) -> None:
    _file(root / "dev" / name)
    usb = root / "sys/devices/usb1" / f"1-{name}"
    (usb / "1-1:1.0").mkdir(parents=True)
    _file(usb / "idVendor", f"{vendor}\n")
    _file(usb / "idProduct", "5740\n")
    _file(usb / "product", f"{product}\n")
    tty = root / "sys/class/tty" / name
    tty.mkdir(parents=True)
    (tty / "device").symlink_to(usb / "1-1:1.0")


def test_a_raspberry_pi_5_has_a_spidev_that_is_not_the_headers(tmp_path: Path) -> None:
    _spi(tmp_path, "spidev0.0", "axi/pcie@1000120000/rp1/spi@50000")
    _spi(tmp_path, "spidev10.0", "soc@107c000000/spi@7d004000")
    header, flash = find_devices(tmp_path)
    assert (header.path.name, header.detail, header.not_asked) == ("spidev0.0", "spi@50000/spidev@0", None)
    assert flash.path.name == "spidev10.0"
    assert "flash" in str(flash.not_asked)


def test_a_receiver_is_not_taken_for_a_bridge(tmp_path: Path) -> None:
    _usb(tmp_path, "ttyACM0", "1546", "u-blox GNSS receiver")
    _usb(tmp_path, "ttyACM1", "0483", "STM32 Virtual ComPort")
    _file(tmp_path / "dev/ttyACM2")
    bridge, unknown, receiver = find_devices(tmp_path)
    assert (bridge.path.name, bridge.detail) == ("ttyACM1", "0483:5740 STM32 Virtual ComPort")
    assert (unknown.path.name, unknown.not_asked) == ("ttyACM2", None)
    assert receiver.not_asked == "is a u-blox receiver"
    assert find_devices(tmp_path / "nothing") == []


class Controllers:
    """The lgpio of a computer with other controllers than the emulator's."""

    error = RuntimeError

    def __init__(self, labels: dict[int, str]) -> None:
        self.labels = labels
        self.open: list[int] = []
        self.claimed: list[tuple[int, int, int]] = []

    def gpiochip_open(self, number: int) -> int:
        self.open.append(number)
        return number

    def gpiochip_close(self, number: int) -> None:
        self.open.remove(number)

    def gpio_get_chip_info(self, number: int) -> list[object]:
        return [0, 54, f"gpiochip{number}", self.labels[number]]

    def gpio_claim_output(self, number: int, line: int, level: int) -> None:
        self.claimed.append((number, line, level))


@pytest.mark.parametrize(
    ("labels", "controller", "expected"),
    [
        ({0: "pinctrl-rp1", 10: "gpio-brcmstb@107d508500"}, None, 0),
        ({0: "gpio-brcmstb@107d508500", 4: "pinctrl-rp1"}, None, 4),
        ({0: "pinctrl-bcm2711", 1: "raspberrypi-exp-gpio"}, None, 0),
        ({0: "raspberrypi-exp-gpio", 1: "pinctrl-bcm2835"}, None, 1),
        ({0: "300b000.pinctrl", 1: "7022000.pinctrl"}, "7022000.pinctrl", 1),
    ],
)
def test_the_controller_is_found_by_its_label(
    monkeypatch: pytest.MonkeyPatch, labels: dict[int, str], controller: str | None, expected: int
) -> None:
    lgpio = Controllers(labels)
    monkeypatch.setattr(gpio, "_lgpio", lambda: lgpio)
    devices = [Path(f"/dev/gpiochip{number}") for number in labels]
    monkeypatch.setattr(gpio, "Path", lambda _: SimpleNamespace(glob=lambda _: devices))
    HeaderLine(GpioLine(17, active_high=False, controller=controller)).set(active=True)
    assert lgpio.claimed == [(expected, 17, 0)]
    assert lgpio.open == [expected], "the others are closed again"


def test_a_controller_that_is_not_there_is_named_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpio, "_lgpio", lambda: Controllers({0: "300b000.pinctrl"}))
    monkeypatch.setattr(gpio, "Path", lambda _: SimpleNamespace(glob=lambda _: [Path("/dev/gpiochip0")]))
    with pytest.raises(BusError, match="no such GPIO controller") as caught:
        HeaderLine(GpioLine(17, active_high=True, controller="7022000.pinctrl")).set(active=True)
    assert "found gpiochip0 (300b000.pinctrl)" in caught.value.hint
