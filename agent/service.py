# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The service: a thread owns the radio, one writes the spool, one per destination sends; this starts and ends them.

They share nothing but the spool and bounded queues. Data flows one way, and so does the end: first the radio stops
hearing, then the spool commits and seals what was heard, then the senders bring what the link allows.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from agent import hostview, identity, report
from agent.bearing import Bearing
from agent.clock import HostClock
from agent.config import Destination, GatewayConfig, digest
from agent.enrolment.enrolling import folder_of, sets_of
from agent.enrolment.renewal import Renewals
from agent.errors import AgentError, SpoolError
from agent.filter import Filter
from agent.hardware import concentrator_opener
from agent.local.answers import Answers
from agent.local.desk import Desk
from agent.local.server import Door, Server, SocketDoor
from agent.notify import Notifier
from agent.radio import Radio
from agent.radiohealth import RadioHealth
from agent.rescue import LookNote
from agent.spool import orders
from agent.spool.condition import WriterState
from agent.spool.signing import Keys
from agent.spool.source import Outlet
from agent.spool.writer import SpoolWriter
from agent.trusted_time import TrustedTime
from agent.uplink.alternatives import Alternatives
from agent.uplink.carried import RETRY, SEAL, Inbox
from agent.uplink.endpoint import Endpoint, open_uplink
from agent.uplink.machine import LINKED, Phase
from agent.uplink.pace import Pace
from agent.uplink.sender import Sender
from agent.uplink.verifier import Verifier
from agent.watchdog import ORDINARY_S, Watchdog
from agent.wear import Card, Forecast

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.batch.model import Anchor
    from agent.gnss import Gnss
    from agent.metrics import Textfile

logger = logging.getLogger(__name__)

ANCHOR_INTERVAL_S = 300.0
"""How often the kernel is asked whether it knows the time, and how well."""
ANCHOR_HASTE_S = 10.0
"""The same, as long as it does not know."""
HOPEFUL = LINKED | {Phase.CONNECTING}
"""Phases of a sender that may bring something within moments; an agent may be told to end right after its start."""
DRAIN_LOOK_S = 0.5
DRAIN_S = 10.0
"""How long a clean end waits for the platform; what is left then travels after the next start."""
RADIO_STOP_S = 10.0
SENDER_STOP_S = 5.0
"""How long the radio, and then all senders together, may take to end once they are told to."""
REPORT_STOP_S = 2.0
LOCAL_STOP_S = 1.0
"""How long those who look on may take to be sent away."""
RENEWAL_STOP_S = 1.0
"""How long a conversation about a certificate may take to end; what is lost of it is repeated."""
MIB = 1 << 20


