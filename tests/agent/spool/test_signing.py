# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A gateway changes its key: the real spool on one side, the real receiver on the other, a bad link in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch import keyplace
from agent.batch.keys import Ed25519Signer, ES256Signer, Signer
from agent.batch.model import Reason
from agent.spool.condition import WriterState
from agent.spool.signing import waiting_for
from agent.spool.writer import SpoolWriter, check
from receiver.evidence import report
from receiver.intake import Intake
from receiver.ledger.port import RegisteredKey
from receiver.ledger.sqlite import SqliteLedger
from tests.agent.batch.devices import SoftwareToken, SoftwareTpm
from tests.agent.spool.gateway import CITY, EUI, POLICY, WATER, frame, heard, wait_for

OLD, NEW = Ed25519Signer.generate(), ES256Signer.generate()


@dataclass
class Route:
    """A gateway's spool, and the platform of its destinations."""

    folder: Path
    names: tuple[str, ...] = ("city",)
    signer: Signer = OLD
    previous: Signer | None = None
    count: int = 0
    sent: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = SqliteLedger(self.folder / "platform")
        self.intake = Intake(self.ledger, Ed25519Signer.generate())
        self.register(OLD)
        self.open()

    def register(self, signer: Signer) -> None:
        self.ledger.add_key(RegisteredKey(EUI, "", signer.kid, signer.public.text, 1))

    def open(self) -> None:
        self.spool = SpoolWriter(
            self.folder / "spool.db",
            journal_folder=self.folder / "journal",
            destinations=[{"city": CITY, "water": WATER}[name] for name in self.names],
            policy=POLICY,
            signer=self.signer,
            previous=self.previous,
            gateway_eui=EUI,
            commit_window_s=0.0,
        )
        self.spool.start()

    def restart(self, signer: Signer | None = None, previous: Signer | None = None) -> None:
        """End the agent and start it with these keys."""
        self.spool.stop()
        if signer is not None:
            self.signer, self.previous = signer, previous
        self.open()

    def hear(self, count: int) -> None:
        routes = (1 << len(self.names)) - 1
        frames = [frame(self.count + index) for index in range(count)]
        assert self.spool.offer(heard(frames, [routes] * count, len(self.names)))
        self.count += count

    def flush(self) -> None:
        assert self.spool.flush(30.0)

    def seals(self) -> bool:
        """Flush, and say whether the key can sign."""
        self.flush()
        return not self.spool.status().sealing

    def brings(self, frames: int) -> bool:
        """Flush and deliver, and say whether so many frames are at the platform."""
        self.flush()
        return not self.deliver() and len(self.ledger.frames(0, 100)) == frames

    def deliver(self, *, answers: bool = True, order: int = 1, most: int = 1000) -> list[Reason]:
        """Bring what waits; give the answers to the spool, or lose them. Return the reasons of the refusals."""
        refused = []
        with self.spool.reader() as reader:
            for name in self.names:
                head = reader.head(name)
                batches = reader.unacknowledged(name, 0, 1 << 20)[::order][:most]
                # made before any is acknowledged: a receipt may cover those behind it
                for batch, wire in [(batch, reader.wire(batch)) for batch in batches]:
                    answer = self.intake.submit(wire, sender="test")
                    if answer.refusal is not None:
                        refused.append(answer.refusal.reason)
                        if answers:
                            self.spool.refusal(head.stream_id, batch.number, answer.refusal)
                    elif answers and answer.receipt is not None:
                        self.spool.receipt(answer.receipt)
        self.flush()
        return refused

    def waiting_for(self, signer: Signer) -> list[str]:
        with self.spool.reader() as reader:
            return waiting_for(reader.state(), signer.kid)

    def audit(self) -> None:
        """Every frame is at the platform, once for each destination, and everything adds up on both sides."""
        self.spool.stop()
        assert self.spool.status().state is WriterState.STOPPED
        assert check(self.folder / "spool.db") == []
        payloads = [row["phy_payload"] for row in self.ledger.frames(0, 1000)]
        expected = [frame(index).phy_payload.hex() for index in range(self.count)]
        assert sorted(map(str, payloads)) == sorted(expected * len(self.names))
        for summary in self.ledger.streams():
            found = report(self.ledger, summary)
            assert found.ok, found
        self.close()

    def close(self) -> None:
        """End both sides; more than once is all right."""
        if self.spool.status().state is not WriterState.STOPPED:
            self.spool.stop()
        self.ledger.close()

    def signed(self) -> list[bytes]:
        """Return the kids that signed the committed batches, in their order."""
        return [link.kid for summary in self.ledger.streams() for link in self.ledger.links(summary.stream_id)]


@pytest.fixture
def route(tmp_path: Path) -> Iterator[Route]:
    made = Route(tmp_path)
    yield made
    made.close()


def test_a_new_key_takes_over_once_the_platform_knows_it(route: Route) -> None:
    route.hear(3)
    route.flush()
    route.deliver()
    route.restart(NEW, OLD)
    assert route.waiting_for(NEW) == ["city"]
    route.hear(3)
    route.flush()
    assert route.deliver(answers=False) == []
    route.hear(3)
    route.flush()
    assert route.deliver(answers=False) == [], "the answer was lost: the old key goes on"
    route.restart()
    assert route.deliver() == []
    route.hear(3)
    route.flush()
    assert route.waiting_for(NEW) == ["city"]
    assert route.deliver() == []
    assert route.signed() == [OLD.kid] * 3 + [NEW.kid]
    assert route.waiting_for(NEW) == []
    route.restart(NEW)
    route.hear(3)
    route.flush()
    route.deliver()
    assert route.ledger.alarms() == []
    assert {key.kid: bool(key.replaced_us) for key in route.ledger.registry()} == {OLD.kid: True, NEW.kid: False}
    route.audit()


