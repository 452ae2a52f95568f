# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A gateway with a very small network behind it, and devices around it: all that a join needs, in a test's time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from drivers.emulator.device import DeviceProfile, Otaa
from drivers.emulator.lorawan import (
    CONFIRMED_UP,
    UP,
    Downlink,
    JoinAccept,
    Session,
    data_down,
    derive_session,
    join_request,
    open_data,
    seal_join_accept,
)
from drivers.emulator.play import Air
from drivers.emulator.scenario import Scenario
from drivers.sx1302.packet import RxPacket
from drivers.sx1302.transmission import LoraTransmission
from tests.drivers.bench import Bench

OTAA = Otaa(bytes.fromhex("70B3D57ED0000001"), bytes.fromhex("70B3D57ED0000000"), bytes(range(16)), dev_nonce=7)
SESSION = Session(0x26011BDA, bytes(range(16)), bytes(range(16, 32)))
METER = DeviceProfile("meter", OTAA, path_loss_db=100, interval_us=20_000_000)
STEP_S = 0.02


@dataclass
class Network:
    """Answers join requests and confirmed frames of one device.

    Attributes:
        rx2: answer in the second window.
        accept: the answer to a join request.
        change: made to each downlink before it is sent.
        shift_us: how much later than due downlinks are sent.
        silent_for: frames that are not answered first.
    """

    rx2: bool = False
    accept: JoinAccept = field(default_factory=lambda: JoinAccept(0x010203, 0x000013, 0x26012345))
    change: dict[str, object] = field(default_factory=dict)
    shift_us: int = 0
    silent_for: int = 0
    session: Session | None = None
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    acks: int = 0
    _fcnt_down: int = 0

    def answer(self, packet: RxPacket) -> tuple[LoraTransmission, int] | None:
        """Return the downlink for an uplink, and when it is to leave."""
        if self.silent_for:
            self.silent_for -= 1
            return None
        if packet.payload[0] == 0:
            dev_nonce = int.from_bytes(packet.payload[17:19], "little")
            assert packet.payload == join_request(OTAA.app_key, OTAA.join_eui, OTAA.dev_eui, dev_nonce)
            self.session = derive_session(OTAA.app_key, self.accept, dev_nonce)
            return self._downlink(packet, seal_join_accept(OTAA.app_key, self.accept), 5_000_000, joining=True)
        assert self.session is not None
        mhdr, ack, fcnt, _, _, payload = open_data(self.session, packet.payload, UP, 0)
        self.frames.append((fcnt, payload))
        self.acks += ack
        if mhdr != CONFIRMED_UP:
            return None
        down = Downlink(confirmed=True, ack=True, fcnt=self._fcnt_down, port=2, payload=b"down")
        self._fcnt_down += 1
        return self._downlink(packet, data_down(self.session, down), max(self.accept.rx_delay_s, 1) * 1_000_000)

    def _downlink(
        self, packet: RxPacket, frame: bytes, delay_us: int, *, joining: bool = False
    ) -> tuple[LoraTransmission, int]:
        rate = max(12 - packet.datarate - (0 if joining else self.accept.rx1_dr_offset), 0)
        frequency_hz = packet.frequency_hz
        if self.rx2:
            rate, frequency_hz = (0 if joining else self.accept.rx2_data_rate), 869_525_000
            delay_us += 1_000_000
        transmission = LoraTransmission(frequency_hz, 14, 125_000, 12 - rate, 1, frame)
        changed = replace(transmission, **self.change)  # type: ignore[arg-type]  # fields by name, checked at run time
        return changed, packet.counter_us + delay_us + self.shift_us


class City:
    """An emulated gateway, its air, and the network."""

    def __init__(self, *devices: DeviceProfile, network: Network | None = None, seed: int = 1) -> None:
        self.bench = Bench()
        self.concentrator = self.bench.started()
        self.network = network or Network()
        levels = {gain.register: float(gain.power_dbm) for gain in self.bench.board.transmit_gains}
        scenario = Scenario(seed, 6.0, 16, devices)
        self.air = Air(self.bench.emulator, scenario, levels_dbm=levels)
        self.device = self.air.device(devices[0].name) if devices else None

    def run(self, seconds: float) -> City:
        """Let time pass."""
        for _ in range(round(seconds / STEP_S)):
            self.air.advance()
            for packet in self.concentrator.receive().packets:
                answer = self.network.answer(packet)
                if answer is not None:
                    self.concentrator.transmit(*answer)
            self.bench.clock.sleep(STEP_S)
        return self
