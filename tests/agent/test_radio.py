# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The radio thread's body on an emulated concentrator, in a time that passes only when somebody waits."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent.batch.keys import Ed25519Signer
from agent.batch.model import Account
from agent.config import load
from agent.filter import Filter, FilterRules, parse_dev_addrs
from agent.frame import Session
from agent.hardware import concentrator_opener
from agent.radio import LONGEST_PAUSE_S, Radio, RadioState, Receiver, Sink
from agent.rescue import LookNote
from agent.spool.intake import Heard
from agent.spool.journal import Recovered
from agent.spool.orders import Destination, Policy
from agent.spool.writer import SpoolWriter
from drivers.emulator import AirPacket, Emulator
from drivers.emulator.remote import Server
from drivers.errors import BusError, FirmwareError
from drivers.sx1302.packet import CrcStatus
from tests.drivers.bench import Bench, TestClock

BOOT = bytes(range(16))
EVERYTHING = Filter(FilterRules(dev_addr=(parse_dev_addrs("00000000/0"),)))
NOTHING = Filter(FilterRules())

Step = Callable[[], None]


class Killed(BaseException):
    """The process dies here."""


class HostTime(TestClock):
    """The host's clocks, 100 s after its boot."""

    boot_id = BOOT

    def boottime_us(self) -> int:
        return self.now_ns // 1000 + 100_000_000


class Script(threading.Event):
    """A stop event whose waits are the turns of a play: time passes, the next step happens, at its end it is set."""

    def __init__(self, clock: HostTime, steps: Iterator[None]) -> None:
        super().__init__()
        self._clock = clock
        self._steps = steps
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        assert len(self.waits) < 1000, "the radio does not come to an end"
        self._clock.sleep(timeout)
        try:
            next(self._steps)
        except StopIteration:
            self.set()
        return self.is_set()