def test_a_key_that_changed_before_the_first_start_is_announced(tmp_path: Path) -> None:
    route = Route(tmp_path, signer=NEW, previous=OLD)
    for _ in range(2):
        route.hear(3)
        route.flush()
        assert route.deliver() == []
    assert route.signed() == [OLD.kid, NEW.kid]
    assert route.waiting_for(NEW) == []
    route.audit()


def test_destinations_change_over_one_by_one(tmp_path: Path) -> None:
    route = Route(tmp_path, ("city", "water"))
    route.hear(12)
    route.flush()
    route.restart(NEW, OLD)
    route.hear(12)
    route.flush()
    route.names = ("city",)
    assert route.deliver() == []
    route.names = ("city", "water")
    route.hear(5)
    route.flush()
    assert sorted(route.waiting_for(NEW)) == ["city", "water"]
    assert route.deliver() == [], "what the old key sealed for the other destination is taken"
    assert route.waiting_for(NEW) == ["water"]
    route.hear(5)
    route.flush()
    route.deliver()
    assert route.waiting_for(NEW) == []
    route.audit()


def test_frames_of_a_revoked_key_travel_again(route: Route) -> None:
    route.hear(13)
    route.flush()
    route.deliver()
    route.hear(25)
    route.flush()
    route.ledger.revoke(EUI, None, 1)
    assert set(route.deliver()) == {Reason.REVOKED_KEY}
    with route.spool.reader() as reader:
        assert reader.status().streams[0].hold_reason is Reason.REVOKED_KEY, "there is no other key: it waits"
    route.register(NEW)
    route.restart(NEW)
    route.hear(3)
    route.flush()
    assert Reason.REVOKED_KEY in route.deliver()
    route.deliver()
    assert route.deliver() == []
    with route.spool.reader() as reader:
        (stream,) = reader.status().streams
        assert (stream.hold_reason, stream.batches) == (None, 0)
    route.audit()


def test_a_key_that_nobody_announced_is_registered_by_hand(route: Route) -> None:
    route.hear(3)
    route.flush()
    route.deliver()
    route.restart(NEW)
    route.hear(3)
    route.flush()
    assert route.deliver() == [Reason.UNKNOWN_KEY]
    route.ledger.rotate_key(RegisteredKey(EUI, "", NEW.kid, NEW.public.text, 1))
    assert route.deliver() == []
    route.audit()


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.sampled_from(["hear", "flush", "crash", "deliver", "lose", "backwards", "one", "change"]), max_size=25)
)
def test_nothing_is_lost_whatever_happens_when(steps: list[str]) -> None:
    """Any order of events around the change: restarts, lost answers, batches that arrive backwards."""
    with TemporaryDirectory() as folder:
        route = Route(Path(folder))
        route.hear(2)
        for step in steps:
            match step:
                case "hear":
                    route.hear(4)
                case "flush":
                    route.flush()
                case "crash":
                    route.restart()
                case "deliver":
                    route.deliver()
                case "lose":
                    route.deliver(answers=False)
                case "backwards":
                    route.deliver(order=-1)
                case "one":
                    route.deliver(most=1)
                case "change" if route.signer is OLD:
                    route.restart(NEW, OLD)
                case "change" if not route.waiting_for(NEW):
                    route.restart(NEW)
        route.flush()
        route.deliver()
        assert route.deliver() == []
        assert route.ledger.alarms() == []
        route.audit()


def _wait_and_go_on(
    folder: Path, place: keyplace.KeyPlace, kid: bytes, pull: Callable[[], None], plug_in: Callable[[], None]
) -> None:
    """Pull the device out before the agent starts, and again while it runs."""
    pull()
    route = Route(folder, signer=keyplace.open_signer(place))
    route.hear(3)
    route.flush()
    status = route.spool.status()
    assert (status.state, status.committed_frames) == (WriterState.OK, 3), "frames are kept all the same"
    assert "CG-IDN-02" in status.sealing
    plug_in()
    public = keyplace.open_signer(place)
    assert public.kid == kid
    route.register(public)
    wait_for(route.seals, 60.0)
    assert route.brings(3)
    pull()
    route.hear(3)
    assert not route.seals()
    route.restart()
    plug_in()
    wait_for(lambda: route.brings(6), 60.0)
    route.audit()


def test_sealing_waits_for_a_token_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    token = SoftwareToken(tmp_path)
    token.known_here(monkeypatch)
    place = keyplace.parse_device(token.uri())
    public = keyplace.create(place).public
    _wait_and_go_on(tmp_path, place, public.kid, token.pull, token.plug_in)
    assert caplog.text.count("event=sealing_waits") <= 3
    assert token.PIN not in caplog.text


def test_sealing_waits_for_a_tpm_and_nothing_is_lost(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    tpm = SoftwareTpm(tmp_path_factory.mktemp("t"))
    tpm.start()
    try:
        place = keyplace.parse_device(f"tpm:0x81000001?tcti={tpm.tcti}")
        public = keyplace.create(place).public
        _wait_and_go_on(tmp_path, place, public.kid, tpm.stop, tpm.start)
    finally:
        tpm.stop()
