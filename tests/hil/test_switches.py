# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Power switches: the right bytes, the right levels, and nothing switched by opening a port."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import serial  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator.terminal import Terminal
from hil_tests.bench.roles import BenchError
from hil_tests.bench.switches import LinePower, RelayPower, relay_order
from hil_tests.fakes.relay import FakeRelay

LIMIT_S = 30.0


def test_the_orders_are_those_that_boards_know() -> None:
    assert relay_order(1, energised=True) == bytes.fromhex("A00101A2")
    assert relay_order(1, energised=False) == bytes.fromhex("A00100A1")


@pytest.mark.parametrize("wiring", [True, False])
def test_a_relay_switches_and_opening_its_port_does_not(tmp_path: Path, wiring: bool) -> None:
    with FakeRelay(tmp_path / "relay") as board:
        power = RelayPower(str(board.link), 2, on_when_energised=wiring)
        assert power.is_on()
        power.off()
        power.on()
        deadline = time.monotonic() + LIMIT_S
        while len(board.orders) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        power.close()
        assert board.orders == [(2, not wiring), (2, wiring)]


@given(st.binary(max_size=40), st.integers(0, 8), st.booleans())
def test_a_board_finds_an_order_behind_rubbish(noise: bytes, channel: int, energised: bool) -> None:
    board = object.__new__(FakeRelay)
    board._rest, board.orders, board._switched = b"", [], lambda channel, energised: None
    order = relay_order(channel, energised=energised)
    # rubbish that looks like the beginning of an order may swallow one; then a second one is understood
    board.came(noise + order + order)
    assert (channel, energised) in board.orders


def test_a_relay_that_is_gone_is_the_benchs_fault(tmp_path: Path) -> None:
    with FakeRelay(tmp_path / "relay") as board:
        power = RelayPower(str(board.link))
        board.unplug()
        with pytest.raises(BenchError, match="relay is gone"):
            power.off()
    with pytest.raises(BenchError, match="cannot be opened"):
        RelayPower(str(tmp_path / "relay"))


class _Wires(serial.Serial):  # type: ignore[misc]  # without types
    """A port that notes the levels of its modem lines: a pseudo-terminal has none."""

    def __init__(self) -> None:
        self.levels: list[tuple[str, bool]] = []
        super().__init__()

    def _update_dtr_state(self) -> None:
        self.levels.append(("dtr", self._dtr_state))

    def _update_rts_state(self) -> None:
        self.levels.append(("rts", self._rts_state))


@pytest.mark.parametrize("line", ["dtr", "rts"])
@pytest.mark.parametrize("wiring", [True, False])
def test_a_modem_line_never_has_another_level_than_it_was_told(tmp_path: Path, line: str, wiring: bool) -> None:
    terminal = Terminal(tmp_path / "tty")
    wires = _Wires()
    power = LinePower(str(tmp_path / "tty"), line, on_when_set=wiring, port=lambda: wires)
    assert {level for name, level in wires.levels if name == line} == {wiring}, "switched by opening"
    power.off()
    power.on()
    assert [level for name, level in wires.levels if name == line][-2:] == [not wiring, wiring]
    power.close()
    terminal.close()
