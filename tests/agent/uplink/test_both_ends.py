# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The sender between a real spool and a real receiver."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.batch import keyfile, receipt
from agent.batch.keys import Ed25519Signer, PublicKey, Signer, ring
from agent.batch.model import Account
from agent.clock import HostClock
from agent.demo.configuration import Folders, https_receiver_toml, mqtt_receiver_toml
from agent.frame import CrcStatus, Frame, Modulation, Session
from agent.spool.intake import Heard, RoutedFrame, fingerprint
from agent.spool.orders import Destination, Policy
from agent.spool.signing import waiting_for
from agent.spool.source import Outlet
from agent.spool.writer import SpoolWriter
from agent.uplink.endpoint import Endpoint, open_uplink
from agent.uplink.sender import Sender
from receiver import config
from receiver.administration import administration
from receiver.service import Service
from tests.agent.uplink.scene import EUI, Broker, Pauses, Relay, Trust, free_port, until

FRAMES_EACH = 50
KEY = Ed25519Signer.generate()


class City:
    """A receiver in this process, with its ledger in a folder."""

    def __init__(self, folder: Path, trust: Trust, broker: Broker | None = None) -> None:
        folder.mkdir()
        folders = Folders(folder)
        self.port = free_port() if broker is None else broker.port
        if broker is None:
            text = https_receiver_toml(folders, port=self.port, authority=trust.authority, server=trust.server)
        else:
            client = trust.authority.client("receiver")
            text = mqtt_receiver_toml(folders, broker_port=self.port, authority=trust.authority, client=client)
        path = folder / "receiver.toml"
        path.write_text(text)
        self._config = config.load(path)
        self.data_dir = self._config.receiver.data_dir
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._config.identity.key_file.parent.mkdir(parents=True, exist_ok=True)
        self.public: PublicKey = keyfile.create(self._config.identity.key_file).public

    def register(self, key: PublicKey) -> None:
        with administration(self._config) as admin:
            admin.add_gateway(EUI, key, "town hall")

    def revoke(self, key: PublicKey) -> None:
        with administration(self._config) as admin:
            assert admin.revoke(EUI, key.kid) == 1

    def alarms(self) -> dict[str, int]:
        """Return how often what was told to the operator."""
        with contextlib.closing(sqlite3.connect(self.data_dir / "ledger.db")) as ledger:
            return dict(ledger.execute("SELECT kind, sum(count) FROM alarm GROUP BY kind"))

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        service = Service(self._config)
        with service.serving():
            yield

    def frames(self) -> list[bytes]:
        """Return the payloads in the ledger, in the order of the stream."""
        with contextlib.closing(sqlite3.connect(self.data_dir / "ledger.db")) as ledger:
            return [row[0] for row in ledger.execute("SELECT phy_payload FROM frame ORDER BY stream, seq")]