class Keeper:
    """A spool that keeps everything in memory; it survives the radio, as the journal does."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.sessions: list[Session] = []
        self.dies_at: int | None = None
        """Number of the frame at which the process is killed before it is kept."""

    @property
    def recovered(self) -> Recovered:
        seen = [print_ for heard in self.heard for print_ in heard.seen]
        return Recovered(session=self.sessions[-1] if self.sessions else None, seen=tuple(seen[-512:]))

    def begin_session(self, boot_id: bytes) -> Session:
        self.sessions.append(Session(boot_id, len(self.sessions) + 1))
        return self.sessions[-1]

    def offer(self, heard: Heard) -> bool:
        if heard.frames and self.dies_at is not None and len(self.frames) >= self.dies_at:
            self.dies_at = None
            raise Killed
        assert all(tally.balanced for tally in heard.tallies)
        self.heard.append(heard)
        return True

    @property
    def frames(self) -> list[int]:
        return [
            int.from_bytes(routed.frame.phy_payload[1:5], "little") for heard in self.heard for routed in heard.frames
        ]

    def account(self, index: int = 0) -> Account:
        return sum((heard.tallies[index] for heard in self.heard), Account())


def air(number: int, *, freq_hz: int = 868_100_000, crc: CrcStatus = CrcStatus.OK) -> AirPacket:
    """An uplink of the device with that address."""
    payload = b"\x40" + number.to_bytes(4, "little") + b"\x00\x01\x00\x01data" + b"mic!"
    return AirPacket(freq_hz=freq_hz, payload=payload, crc=crc)


class Play:
    """An emulated chip, a spool, and one process after the other that runs a radio on them."""

    def __init__(self, run: Path | None = None) -> None:
        self.note = None if run is None else LookNote(run, BOOT)
        self.bench = Bench()
        self.clock = HostTime()
        self.bench.clock = self.clock
        self.bench.emulator = Emulator(monotonic_ns=self.clock.monotonic_ns)
        self.keeper = Keeper()
        self.script = Script(self.clock, iter(()))
        self.opened = 0

    def open(self) -> Receiver:
        self.opened += 1
        self.bench.bus.bus = self.bench.emulator.bus()
        return self.bench.concentrator()

    def inject(self, *numbers: int) -> None:
        for number in numbers:
            self.bench.emulator.inject(air(number))

    def damage(self, number: int) -> None:
        self.bench.emulator.inject(air(number, crc=CrcStatus.BAD))

    def run(
        self,
        *steps: Step,
        open_: Callable[[], Receiver] | None = None,
        sink: Sink | None = None,
        filters: tuple[Filter, ...] = (EVERYTHING,),
    ) -> Radio:
        def play() -> Iterator[None]:
            for step in steps:
                step()
                yield

        self.script = Script(self.clock, play())
        radio = Radio(open_ or self.open, sink or self.keeper, filters, self.clock, self.script, note=self.note)
        radio.run()
        return radio


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


def test_what_is_on_the_air_reaches_the_spool(play: Play) -> None:
    radio = play.run(lambda: play.inject(1, 2), lambda: play.inject(3))
    assert play.keeper.frames == [1, 2, 3]
    assert play.keeper.account() == Account(heard=3, spooled=3)
    assert radio.status.state is RadioState.OFF
    assert (radio.status.heard, radio.status.starts, radio.status.failures) == (3, 1, 0)
    assert radio.status.eui == bytes.fromhex("0016C001FF123456")


def test_each_destination_gets_its_own(play: Play) -> None:
    play.run(
        lambda: play.inject(1),
        lambda: play.damage(2),
        filters=(NOTHING, EVERYTHING),
    )
    assert play.keeper.account(0) == Account(heard=2, bad_crc=1, filtered=1)
    assert play.keeper.account(1) == Account(heard=2, bad_crc=1, spooled=1)


def test_frames_carry_the_boot_time_of_the_end_of_the_packet(play: Play) -> None:
    ends: list[int] = []

    def inject() -> None:
        emulator = play.bench.emulator
        now_us = emulator.now_us()
        emulator.inject(air(1), end_us=now_us + 3_000)
        ends.append(play.clock.boottime_us() + 3_000)

    play.run(inject, lambda: None, lambda: None)
    [heard] = [heard for heard in play.keeper.heard if heard.frames]
    [frame] = [routed.frame for routed in heard.frames]
    assert abs(frame.boottime_us - ends[0]) < 200
    assert frame.session == Session(BOOT, 1)


def test_an_interruption_between_two_clocks_is_not_taken_for_time(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a loaded machine the thread may stand still between two readings that are set against each other."""
    ends: list[int] = []
    read = play.clock.boottime_us
    interruptions = [0.05, 0.02]

    def interrupted() -> int:
        if interruptions:
            play.clock.sleep(interruptions.pop())
        return read()

    def inject() -> None:
        play.bench.emulator.inject(air(1), end_us=play.bench.emulator.now_us() + 3_000)
        ends.append(read() + 3_000)
        monkeypatch.setattr(play.clock, "boottime_us", interrupted)

    play.run(inject, lambda: None, lambda: None)
    [frame] = [routed.frame for heard in play.keeper.heard for routed in heard.frames]
    assert not interruptions
    assert abs(frame.boottime_us - ends[0]) < 200


def test_an_empty_look_is_followed_by_a_pause_and_a_full_one_by_another_look(play: Play) -> None:
    play.run(lambda: None, lambda: play.inject(1), lambda: None)
    assert set(play.script.waits) == {0.01}
    assert len(play.script.waits) == 4


def test_what_comes_in_while_it_stops_is_kept(play: Play) -> None:
    def last_moment() -> None:
        play.inject(7)
        play.script.set()

    play.run(lambda: None, last_moment)
    assert play.keeper.frames == [7]
    assert not play.bench.emulator.stats().running


