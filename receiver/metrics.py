# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What a monitoring system wants to know of a receiver, in the text format of Prometheus.

Nothing is counted here: the process counts in `receiver.tally`, the ledger knows the rest, and both are read when
somebody asks. Labels are bounded: only so many gateways have a series of their own, those first that were silent
longest.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder

from agent.batch.model import Reason
from agent.enrolment.certificate import chain_from_pem, validity
from agent.errors import AgentError
from receiver.errors import LedgerError
from receiver.ledger.port import AlarmRow, StreamPosition
from receiver.tally import Durations, Tally

PREFIX = "civigate_receiver"
FRESH_S = 5.0
"""What the ledger said is told again for so long, however often somebody asks."""
LIMITS = ("gateway", "strangers", "enrolment", "connections", "memory")
"""The limits at which something is held back."""
_SECOND_US = 1_000_000

_log = logging.getLogger(__name__)


class Watched(Protocol):
    """What is asked of the ledger."""

    def positions(self) -> list[StreamPosition]:
        """Say of all streams how far they are."""
        ...

    def alarms(self) -> list[AlarmRow]:
        """List the alarms."""
        ...

    def quarantined(self) -> tuple[int, int]:
        """Count what is in quarantine: batches, bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Broker:
    """The way over a broker.

    Attributes:
        connected: whether batches can come.
        dropped: batches that found no room; their gateways send them again.
        waiting: batches that wait to be verified.
    """

    connected: bool
    dropped: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the figures come from.

    Attributes:
        tally: of this process.
        ledger: asked at most once in `FRESH_S`.
        connections: open ones, by the name of the listener.
        certificates: PEM files by their use.
        gateways_end_us: when the first gateway's certificate ends that is in use; None where none is known.
        broker: None without one.
        max_gateways: series that a metric may have by gateway.
    """

    tally: Tally
    ledger: Watched
    connections: Callable[[], Mapping[str, int]] = dict
    certificates: Mapping[str, Path] = field(default_factory=dict)
    gateways_end_us: Callable[[], int | None] = lambda: None
    broker: Callable[[], Broker] | None = None
    max_gateways: int = 200


@dataclass(frozen=True, slots=True)
class _Known:
    """What the ledger said, and when."""

    at_s: float
    streams: list[StreamPosition]
    alarms: list[AlarmRow]
    quarantined: tuple[int, int]


