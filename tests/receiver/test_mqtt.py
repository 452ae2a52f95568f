# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.batch.model import Reason, Receipt, Refusal
from agent.batch.receipt import open_answer
from receiver.mqtt import MqttConsumer
from receiver.service import Service
from tests.receiver.broker import Broker, Heard, Mast, broker, mast
from tests.receiver.gateway import Gateway
from tests.receiver.platform import Certificates, Platform, platform, until


@pytest.fixture
def running(tmp_path: Path, certificates: Certificates) -> Iterator[Broker]:
    with broker(tmp_path, certificates) as started:
        yield started


def receiver_of(at: Broker, folder: Path, version: str = "5", group: str | None = None) -> Platform:
    folder.mkdir()
    return platform(folder, at.certificates, extra=at.section(version, group))


def consumer(service: Service) -> MqttConsumer:
    assert service.mqtt is not None
    return service.mqtt


@contextmanager
def subscribed(made: Platform) -> Iterator[Service]:
    with made.serving() as service:
        until(consumer(service).subscribed.is_set)
        yield service


def register(made: Platform, gateway: Gateway) -> None:
    made.json("gateways", "add", gateway.eui.hex(), "--key", gateway.signer.public.text)


def receipt(made: Platform, message: Heard) -> Receipt:
    opened = open_answer(message.payload, made.resolve)
    assert isinstance(opened, Receipt)
    return opened


def through(made: Platform, at: Mast, number: int) -> None:
    """Wait for the receipt through a number; several batches may share one."""
    while receipt(made, at.answer()).through < number:
        pass


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_batches_bring_receipts_that_stay(version: str, running: Broker, tmp_path: Path) -> None:
    made = receiver_of(running, tmp_path / "r", version)
    gateway = Gateway()
    with subscribed(made):
        register(made, gateway)
        with mast(running, gateway.eui) as at:
            for wire in gateway.wires(5):
                at.publish(wire)
            through(made, at, 5)
            at.publish(gateway.wire(2))
            through(made, at, 6)
        with mast(running, gateway.eui) as later:
            kept = later.answer()
            assert kept.retain
            assert receipt(made, kept).through == 6


def test_a_refusal_is_told_and_does_not_hide_the_receipt(running: Broker, tmp_path: Path) -> None:
    made = receiver_of(running, tmp_path / "r")
    gateway = Gateway()
    with subscribed(made):
        register(made, gateway)
        with mast(running, gateway.eui) as at:
            at.publish(gateway.wire())
            through(made, at, 1)
            at.publish(b"garbage")
            refused = open_answer(at.answer().payload, made.resolve)
            assert isinstance(refused, Refusal)
            assert refused.reason is Reason.MALFORMED
        with mast(running, gateway.eui) as later:
            assert receipt(made, later.answer()).through == 1


def test_a_batch_on_the_topic_of_another_gateway_is_refused(running: Broker, tmp_path: Path) -> None:
    made = receiver_of(running, tmp_path / "r")
    gateway, other = Gateway(), bytes(7) + b"\1"
    with subscribed(made):
        register(made, gateway)
        with mast(running, other) as at:
            at.publish(gateway.wire(), topic_eui=other)
            refused = open_answer(at.answer().payload, made.resolve)
            assert isinstance(refused, Refusal)
            assert refused.reason is Reason.WRONG_GATEWAY


def test_a_broker_that_comes_late_or_goes_away_is_waited_for(certificates: Certificates, tmp_path: Path) -> None:
    at = Broker(tmp_path, certificates, 0)
    with broker(tmp_path, certificates) as reserved:
        at.port = reserved.port
    made = receiver_of(at, tmp_path / "r")
    gateway = Gateway()
    try:
        with made.serving() as service:
            register(made, gateway)
            at.start()
            until(consumer(service).subscribed.is_set)
            at.stop()
            until(lambda: not consumer(service).subscribed.is_set())
            at.start()
            until(consumer(service).subscribed.is_set)
            with mast(at, gateway.eui) as again:
                again.publish(gateway.wire())
                through(made, again, 1)
    finally:
        at.stop()


def test_what_comes_while_the_receiver_is_away_waits_for_it(running: Broker, tmp_path: Path) -> None:
    made = receiver_of(running, tmp_path / "r")
    gateway = Gateway()
    with subscribed(made):
        register(made, gateway)
    with mast(running, gateway.eui) as at:
        at.publish(gateway.wire())
        with subscribed(made):
            through(made, at, 1)


def test_two_receivers_share_the_work_of_one_broker(running: Broker, tmp_path: Path) -> None:
    """Each has a ledger of its own here; what is looked at is that the broker divides, and that none is taken twice."""
    first = receiver_of(running, tmp_path / "a", group="civigate")
    second = receiver_of(running, tmp_path / "b", group="civigate")
    gateway = Gateway()
    with subscribed(first) as one, subscribed(second) as two:
        register(first, gateway)
        register(second, gateway)
        with mast(running, gateway.eui) as at:
            for wire in gateway.wires(12):
                at.publish(wire)
            until(lambda: one.intake.tally.accepted + two.intake.tally.accepted == 12)
            assert 0 < one.intake.tally.accepted < 12


def test_a_killed_receiver_gets_the_unacknowledged_batch_again(running: Broker, tmp_path: Path) -> None:
    made = receiver_of(running, tmp_path / "r")
    gateway = Gateway()
    register(made, gateway)
    with mast(running, gateway.eui) as at:
        with made.process() as process:
            at.publish(gateway.wire())
            through(made, at, 1)
            process.kill()
            process.wait()
        for wire in gateway.wires(3):
            at.publish(wire)
        with made.process():
            through(made, at, 4)
    status = made.json("status")
    assert (status["ok"], status["frames"]) == (True, 12)