def test_a_killed_process_costs_nothing_that_it_had_taken_from_the_chip(play: Play) -> None:
    play.keeper.dies_at = 1
    with pytest.raises(Killed):
        play.run(lambda: play.inject(1), lambda: play.inject(2, 3))
    play.inject(4)
    play.run(lambda: play.inject(5))
    assert play.keeper.frames == [1, 2, 3, 4, 5]
    assert [session.number for session in play.keeper.sessions] == [1, 2, 3]
    assert play.keeper.account() == Account(heard=5, spooled=5)


@pytest.mark.parametrize("seed", range(5))
def test_however_often_it_is_killed_nothing_is_lost_or_doubled(play: Play, seed: int) -> None:
    chance = random.Random(seed)
    sent: list[int] = []

    def more() -> None:
        numbers = list(range(len(sent), len(sent) + chance.randint(1, 4)))
        sent.extend(numbers)
        play.inject(*numbers)

    def last() -> None:
        play.keeper.dies_at = 0
        more()

    for _ in range(30):
        with pytest.raises(Killed):
            play.run(*[more] * chance.randint(0, 4), last)
        if chance.random() < 0.5:
            more()  # while nobody listens but the chip
    play.run(lambda: None)
    assert sorted(play.keeper.frames) == sent
    assert play.keeper.account() == Account(heard=len(sent), spooled=len(sent))


@pytest.mark.parametrize("seed", range(20))
def test_wherever_a_kill_falls_nothing_that_the_chip_received_is_lost_or_doubled(play: Play, seed: int) -> None:
    """The process dies behind any SPI message, also in the middle of its rescue, its start or its pop of a frame."""
    chance = random.Random(seed)
    sent: list[int] = []
    number = 0
    left = [0]

    def more() -> None:
        nonlocal number
        for _ in range(chance.randint(1, 4)):
            number += 1
            if play.bench.emulator.inject(air(number)).outcome == "fifo":
                sent.append(number)

    def count_down(_: bytes, answer: bytes) -> bytes:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return answer

    play.bench.bus.meddle = count_down
    for _ in range(60):
        left[0] = chance.choice((chance.randint(1, 60), chance.randint(1, 400), chance.randint(200, 800)))
        with suppress(Killed):
            play.run(*[more] * chance.randint(0, 6))
        if chance.random() < 0.5:
            more()  # while nobody listens but the chip
    left[0] = 0
    play.run(lambda: None)
    assert len(sent) > 50
    assert sorted(play.keeper.frames) == sent
    assert play.keeper.account() == Account(heard=len(sent), spooled=len(sent))


def test_after_a_reboot_what_lies_in_the_chips_memory_is_not_taken_for_new(play: Play) -> None:
    play.keeper.dies_at = 2
    with pytest.raises(Killed):
        play.run(lambda: play.inject(1, 2), lambda: play.inject(3))
    kept = Keeper()  # the journal was in memory; the frames are in the database, or delivered
    kept.begin_session(bytes(16))
    play.keeper = kept
    play.run(lambda: play.inject(4))
    assert kept.frames == [4]


def test_a_chip_that_is_not_there_is_tried_again_with_growing_pauses(play: Play) -> None:
    def absent() -> Receiver:
        raise BusError("no such device", op="open", where="/dev/spidev0.0", hint="switch SPI on", code="CG-SPI-003")

    radio = play.run(*[lambda: None] * 9, open_=absent)
    assert play.script.waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert max(play.script.waits) == LONGEST_PAUSE_S
    assert radio.status.failures == 10
    assert radio.status.detail == "open: /dev/spidev0.0: no such device; switch SPI on [CG-SPI-003]"
    assert play.keeper.sessions == []