class Metrics:
    """The figures of one receiver. Safe to use from several threads.

    Args:
        sources: where they come from.
        monotonic_s: clock.
    """

    def __init__(self, sources: Sources, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._sources = sources
        self._monotonic_s = monotonic_s
        self._known: _Known | None = None
        self._asking = threading.Lock()
        self._registry = CollectorRegistry()
        self._registry.register(_Collected(self._collect))
        ProcessCollector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Write the figures.

        Args:
            accept: what the asking side takes, as in its header of the same name.

        Returns:
            Body and content type.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def _collect(self) -> Iterator[Metric]:
        yield from _of_process(self._sources)
        known = self._ask()
        yield _gauge("ledger_up", "Whether the ledger could be read", 0 if known is None else 1)
        if known is not None:
            yield from _of_ledger(known, self._sources.max_gateways)
        yield _certificates(self._sources)

    def _ask(self) -> _Known | None:
        """Ask the ledger, or say what it said a moment ago; None while it does not answer."""
        with self._asking:
            now_s = self._monotonic_s()
            if self._known is not None and now_s - self._known.at_s < FRESH_S:
                return self._known
            self._known = None
            ledger = self._sources.ledger
            try:
                self._known = _Known(now_s, ledger.positions(), ledger.alarms(), ledger.quarantined())
            except LedgerError as error:
                _log.warning("event=metrics_failed error=%r hint=%r code=%s", str(error), error.hint, error.code)
            return self._known


class _Collected:
    """What prometheus_client calls a collector."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        """Give all figures."""
        return self._collect()

    def describe(self) -> Iterable[Metric]:
        """Give none: asking costs a look into the ledger, and nothing else is registered."""
        return ()


def _of_process(sources: Sources) -> Iterator[Metric]:
    tally = sources.tally
    batches = _counters("batches", "Batches answered, by outcome", ("outcome",))
    batches.add_metric(["accepted"], tally.accepted)
    batches.add_metric(["repeated"], tally.repeated)
    batches.add_metric(["refused"], tally.refused)
    yield batches
    refusals = _counters("refusals", "Batches refused, by reason", ("reason",))
    for reason in Reason:
        refusals.add_metric([reason.name.lower()], tally.refusals[reason])
    yield refusals
    yield _counter("frames", "Frames committed", tally.frames)
    yield _counter("received_bytes", "Bytes of the batches answered, as they came", tally.wire_bytes)
    yield _counter("receipts", "Receipts signed", tally.receipts)
    held_back = _counters("held_back", "Requests and batches turned away undecided, by limit", ("limit",))
    for limit in LIMITS:
        held_back.add_metric([limit], tally.held_back[limit])
    yield held_back
    yield _histogram("verify_seconds", "From the bytes to a verified batch, or its refusal", tally.verify)
    yield _histogram("commit_seconds", "From a verified batch to its commit", tally.commit)
    connections = _gauges("connections", "Open connections, by listener", ("listener",))
    for name, count in sources.connections().items():
        connections.add_metric([name], count)
    yield connections
    if sources.broker is not None:
        broker = sources.broker()
        yield _gauge("broker_connected", "Whether batches can come from the broker", broker.connected)
        yield _gauge("broker_waiting", "Batches of the broker that wait to be verified", broker.waiting)
        yield _counter("broker_dropped", "Batches of the broker that found no room", broker.dropped)


def _of_ledger(known: _Known, max_gateways: int) -> Iterator[Metric]:
    streams = known.streams
    behind = [stream for stream in streams if stream.missing]
    yield _gauge("streams", "Streams in the ledger", len(streams))
    yield _gauge("streams_behind", "Streams of which batches are missing", len(behind))
    yield _gauge("holes", "Ranges of batches that are missing", sum(len(stream.missing) for stream in behind))
    yield _gauge("missing_batches", "Batches that are missing", sum(map(_missing, behind)))
    yield _gauge("quarantine_batches", "Refused batches that are kept", known.quarantined[0])
    yield _gauge("quarantine_bytes", "Their size", known.quarantined[1])
    if streams:
        latest_us = max(stream.last_seen_us for stream in streams)
        yield _gauge("last_commit_timestamp_seconds", "When the latest batch was committed", latest_us / _SECOND_US)
    kinds = Counter(row.alarm.kind for row in known.alarms)
    latest: dict[str, int] = {}
    for row in known.alarms:
        latest[row.alarm.kind] = max(row.last_us, latest.get(row.alarm.kind, 0))
    alarms = _gauges("alarms", "Alarms that are kept, by kind", ("kind",))
    moments = _gauges("alarm_last_timestamp_seconds", "When the latest alarm was counted, by kind", ("kind",))
    for kind, count in sorted(kinds.items()):
        alarms.add_metric([kind], count)
        moments.add_metric([kind], latest[kind] / _SECOND_US)
    yield alarms
    yield moments
    yield from _of_gateways(streams, max_gateways)


def _of_gateways(streams: list[StreamPosition], max_gateways: int) -> Iterator[Metric]:
    last_us: dict[bytes, int] = {}
    missing: Counter[bytes] = Counter()
    for stream in streams:
        last_us[stream.eui] = max(stream.last_seen_us, last_us.get(stream.eui, 0))
        missing[stream.eui] += _missing(stream)
    shown = sorted(last_us, key=lambda eui: (last_us[eui], eui))[:max_gateways]
    seen = _gauges(
        "gateway_last_batch_timestamp_seconds", "When the gateway's latest batch was committed", ("gateway",)
    )
    holes = _gauges("gateway_missing_batches", "Batches of the gateway that are missing", ("gateway",))
    for eui in shown:
        seen.add_metric([eui.hex()], last_us[eui] / _SECOND_US)
        holes.add_metric([eui.hex()], missing[eui])
    yield _gauge("gateways", "Gateways that have delivered", len(last_us))
    yield _gauge("gateways_unlabelled", "Gateways without series of their own", len(last_us) - len(shown))
    yield seen
    yield holes


def _missing(stream: StreamPosition) -> int:
    return sum(last - first + 1 for first, last in stream.missing)


def _certificates(sources: Sources) -> Metric:
    ends = _gauges("certificate_end_timestamp_seconds", "When a certificate ends, by use", ("use",))
    for use, path in sources.certificates.items():
        # a file that was taken away shows by the series that is gone
        with contextlib.suppress(OSError, AgentError):
            first = chain_from_pem(path.read_bytes(), str(path))[0]
            ends.add_metric([use], validity(first).not_after_us / _SECOND_US)
    with contextlib.suppress(LedgerError):
        end_us = sources.gateways_end_us()
        if end_us is not None:
            ends.add_metric(["gateways"], end_us / _SECOND_US)
    return ends


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{PREFIX}_{name}", text, value)


def _counters(name: str, text: str, labels: tuple[str, ...]) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_{name}", text, labels=labels)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value)


def _gauges(name: str, text: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)


def _histogram(name: str, text: str, durations: Durations) -> Metric:
    classes, sum_s = durations.read()
    buckets = [("+Inf" if bound_s == float("inf") else str(bound_s), count) for bound_s, count in classes]
    return HistogramMetricFamily(f"{PREFIX}_{name}", text, buckets=buckets, sum_value=sum_s)
