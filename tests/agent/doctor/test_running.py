# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The right line for what a running agent says of itself; its concentrator is not touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent import report
from agent.batch.model import Account
from agent.clock import HostClock
from agent.config import digest, load
from agent.doctor import card, times
from agent.doctor import heard as hearing
from agent.doctor.context import gather
from agent.gnss import GnssStatus
from agent.radio import RadioState, RadioStatus
from agent.spool.condition import WriterState
from agent.spool.reader import HourStatus, SpoolStatus, StreamStatus
from agent.spool.store import Lock
from agent.wear import Outlook
from drivers.errors import DriverError
from drivers.gnss.receiver import ReceiverState, ReceiverStatus
from drivers.gnss.synchroniser import Tally
from drivers.gnss.timekeeping import Sight
from drivers.sx1302.statistics import ChannelStatistics, Listened
from tests.agent.doctor.scene import Scene, synchronised

Capsys = pytest.CaptureFixture[str]
EUI = bytes.fromhex("0016c001ff123456")
HEALTHY_CHANNELS = {chain: ChannelStatistics(200, 3, -97.0 - chain, 6.0, -117.0 + chain % 3) for chain in range(8)}
ALWAYS = {"platform": "CG-DOC-631", "spool": "CG-DOC-522"}
"""These gateways have no platform and, since the agent is only said to run, no spool."""


def now_us() -> int:
    return HostClock().boottime_us()


def radio() -> RadioStatus:
    return RadioStatus(
        RadioState.RECEIVING,
        eui=EUI,
        starts=1,
        heard=1600,
        last_heard_us=now_us() - 5_000_000,
        listened=Listened(HEALTHY_CHANNELS),
    )


def gnss() -> GnssStatus:
    sight = Sight(fix=True, dimensions=3, satellites=9, hdop=0.9, latitude_deg=51.5, longitude_deg=7.4, altitude_m=90)
    receiver = ReceiverStatus(ReceiverState.FIX, sight=sight, frames=100, marks=50, opened=1)
    return GnssStatus(receiver, True, Tally(), 0.7, 0.8, 1200, 4, False)