def test_a_fault_is_said_once(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    def absent() -> Receiver:
        raise BusError("no such device", op="open", where="/dev/spidev0.0", hint="switch SPI on", code="CG-SPI-003")

    play.run(*[lambda: None] * 5, open_=absent)
    assert [record.getMessage().split()[0] for record in caplog.records if record.levelname == "ERROR"] == [
        "event=radio_fault"
    ]


def test_a_chip_that_resets_itself_is_started_again_and_nothing_more_is_lost(play: Play) -> None:
    def brown_out() -> None:
        play.bench.emulator.drive_reset(active=True)
        play.bench.emulator.drive_reset(active=False)

    second = [lambda: play.clock.sleep(2.0)]
    radio = play.run(
        lambda: play.inject(1), brown_out, *second, *second, *[lambda: None] * 5, lambda: play.inject(2), lambda: None
    )
    assert play.keeper.frames == [1, 2]
    assert radio.status.starts == 2
    assert radio.status.failures >= 1
    assert radio.status.detail == ""
    assert play.keeper.account().overrun >= 1


def test_a_bus_that_fails_costs_nothing_that_the_chip_still_has(play: Play) -> None:
    fail = threading.Event()

    def meddle(_: bytes, answer: bytes) -> bytes:
        if fail.is_set():
            fail.clear()
            raise BusError("cut", op="transfer", where="spi", hint="look", code="CG-SPI-008", retryable=True)
        return answer

    play.bench.bus.meddle = meddle

    def cut() -> None:
        play.inject(2, 3)
        fail.set()

    radio = play.run(lambda: play.inject(1), cut, *[lambda: None] * 3, lambda: play.inject(4), lambda: None)
    assert play.keeper.frames == [1, 2, 3, 4]
    assert (radio.status.starts, radio.status.failures) == (2, 1)
    assert play.opened == 2


def test_a_stall_that_the_mildest_repair_cures_costs_neither_session_nor_frame(play: Play) -> None:
    def stall() -> None:
        play.inject(2)
        play.bench.emulator.fault("stall", cure="reload")
        play.clock.sleep(6)

    def silence() -> None:
        play.clock.sleep(901)

    def again() -> None:
        play.inject(4)
        play.bench.emulator.fault("stall", cure="reload")
        play.clock.sleep(6)

    radio = play.run(
        lambda: play.inject(1), stall, silence, silence, lambda: play.inject(3), again, silence, *[lambda: None] * 6
    )
    # So soon the second time, it is reset.
    assert (radio.status.starts, radio.status.failures) == (2, 1)
    assert radio.status.repairs == {"reload": 1, "reset": 1}
    assert play.keeper.frames == [1, 2, 3, 4]
    assert [len(heard.frames) for heard in play.keeper.heard if heard.frames] == [1, 1, 1, 1]
    assert play.keeper.sessions[0].number == 1


def test_a_reception_that_stalls_without_a_word_is_noticed_and_cured(play: Play) -> None:
    def stall() -> None:
        play.inject(2)
        play.bench.emulator.fault("stall")

    wait = [lambda: play.clock.sleep(6.0), lambda: play.clock.sleep(901.0)]
    radio = play.run(lambda: play.inject(1), stall, *wait, *[lambda: None] * 3, lambda: play.inject(3), lambda: None)
    assert play.keeper.frames == [1, 2, 3]
    assert (radio.status.starts, radio.status.failures) == (2, 1)
    assert radio.status.repairs == {"reload": 1, "reset": 1}


def test_a_radio_that_falls_silent_for_longer_than_ever_is_restarted_once(play: Play) -> None:
    def hours(number: float) -> list[Step]:
        return [lambda: play.clock.sleep(60.0)] * round(60 * number)

    sent = [lambda number=number: play.inject(number) for number in range(120)]
    radio = play.run(*sent, *hours(1.5), lambda: play.inject(200), lambda: None)
    assert play.keeper.frames == [*range(120), 200]
    assert (radio.status.starts, radio.status.repairs) == (2, {"reset": 1})


def test_what_resets_do_not_cure_is_switched_off_and_on(play: Play) -> None:
    play.bench.emulator.fault("radio_missing")
    powered: list[bool] = []
    drive = play.bench.emulator.drive_power

    def record(*, active: bool) -> None:
        powered.append(active)
        drive(active=active)

    play.bench.emulator.drive_power = record  # type: ignore[method-assign]  # to see what the line is told
    radio = play.run(*[lambda: None] * 4, play.bench.emulator.clear_faults, lambda: play.inject(1), lambda: None)
    assert play.keeper.frames == [1]
    assert radio.status.repairs["reset"] == 2
    assert radio.status.repairs["power_cycle"] >= 1
    assert powered.count(False) == radio.status.repairs["power_cycle"]


def test_a_defect_does_not_end_the_thread(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Receiver:
        if play.opened == 0:
            play.opened += 1
            raise ZeroDivisionError("oops")
        return play.open()

    radio = play.run(lambda: None, lambda: play.inject(1), lambda: None, open_=broken)
    assert play.keeper.frames == [1]
    assert radio.status.failures == 1
    assert "CG-RAD-001" in caplog.text


def test_a_start_that_fails_does_not_use_up_a_session(play: Play) -> None:
    good = play.bench.bus

    def unplugged() -> Receiver:
        concentrator = play.open()
        if play.opened < 4:
            good.meddle = lambda frame, _: bytes(len(frame))
        else:
            good.meddle = None
        return concentrator

    radio = play.run(*[lambda: None] * 4, lambda: play.inject(1), lambda: None, open_=unplugged)
    assert radio.status.failures == 3
    assert play.keeper.sessions == [Session(BOOT, 1)]
    assert play.keeper.frames == [1]


def write(folder: Path, bus: str, extra: str = "") -> Path:
    path = folder / "gateway.toml"
    path.write_text(f'[concentrator]\nboard = "semtech_corecell_eu868"\nbus = "{bus}"\n{extra}')
    return path


def test_the_configured_emulator_is_opened_and_needs_no_firmware(tmp_path: Path) -> None:
    spi, control = tmp_path / "spi.sock", tmp_path / "control.sock"
    clock = HostTime()
    config = load(write(tmp_path, f"emulator:{spi}"))
    opener = concentrator_opener(config, clock)
    with pytest.raises(BusError):
        opener()
    with Server(Emulator(monotonic_ns=clock.monotonic_ns), spi, control):
        concentrator = opener()
        concentrator.start()
        assert concentrator.eui == bytes.fromhex("0016C001FF123456")
        concentrator.close()


def test_a_real_bus_needs_real_firmware(tmp_path: Path) -> None:
    config = load(write(tmp_path, "spi:/dev/spidev9.9", 'firmware_dir = "fw"\n'))
    with pytest.raises(FirmwareError, match=r"agc\.bin"):
        concentrator_opener(config, HostTime())


def test_what_was_heard_stands_in_the_spool_also_after_a_kill(play: Play, tmp_path: Path) -> None:
    def writer() -> SpoolWriter:
        return SpoolWriter(
            tmp_path / "spool.db",
            journal_folder=tmp_path / "run",
            destinations=[Destination("city", EVERYTHING.digest)],
            policy=Policy(batch_frames=100, batch_age_s=3600, quota_bytes=1 << 24),
            signer=Ed25519Signer.generate(),
            gateway_eui=bytes(8),
        )

    def killed() -> None:
        raise Killed

    first = writer()
    with pytest.raises(Killed):
        play.run(lambda: play.inject(1, 2), lambda: play.inject(3), killed, sink=first)
    first._abandon()  # the kernel does this for a dead process: it closes its files
    play.inject(4)
    with writer() as second:
        play.run(lambda: play.inject(5), sink=second)
        assert second.flush()
        with second.reader() as reader:
            kept = [stored.frame for stored in reader.frames()]
    assert [int.from_bytes(frame.phy_payload[1:5], "little") for frame in kept] == [1, 2, 3, 4, 5]
    assert len({frame.session.number for frame in kept}) == 3