class Service:
    """A running gateway.

    Args:
        config: checked.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._clock = HostClock()
        self._stop = threading.Event()
        self._watchdog = Watchdog(Notifier())
        self._main = self._watchdog.pulse("main")
        names = [destination.name for destination in config.destination]
        self._sets = {name: sets_of(config, name) for name in names}
        self._times = {name: TrustedTime(folder_of(config, name), self._clock) for name in names}
        self._renewals: Renewals | None = None
        self._eui_known = threading.Event()
        self._eui: bytes | None = None
        self._radio: Radio | None = None
        self._radio_health = RadioHealth()
        self._senders: list[Sender] = []
        self._gnss: Gnss | None = None
        self._began_us = self._clock.boottime_us()
        self._desk = Desk(self._clock.boottime_us)
        self._bearing = Bearing(self._clock)

    def run(self, stop: threading.Event) -> None:
        """Receive, keep and deliver until `stop` is set.

        Raises:
            AgentError: key, spool, journal, or a destination's files cannot be used.
            DriverError: board, plan or firmware cannot be used. A concentrator that fails is no error: it is tried
                again and again.
        """
        self._stop = stop
        _make_folder(self._config)
        keys = identity.keys(self._config)
        open_concentrator = concentrator_opener(self._config, self._clock)
        filters = [Filter(destination.filter) for destination in self._config.destination]
        with self._watchdog, self._open_spool(keys, filters) as writer:
            logger.info("event=started gateway=%s destinations=%d", self._config.gateway.name, len(filters))
            if not filters:
                logger.warning("event=no_destination what=frames are counted by nobody; add a [[destination]]")
            if (eui := writer.gateway_eui) is not None:
                self._identified(eui)
            self._gnss = self._start_gnss(writer)
            self._radio = radio = Radio(
                open_concentrator,
                writer,
                filters,
                self._clock,
                stop,
                poll_interval_s=self._config.concentrator.poll_interval_ms / 1000,
                on_eui=partial(self._learn_eui, writer),
                pulses=self._gnss,
                beat=self._watchdog.pulse("radio").beat,
                on_heard=self._desk.take,
                note=LookNote(self._config.gateway.runtime_dir, self._clock.boot_id),
            )
            ear = threading.Thread(target=radio.run, name="radio", daemon=True)
            ear.start()
            ended = threading.Event()
            voice = threading.Thread(target=self._report, args=(writer, ended), name="report", daemon=True)
            voice.start()
            threading.Thread(target=self._inbox(writer).run, args=(ended,), name="receipts", daemon=True).start()
            local = self._local()
            local.start()
            self._watchdog.ready()
            try:
                self._senders = self._start_senders(writer, keys)
                self._supervise(writer)
            finally:
                self._watchdog.stopping()
                stop.set()
                ear.join(RADIO_STOP_S)
                writer.flush(DRAIN_S)
                self._end(self._senders)
                if self._renewals is not None:
                    self._renewals.stop(RENEWAL_STOP_S)
                local.stop(LOCAL_STOP_S)
                ended.set()
                voice.join(REPORT_STOP_S)
        logger.info("event=ended")

    def _start_gnss(self, writer: SpoolWriter) -> Gnss | None:
        """Start to listen to the GNSS receiver, if there is one; the thread ends with the service."""
        section = self._config.gnss
        if section.device is None:
            return None
        # Its parsers take memory that a gateway without a receiver keeps for itself.
        try:
            from agent.gnss import Gnss  # noqa: PLC0415
            from drivers.linux.tty import TtyPort  # noqa: PLC0415
        except ModuleNotFoundError as error:
            # no distribution has its parsers; the frames are worth more than their exact time
            logger.error(  # noqa: TRY400 - a missing package is no defect whose trace tells more
                "event=no_gnss device=%s missing=%s hint=install it (pip install --break-system-packages pynmeagps "
                "pyubx2, see packaging/README.md), then restart; until then times are those of the host's clock",
                section.device,
                error.name,
            )
            return None

        gnss = Gnss(
            partial(TtyPort, str(section.device)),
            self._clock,
            self._stop,
            on_anchor=partial(self._learn_anchor, writer),
            baud=section.baud,
            delay_ns=section.pulse_delay_ns,
        )
        threading.Thread(target=gnss.run, name="gnss", daemon=True).start()
        return gnss

    def _learn_anchor(self, writer: SpoolWriter, anchor: Anchor) -> None:
        self._bearing.learn(anchor)
        writer.anchor(anchor)

    def _local(self) -> Server:
        """Return who shows the gateway to those beside it."""
        gateway = self._config.gateway
        answers = Answers(self._desk.feed, gateway.runtime_dir, self._clock.boottime_us)
        doors: list[Door] = [SocketDoor(gateway.runtime_dir, answers)]
        if self._config.web.listen is not None:
            # A gateway without the page keeps the memory for itself.
            from agent.local.web import WebDoor  # noqa: PLC0415

            doors.append(WebDoor(self._config.web, answers))
        return Server(answers, doors)

    def _open_spool(self, keys: Keys, filters: list[Filter]) -> SpoolWriter:
        section = self._config.spool
        return SpoolWriter(
            self._config.spool_path,
            journal_folder=self._config.gateway.runtime_dir,
            destinations=[
                orders.Destination(destination.name, chosen.digest, destination.quota_share)
                for destination, chosen in zip(self._config.destination, filters, strict=True)
            ],
            policy=orders.Policy(
                section.batch_frames,
                section.batch_age_s,
                section.quota_mb * MIB,
                section.expire_days * 24 or None,
            ),
            signer=keys.current,
            previous=keys.previous,
            gateway_eui=self._config.gateway.eui,
            health=self._health,
            commit_window_s=section.commit_window_s,
            commit_frames=section.commit_frames,
            daily_bytes=self._config.card.daily_bytes,
            beat=self._watchdog.pulse("spool").beat,
        )

    def _health(self) -> dict[str, int]:
        """Return the health record of a batch; called by the spool's thread when it seals one."""
        record = {"uptime_s": (self._clock.boottime_us() - self._began_us) // 1_000_000}
        if self._radio is not None:
            record |= self._radio_health.record(self._radio.status, self._clock.boottime_us())
        if self._gnss is not None:
            record |= self._gnss.health()
        return record

    def _learn_eui(self, writer: SpoolWriter, chip_eui: bytes) -> None:
        """Take the chip's EUI as the gateway's, unless the configuration has one; called by the radio's thread."""
        if self._config.gateway.eui is None:
            writer.identify(chip_eui)
            self._identified(chip_eui)

    def _identified(self, eui: bytes) -> None:
        self._eui = eui
        self._eui_known.set()

    def _start_senders(self, writer: SpoolWriter, keys: Keys) -> list[Sender]:
        """Start a sender for each destination, as soon as the gateway knows its own name."""
        while not self._eui_known.wait(1.0):
            self._main.beat()
            if self._stop.is_set():
                return []
        assert self._eui is not None
        senders = [self._sender(destination, writer, self._eui) for destination in self._config.destination]
        for sender in senders:
            sender.start()
        signers = [signer for signer in (keys.current, keys.previous) if signer is not None]
        self._renewals = Renewals(signers, self._eui, self._clock.boottime_us)
        for destination, sender in zip(self._config.destination, senders, strict=True):
            name = destination.name
            self._renewals.add(destination, self._sets[name], self._times[name], sender.sealed)
        self._renewals.start()
        return senders

    def _sender(self, destination: Destination, writer: SpoolWriter, eui: bytes) -> Sender:
        outlet = Outlet(writer, destination.name, self._bearing.learn)
        sets, trusted = self._sets[destination.name], self._times[destination.name]

        def endpoint(url: str) -> Endpoint:
            return Endpoint.of(destination, url, sets=sets, time=trusted)

        return Sender(
            destination.name,
            Alternatives([open_uplink(endpoint(url), eui, self._clock) for url in destination.urls]),
            open_source=outlet.open,
            sink=outlet,
            verify=Verifier(destination.receipt_keys, trusted, sets),
            clock=self._clock,
            window=destination.window,
            answer_timeout_s=destination.answer_timeout_s,
            sealed=writer.on_sealed(destination.name),
            pace=self._pace(destination),
            beat=self._watchdog.pulse(f"uplink-{destination.name}").beat,
        )

    def _inbox(self, writer: SpoolWriter) -> Inbox:
        """Return what takes receipts that are carried here."""

        def destination_of(stream_id: bytes) -> str:
            with writer.reader() as reader:
                return reader.head_of(stream_id).destination

        keys = {destination.name: destination.receipt_keys for destination in self._config.destination}
        requests: dict[str, Callable[[], object]] = {RETRY: self._retry, SEAL: writer.flush}
        return Inbox(self._config.gateway.runtime_dir, keys, destination_of, writer.receipt, requests)

    def _retry(self) -> None:
        """Let every sender that waits for its next try do it now."""
        for sender in self._senders:
            sender.retry()

    def _pace(self, destination: Destination) -> Pace | None:
        if not destination.rules.bind:
            return None
        usage = self._config.gateway.state_dir / "usage" / f"{destination.name}.json"
        return Pace(destination.rules, self._clock, usage)

    def _report(self, writer: SpoolWriter, ended: threading.Event) -> None:
        """Say how things are, until the end; the body of the thread "report". It never touches the card."""
        card = Card(self._config.spool_path.parent)
        forecast = Forecast(card, self._config.card.endurance_tb * 1e12)
        state = WriterState.OK
        section = self._config.concentrator
        settled = {"board": section.board, "plan": section.plan, "digest": digest(self._config)}

        def compose() -> dict[str, object]:
            nonlocal state
            now_us = self._clock.boottime_us()
            spool = writer.status()
            if spool.state is WriterState.SLOW and spool.state is not state:
                logger.warning("event=spool_slow detail=%s", spool.detail)
            state = spool.state
            return {
                "version": report.VERSION,
                "pid": os.getpid(),
                "boot_id": self._clock.boot_id,
                "boottime_us": now_us,
                "uptime_s": (now_us - self._began_us) // 1_000_000,
                "gateway": {"name": self._config.gateway.name, "eui": self._eui},
                "config": settled,
                "spool": {"path": writer.path, **asdict(spool)},
                "radio": None if self._radio is None else self._radio.status,
                "gnss": None if self._gnss is None else self._gnss.status,
                "destinations": [sender.status for sender in self._senders],
                "accounts": [
                    {
                        "destination": one.destination,
                        "account": one.account,
                        "delivered": one.delivered,
                        "waiting": one.waiting,
                        "oldest_s": one.oldest_s(self._clock.boot_id, now_us),
                    }
                    for one in writer.standings
                ],
                "heard": self._desk.heard(),
                "clock": self._bearing.now(),
                "host": hostview.look(),
                "outlook": forecast.look(now_us / 1e6, spool.frame_bytes, spool.room_bytes),
            }

        def tell(why: str) -> None:
            logger.warning("event=no_report problem=%s", why)

        reporter = report.Reporter(self._config.gateway.runtime_dir, compose, tell)
        textfile = self._textfile(tell)
        while not ended.is_set():
            said = reporter.renew()
            if said is not None:
                self._desk.feed.renew(said)
                if textfile is not None:
                    textfile.renew(said, self._clock.monotonic_ns() / 1e9)
            ended.wait(report.INTERVAL_S)
        reporter.end()
        if textfile is not None:
            textfile.end()

    def _textfile(self, tell: Callable[[str], None]) -> Textfile | None:
        """Return who writes metrics into a file, if that is wanted."""
        path = self._config.metrics.textfile
        if path is None:
            return None
        # As for the page: without it, its memory stays free.
        from agent.metrics import Textfile  # noqa: PLC0415

        return Textfile(path, tell)

    def _supervise(self, writer: SpoolWriter) -> None:
        """Feed the spool with clock anchors until the end."""
        while not self._stop.is_set():
            try:
                anchor = self._clock.anchor()
            except AgentError as error:
                logger.warning("event=clock_unknown problem=%s", error)
                anchor = None
            if anchor is not None:
                self._learn_anchor(writer, anchor)
                if self._gnss is not None:
                    self._gnss.compare(anchor)
            pause_s = ANCHOR_HASTE_S if anchor is None else ANCHOR_INTERVAL_S
            self._main.beat(pause_s + ORDINARY_S)
            self._stop.wait(pause_s)

    @staticmethod
    def _end(senders: list[Sender]) -> None:
        """Let those senders finish that may send, then end all at once."""
        deadline = time.monotonic() + DRAIN_S
        for sender in senders:
            if not _drained(sender, deadline):
                left = sender.status.waiting + sender.status.in_flight
                logger.info("event=not_drained destination=%s batches=%d", sender.name, left)
        for sender in senders:
            sender.stop(0.0)
        deadline = time.monotonic() + SENDER_STOP_S
        for sender in senders:
            sender.stop(max(0.0, deadline - time.monotonic()))


def _drained(sender: Sender, deadline: float) -> bool:
    """Wait until a sender has brought what there is; not longer than there is hope that the link allows it."""
    while sender.status.phase in HOPEFUL and sender.status.held is None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        if sender.drain(min(left_s, DRAIN_LOOK_S)):
            return True
    return False


def _make_folder(config: GatewayConfig) -> None:
    folder = config.spool_path.parent
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise SpoolError(
            f"the folder cannot be made: {error.strerror}",
            where=str(folder),
            hint="make it and give it to the user that runs civigate, or correct [gateway] state_dir",
            code="CG-SVC-001",
        ) from error