class Gateway:
    """A spool, and the sender that empties it."""

    def __init__(
        self,
        folder: Path,
        endpoint: Endpoint,
        platform: PublicKey,
        signer: Signer | None = None,
        previous: Signer | None = None,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.clock = HostClock()
        self.writer = SpoolWriter(
            folder / "spool.db",
            journal_folder=folder / "journal",
            destinations=[Destination("city", b"filter")],
            policy=Policy(batch_frames=FRAMES_EACH, batch_age_s=3600.0, quota_bytes=64 << 20),
            signer=signer or KEY,
            previous=previous,
            gateway_eui=EUI,
            commit_window_s=0.0,
        )
        self.writer.start()
        self._session = self.writer.begin_session(self.clock.boot_id)
        self._outlet = Outlet(self.writer, "city")
        self._endpoint = endpoint
        self._keys = ring(platform)
        self._count = 0
        self._closed = False
        self.payloads: list[bytes] = []
        self.sender: Sender

    def connect(self) -> None:
        self.sender = Sender(
            "city",
            open_uplink(self._endpoint, EUI, self.clock),
            open_source=self._outlet.open,
            sink=self._outlet,
            verify=lambda data: receipt.open_answer(data, self._keys),
            clock=self.clock,
            window=self._endpoint.window,
            answer_timeout_s=self._endpoint.answer_timeout_s,
            sealed=self.writer.on_sealed("city"),
            pause=Pauses(),
        )
        self.sender.start()

    def hear(self, frames: int) -> None:
        for _ in range(frames):
            frame = _frame(self._session, self._count, self.clock.boottime_us())
            self._count += 1
            self.payloads.append(frame.phy_payload)
            look = Heard(
                (RoutedFrame(frame, 1),),
                (Account(heard=1, spooled=1),),
                (fingerprint(frame.counter_us, frame.phy_payload),),
            )
            assert self.writer.offer(look)

    def deliver(self) -> None:
        """Wait until the platform has acknowledged everything that was heard."""
        assert self.writer.flush()
        assert self.sender.drain(15)

    def close(self) -> None:
        assert self.sender.stop()
        if not self._closed:
            self._closed = True
            assert self.writer.stop()


def _frame(session: Session, count: int, boottime_us: int) -> Frame:
    return Frame(
        session=session,
        boottime_us=boottime_us,
        counter_us=count * 1000,
        frequency_hz=868_100_000,
        modulation=Modulation.LORA,
        bandwidth_hz=125_000,
        datarate=7,
        coding_rate=1,
        crc=CrcStatus.OK,
        rssi_ddbm=-800,
        rssis_ddbm=-805,
        snr_qdb=30,
        frequency_offset_hz=120,
        if_chain=3,
        rf_chain=0,
        phy_payload=bytes([0x40]) + count.to_bytes(4, "little") * 5,
    )


@pytest.fixture
def broker(tmp_path: Path, trust: Trust) -> Iterator[Broker]:
    broker = Broker(
        tmp_path,
        f"cafile {trust.authority.certificate}",
        f"certfile {trust.server.certificate}",
        f"keyfile {trust.server.key}",
        "require_certificate true",
        "use_identity_as_username true",
        "allow_anonymous false",
    )
    yield broker
    broker.kill()


@pytest.mark.parametrize("scheme", ["https", "mqtts"])
def test_through_an_outage_everything_arrives_once_and_the_spool_empties(
    trust: Trust, tmp_path: Path, broker: Broker, scheme: str
) -> None:
    city = City(tmp_path / "city", trust, broker if scheme == "mqtts" else None)
    city.register(KEY.public)
    relay = Relay(city.port)
    endpoint = trust.endpoint(scheme, relay.port, answer_timeout_s=1.0, connect_timeout_s=1.0)
    gateway = Gateway(tmp_path / "gateway", endpoint, city.public)
    gateway.connect()
    try:
        with city.serving():
            gateway.hear(120)
            gateway.deliver()
            relay.silence()
            gateway.hear(230)
            assert gateway.writer.flush()
            until(lambda: gateway.sender.status.problem is not None)
            relay.resume()
            gateway.deliver()
            relay.reset()
        gateway.hear(70)
        assert gateway.writer.flush()
        with city.serving():
            gateway.deliver()
            relay.reset()
        assert city.frames() == gateway.payloads
        with gateway.writer.reader() as reader:
            until(lambda: not reader.status().frames)
            status = reader.status().streams[0]
            assert reader.anchors()
        assert status.delivered == len(gateway.payloads)
        assert status.through == status.newest == gateway.sender.status.through
    finally:
        gateway.close()
        relay.close()


def test_a_gateway_that_is_not_registered_waits_until_it_is(trust: Trust, tmp_path: Path) -> None:
    city = City(tmp_path / "city", trust)
    gateway = Gateway(tmp_path / "gateway", trust.endpoint("https", city.port), city.public)
    gateway.connect()
    try:
        with city.serving():
            gateway.hear(60)
            assert gateway.writer.flush()
            until(lambda: "UNKNOWN_KEY" in (gateway.sender.status.problem or ""))
            with gateway.writer.reader() as reader:
                until(lambda: reader.status().streams[0].hold_reason is not None)
            city.register(KEY.public)
            gateway.deliver()
            gateway.close()
        assert city.frames() == gateway.payloads
    finally:
        gateway.close()


def test_a_restored_card_begins_a_new_stream(trust: Trust, tmp_path: Path) -> None:
    """The spool is copied, goes on, and the copy comes back: seen on connecting, and nothing of it is held up."""
    city = City(tmp_path / "city", trust)
    city.register(KEY.public)
    endpoint = trust.endpoint("https", city.port)
    first = Gateway(tmp_path / "first", endpoint, city.public)
    first.connect()
    with city.serving():
        first.hear(FRAMES_EACH)
        first.deliver()
        with first.writer.reader() as reader:
            until(lambda: reader.status().streams[0].delivered == FRAMES_EACH)
        with contextlib.closing(sqlite3.connect(tmp_path / "first" / "spool.db")) as spool:
            (tmp_path / "second").mkdir()
            with contextlib.closing(sqlite3.connect(tmp_path / "second" / "spool.db")) as copy:
                spool.backup(copy)
        first.hear(FRAMES_EACH * 2)
        first.deliver()
        first.close()
        second = Gateway(tmp_path / "second", endpoint, city.public)
        second.hear(FRAMES_EACH * 4)  # batches 2 to 5 of the old stream, of which the platform has 2 and 3 otherwise
        assert second.writer.flush()
        second.connect()
        try:
            with second.writer.reader() as reader:
                until(lambda: len(reader.status().streams) == 2)
                until(lambda: second.sender.status.counts["contradictions"] >= 1)
                second.hear(FRAMES_EACH)
                second.deliver()
                until(lambda: city.frames()[-FRAMES_EACH:] == second.payloads[-FRAMES_EACH:])
                until(lambda: city.frames()[-3 * FRAMES_EACH :] == second.payloads[-3 * FRAMES_EACH :])
                until(lambda: second.sender.status.problem is None)
                until(lambda: reader.status().streams[-1].delivered == 3 * FRAMES_EACH)
                old, new = reader.status().streams
                assert not old.open
                assert new.quarantined == new.account.quarantined == 2 * FRAMES_EACH
                assert reader.check() == []
            assert city.alarms() == {"rollback": 1}
            # the device with the first card is switched on again: now there are two
            returned = Gateway(tmp_path / "first", endpoint, city.public)
            returned.connect()
            try:
                returned.hear(FRAMES_EACH)
                returned.deliver()
            finally:
                returned.close()
            assert city.alarms() == {"clone": 1, "rollback": 1}
        finally:
            second.close()


@pytest.mark.parametrize("revoked", [False, True])
def test_a_gateway_changes_its_key_on_the_way(trust: Trust, tmp_path: Path, revoked: bool) -> None:
    """With the receiver and the sender that are used; batches of the old key are waiting when the new one comes."""
    city = City(tmp_path / "city", trust)
    city.register(KEY.public)
    endpoint, following = trust.endpoint("https", city.port), Ed25519Signer.generate()
    gateway = Gateway(tmp_path / "gateway", endpoint, city.public)
    gateway.hear(FRAMES_EACH * 2)
    assert gateway.writer.flush()
    assert gateway.writer.stop()
    if revoked:
        city.revoke(KEY.public)
        city.register(following.public)
    changed = Gateway(tmp_path / "gateway", endpoint, city.public, following, None if revoked else KEY)
    changed.connect()
    try:
        with city.serving():
            changed.hear(FRAMES_EACH)
            changed.deliver()
            changed.hear(FRAMES_EACH)
            changed.deliver()
        payloads = gateway.payloads + changed.payloads
        assert sorted(city.frames()) == sorted(payloads)
        with changed.writer.reader() as reader:
            assert waiting_for(reader.state(), following.kid) == []
            assert reader.check() == []
        assert set(city.alarms()) == ({"revoked key"} if revoked else set())
    finally:
        changed.close()