@pytest.fixture
def running(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Return a gateway whose agent says that all is well."""
    synchronised(monkeypatch)
    with Scene(folder) as scene:
        scene.tables["concentrator"] = (
            'bus = "spi:/dev/spidev0.0"\nsx1261 = "spi:/dev/spidev0.1"\nboard = "semtech_corecell_eu868"'
        )
        scene.tables["gnss"] = 'device = "/dev/serial0"'
        scene.says(radio=radio(), gnss=gnss())
        yield scene


def bad(scene: Scene, capsys: Capsys) -> dict[str, str]:
    """Return what is said beyond what the machine of the test lacks."""
    here = {"bus", "lines"}
    return {check: code for check, code in scene.look(capsys).bad().items() if check not in here}


def test_all_is_well(running: Scene, capsys: Capsys) -> None:
    look = running.look(capsys)
    for check in ("agent", "chip", "radios", "reception", "noise", "gnss", "pulse", "heard", "antenna"):
        assert look.one(check)["verdict"] == "ok", look.one(check)
    assert bad(running, capsys) == ALWAYS
    assert look.one("noise")["evidence"] == "-117 to -115 dBm on 8 channels"
    assert look.said["agent"] == "running"
    assert look.said["gateway"]["eui"] == EUI.hex()


@pytest.mark.parametrize(
    ("code", "check", "expected"),
    [
        ("CG-CHIP-001", "chip", "CG-DOC-303"),
        ("CG-CHIP-003", "reset", "CG-DOC-305"),
        ("CG-CHIP-007", "chip", "CG-DOC-311"),
        ("CG-GPIO-003", "reset", "CG-DOC-223"),
        ("CG-MCU-005", "reception", "CG-DOC-342"),
        ("CG-RADIO-003", "radios", "CG-DOC-321"),
        ("CG-SPI-003", "chip", "CG-DOC-202"),
        ("CG-SPI-008", "chip", "CG-DOC-208"),
        ("CG-USB-004", "chip", "CG-DOC-214"),
        ("CG-USB-001", "chip", "CG-DOC-211"),
        ("CG-NEW-001", "chip", "CG-DOC-019"),
    ],
)
def test_a_concentrator_that_fails(running: Scene, capsys: Capsys, code: str, check: str, expected: str) -> None:
    error = DriverError("reads 0x00; it does", op="start", where="VERSION", hint="press it down", code=code)
    detail = f"{error}; {error.hint} [{error.code}]"
    running.says(radio=replace(radio(), state=RadioState.FAULT, detail=detail, failures=7), gnss=gnss())
    look = running.look(capsys)
    finding = next(f for f in look.all(check) if f["verdict"] == "fail")
    assert finding["code"] == expected
    assert finding["evidence"] == f"start: VERSION: reads 0x00; it does [{code}]"
    if code == "CG-NEW-001":
        assert finding["next"] == "press it down"
    assert look.one("pulse")["verdict"] == "skipped"


@pytest.mark.parametrize(
    ("change", "check", "code"),
    [
        ({"failures": 3, "repairs": {"reset": 2, "power_cycle": 1}}, "reception", "CG-DOC-345"),
        ({"lost": 40, "faults": {"checksum": 30, "truncated": 10}}, "reception", "CG-DOC-346"),
        ({"lost": 2, "faults": {"full": 2}}, "reception", "CG-DOC-347"),
        ({"faults": {"temperature": 4}}, "temperature", "CG-DOC-352"),
    ],
)
def test_reception_that_suffers(
    running: Scene, capsys: Capsys, change: dict[str, object], check: str, code: str
) -> None:
    running.says(radio=replace(radio(), **change), gnss=gnss())  # type: ignore[arg-type]
    assert bad(running, capsys) == {**ALWAYS, check: code}


def test_one_fault_in_many_days_is_none(running: Scene, capsys: Capsys) -> None:
    one = replace(radio(), failures=1, repairs={"reset": 1}, lost=1, faults={"crc16": 1}, heard=90_000)
    running.says(radio=one, gnss=gnss(), uptime_s=30 * 86_400)
    assert bad(running, capsys) == ALWAYS


@pytest.mark.parametrize(
    "change",
    [
        {"lost": 1, "heard": 900, "faults": {"crc16": 1}},
        {"failures": 1, "repairs": {"reset": 1}},
        {"faults": {"full": 1}},
    ],
    ids=["one damaged frame", "one restart", "full once"],
)
def test_once_is_not_again_and_again(running: Scene, capsys: Capsys, change: dict[str, object]) -> None:
    running.says(radio=replace(radio(), **change), gnss=gnss(), uptime_s=3000)  # type: ignore[arg-type]
    assert running.look(capsys).one("reception")["verdict"] == "ok"


def test_frames_of_before_a_restart_are_not_of_its_first_minute(
    running: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    this = now_us() // 3_600_000_000
    hours = (HourStatus(HostClock().boot_id, this, Account(heard=5000, spooled=5000), 5000, 0),)
    stream = StreamStatus("city", bytes(16), True, 1, 1, Account(), 0, 0, 0, 0, 0, 0, hours, None, None, 0, 0)
    monkeypatch.setattr(hearing, "_spool", lambda _: SpoolStatus(bytes(16), EUI, 1, 1, 0, None, 9, (stream,)))
    running.says(radio=radio(), gnss=gnss(), uptime_s=65)
    gathered = gather(running.write(), HostClock(), may_start=False)
    before, own = hearing._hour(gathered, 12), hearing._hour(gathered, 6000)
    assert before is not None
    assert own is not None
    assert before.span_s == now_us() // 1_000_000 - max(0, this - 1) * 3600
    assert own.span_s == 65


def test_a_silent_stall(running: Scene, capsys: Capsys) -> None:
    quiet = replace(radio(), heard=0, last_heard_us=None, listened=Listened({}, {"suspicious_looks": 40}))
    running.says(radio=quiet, gnss=gnss(), uptime_s=7200)
    assert bad(running, capsys) == {**ALWAYS, "reception": "CG-DOC-348", "heard": "CG-DOC-711"}


def test_nothing_heard_and_the_noise_of_no_antenna(running: Scene, capsys: Capsys) -> None:
    alike = {chain: ChannelStatistics(noise_dbm=-120.0) for chain in range(8)}
    running.says(radio=replace(radio(), heard=0, last_heard_us=None, listened=Listened(alike)), gnss=gnss())
    look = running.look(capsys)
    assert look.one("heard")["code"] == "CG-DOC-713"
    assert "nothing for 24 hours" in look.one("heard")["evidence"]


def test_nothing_heard_any_more(running: Scene, capsys: Capsys) -> None:
    for heard, silent_s, code in (
        (1600, 600, None),
        (1600, 1000, "CG-DOC-711"),
        (1600, 3600, "CG-DOC-712"),
        (6, 3600, None),
        (30, 40_000, "CG-DOC-712"),
    ):
        last_us = now_us() - silent_s * 1_000_000
        running.says(radio=replace(radio(), heard=heard, last_heard_us=last_us), gnss=gnss())
        assert running.look(capsys).one("heard")["code"] == code, (heard, silent_s)


def test_silence_does_not_become_less_by_lasting_longer(running: Scene, capsys: Capsys) -> None:
    for silent_days in (3.9, 6.0):
        last_us = now_us() - round(silent_days * 86_400_000_000)
        uptime_s = round((4 + silent_days) * 86_400)
        running.says(radio=replace(radio(), heard=10_000, last_heard_us=last_us), gnss=gnss(), uptime_s=uptime_s)
        assert running.look(capsys).one("heard")["code"] == "CG-DOC-712", silent_days


@pytest.mark.parametrize(("heard", "uptime_s"), [(1, 1000), (19, 2100), (60, 1000)])
def test_a_press_on_the_sensor_at_the_start_is_no_rate(
    running: Scene, capsys: Capsys, heard: int, uptime_s: int
) -> None:
    last_us = now_us() - 960 * 1_000_000
    running.says(radio=replace(radio(), heard=heard, last_heard_us=last_us), gnss=gnss(), uptime_s=uptime_s)
    assert running.look(capsys).one("heard")["code"] == "CG-DOC-711"


def test_too_soon_to_tell(running: Scene, capsys: Capsys) -> None:
    fresh = replace(radio(), heard=0, last_heard_us=None, listened=Listened())
    running.says(radio=fresh, gnss=gnss(), uptime_s=60)
    look = running.look(capsys)
    assert look.one("heard")["verdict"] == "skipped"
    assert look.one("noise")["verdict"] == "skipped"


@pytest.mark.parametrize(
    ("channels", "code"),
    [
        ({chain: ChannelStatistics(30, 0, -118.0, -8.0, -117.0) for chain in range(8)}, "CG-DOC-714"),
        ({chain: ChannelStatistics(900, 0, -90.0, 8.0, -117.0) for chain in range(3)}, "CG-DOC-716"),
        ({chain: ChannelStatistics(30, 0, -90.0, 8.0, -117.0) for chain in range(3)}, None),
    ],
    ids=["weak on all", "one radio is deaf", "few frames on the first channels"],
)
def test_hints_at_the_antenna(
    running: Scene, capsys: Capsys, channels: dict[int, ChannelStatistics], code: str | None
) -> None:
    running.says(radio=replace(radio(), listened=Listened(channels)), gnss=gnss())
    assert running.look(capsys).one("antenna")["code"] == code


@pytest.mark.parametrize(
    ("rssi", "snr", "code", "word"),
    [(-112.0, -6.0, None, "about -113 dBm"), (-95.0, -3.0, "CG-DOC-372", "about -97 dBm"), (-60.0, 9.0, None, "no SX")],
    ids=["quiet", "loud", "too strong to tell"],
)
def test_noise_by_what_is_heard(
    running: Scene, capsys: Capsys, rssi: float, snr: float, code: str | None, word: str
) -> None:
    running.tables["concentrator"] = 'board = "semtech_corecell_eu868"'
    channels = {chain: ChannelStatistics(50, 0, rssi, snr) for chain in range(8)}
    running.says(radio=replace(radio(), listened=Listened(channels)), gnss=gnss())
    finding = running.look(capsys).one("noise")
    assert finding["code"] == code
    assert word in finding["evidence"]


@pytest.mark.parametrize(
    ("table", "lines", "code", "word"),
    [
        ("concentrator", 'board = "rak_2287"', "CG-DOC-017", "rak_2287"),
        ("spool", "quota_mb = 300", "CG-DOC-017", "other settings"),
        ("gateway", None, None, "runs for"),
    ],
)
def test_a_configuration_that_the_agent_has_not_read(
    running: Scene, capsys: Capsys, table: str, lines: str | None, code: str | None, word: str
) -> None:
    config = load(running.write())
    section = config.concentrator
    said = {"board": section.board, "plan": section.plan, "digest": digest(config)}
    running.says(radio=radio(), gnss=gnss(), config=said)
    if lines is not None:
        running.tables[table] = lines
    finding = running.look(capsys).all("agent")[-1]
    assert finding["code"] == code
    assert word in finding["evidence"]


def test_an_agent_that_has_said_nothing_yet(running: Scene, capsys: Capsys) -> None:
    (running.folder / "run" / report.FILE_NAME).unlink()
    lock = Lock(running.folder / "state/spool.db")
    try:
        look = running.look(capsys)
    finally:
        lock.release()
    assert look.one("agent")["code"] == "CG-DOC-013"
    assert look.one("chip")["verdict"] == "skipped"
    assert running.look(capsys).one("agent")["code"] == "CG-DOC-010"


@pytest.mark.parametrize(
    ("hours", "code"),
    [
        ((HourStatus(HostClock().boot_id, 0, Account(heard=9, spooled=9, evicted=4), 5, 0),), "CG-DOC-528"),
        ((HourStatus(bytes(16), 0, Account(heard=9, spooled=9, evicted=4), 5, 0),), ""),
        ((HourStatus(HostClock().boot_id, -400, Account(heard=9, spooled=9, evicted=4), 5, 0),), ""),
    ],
    ids=["just now", "before this boot", "weeks ago"],
)
def test_frames_that_were_given_up(running: Scene, hours: tuple[HourStatus, ...], code: str) -> None:
    total = Account(heard=9, spooled=9, evicted=4)
    stream = StreamStatus("city", bytes(16), True, 1, 1, total, 5, 0, 0, 0, 0, 0, hours, None, None, 0, 0)
    status = SpoolStatus(bytes(16), EUI, 1, 1, 0, None, 9, (stream,))
    gathered = gather(running.write(), HostClock(), may_start=False)
    (finding,) = card._account(gathered, status, None)
    assert finding.code == code
    assert "4 " in finding.evidence


def test_a_noisy_channel(running: Scene, capsys: Capsys) -> None:
    channels = HEALTHY_CHANNELS | {2: ChannelStatistics(200, 3, -97.0, 6.0, -93.0)}
    running.says(radio=replace(radio(), listened=Listened(channels)), gnss=gnss())
    look = running.look(capsys)
    assert look.one("noise")["code"] == "CG-DOC-371"
    assert "868.5 MHz -93 dBm" in look.one("noise")["evidence"]


@pytest.mark.parametrize(
    ("change", "check", "code"),
    [
        ({"pulse_age_s": 95.0}, "pulse", "CG-DOC-413"),
        ({"pulse_age_s": None, "time_age_s": None}, "pulse", "CG-DOC-411"),
        ({"settled": False, "time_age_s": None}, "pulse", "CG-DOC-414"),
        ({"disputed": True}, "pulse", "CG-DOC-415"),
        ({"drift_ppb": -20_000}, "pulse", "CG-DOC-381"),
        ({"receiver": ReceiverStatus(ReceiverState.NO_FIX)}, "gnss", "CG-DOC-403"),
        ({"receiver": ReceiverStatus(ReceiverState.SILENT)}, "gnss", "CG-DOC-402"),
        ({"receiver": ReceiverStatus(ReceiverState.ABSENT, "/dev/serial0: does not exist")}, "gnss", "CG-DOC-401"),
    ],
)
def test_a_receiver_or_pulse_that_fails(
    running: Scene,
    capsys: Capsys,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, object],
    check: str,
    code: str,
) -> None:
    monkeypatch.setattr(times, "FIRST_PULSE_S", 0.1)
    running.says(radio=radio(), gnss=replace(gnss(), **change))  # type: ignore[arg-type]
    assert bad(running, capsys) == {**ALWAYS, check: code}


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("full", "CG-DOC-525"),
        ("slow", "CG-DOC-527"),
        ("failing", "CG-DOC-526"),
        ("read-only", "CG-DOC-503"),
        ("missing", "CG-DOC-522"),
        ("unbalanced", "CG-DOC-524"),
        ("damaged", "CG-DOC-523"),
        ("locked", "CG-DOC-533"),
        ("stopped", "CG-DOC-534"),
        ("upside-down", "CG-DOC-535"),
    ],
)
def test_states_of_the_spool(running: Scene, capsys: Capsys, state: str, code: str) -> None:
    spool = {"state": state, "detail": "so it is", "sealing": "", "slow_commits": 0, "room_bytes": 0}
    running.says(radio=radio(), gnss=gnss(), spool=spool)
    first = running.look(capsys).all("spool")[0]
    assert (first["code"], first["evidence"]) == (code, f"{state}: so it is")


def test_every_state_of_the_writer_is_judged() -> None:
    assert set(card._STATES) | {"ok"} == {state.value for state in WriterState}


@pytest.mark.parametrize(
    ("counted", "code", "word"),
    [
        ({"shed_frames": 12}, "CG-DOC-536", "12 frames"),
        ({"journal_failures": 2}, "CG-DOC-537", "2 notes"),
        ({"crowded": True}, "CG-DOC-502", "no room to spare"),
        ({"shed_frames": 0, "journal_failures": 0, "crowded": False}, "CG-DOC-522", "is not there"),
    ],
)
def test_what_the_writer_counts(
    running: Scene, capsys: Capsys, counted: dict[str, object], code: str, word: str
) -> None:
    spool = {"state": "ok", "detail": "", "sealing": "", "slow_commits": 0, "room_bytes": 10**9}
    running.says(radio=radio(), gnss=gnss(), spool=spool | counted)
    first = running.look(capsys).all("spool")[0]
    assert first["code"] == code
    assert word in first["evidence"]


def test_a_key_that_cannot_sign_and_a_slow_card(running: Scene, capsys: Capsys) -> None:
    spool = {"state": "ok", "detail": "", "sealing": "PIN wrong", "slow_commits": 3, "longest_commit_s": 7.25}
    running.says(radio=radio(), gnss=gnss(), spool=spool)
    found = running.look(capsys).all("spool")
    assert [finding["code"] for finding in found[:2]] == ["CG-DOC-531", "CG-DOC-508"]
    assert "the longest 7.2 s" in found[1]["evidence"]


@pytest.mark.parametrize(
    ("outlook", "word"),
    [(Outlook("mmcblk0", 4e10, None, None, 0.3), "110 days"), (Outlook("mmcblk0", 1e9, None, 0.9, 5.0), "90%")],
)
def test_a_worn_card(running: Scene, capsys: Capsys, outlook: Outlook, word: str) -> None:
    running.says(radio=radio(), gnss=gnss(), outlook=outlook)
    finding = running.look(capsys).one("card")
    assert finding["code"] == "CG-DOC-507"
    assert word in finding["evidence"]


def test_an_agent_that_hangs(running: Scene, capsys: Capsys) -> None:
    running.says(boottime_us=now_us() - 90_000_000)
    look = running.look(capsys)
    assert look.one("agent")["code"] == "CG-DOC-012"
    assert look.one("chip")["verdict"] == "skipped"


def test_an_agent_that_died(running: Scene, capsys: Capsys) -> None:
    running.says(pid=2**22 + 1)
    assert running.look(capsys).one("agent")["code"] == "CG-DOC-011"


def test_a_report_of_an_earlier_boot_is_no_agent(running: Scene, capsys: Capsys) -> None:
    running.says(boot_id=bytes(16))
    assert running.look(capsys).one("agent")["code"] == "CG-DOC-010"


def test_a_report_that_is_garbage(running: Scene, capsys: Capsys) -> None:
    (running.folder / "run" / report.FILE_NAME).write_text("{")
    assert running.look(capsys).one("agent")["code"] in {"CG-DOC-010", "CG-DOC-013"}


def test_a_report_with_parts_that_nobody_knows_is_no_crash_of_the_rest(running: Scene, capsys: Capsys) -> None:
    running.says(radio={"state": "receiving", "heard": "many"}, gnss={"receiver": 7})
    look = running.look(capsys)
    assert look.one("agent")["verdict"] == "ok"
    assert {f["code"] for f in look.all("chip") + look.all("gnss")} >= {"CG-DOC-015"}
    assert look.one("disk")["verdict"] == "ok"
