# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The metrics of the agent: each family is one row of `FAMILIES`, with where its values are in a report.

`docs/metrics.md` has the same table, for those who write queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, TypeAlias

from agent.batch.model import BUCKETS
from agent.local.remarks import Level, remarks

PREFIX: Final = "civigate_"

RADIO_STATES: Final = ("off", "starting", "receiving", "fault")
SPOOL_STATES: Final = (
    "ok",
    "full",
    "slow",
    "failing",
    "read-only",
    "missing",
    "unbalanced",
    "locked",
    "damaged",
    "stopped",
)
PHASES: Final = ("offline", "connecting", "online", "draining", "backoff", "refused")
GNSS_STATES: Final = ("absent", "silent", "no_fix", "fix")

Report: TypeAlias = Mapping[str, Any]
Labels: TypeAlias = Mapping[str, object]
Samples: TypeAlias = Iterable[tuple[Labels, float | None]]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    Attributes:
        name: without the prefix.
        kind: "gauge" or "counter".
        meaning: one sentence.
        labels: their names.
        samples: takes them out of a report.
    """

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...]
    samples: Callable[[Report], Samples]


def _at(*path: str) -> Callable[[Report], Samples]:
    """Return what takes one number out of a report; a missing part means that there is none."""

    def samples(said: Report) -> Samples:
        found: Any = said
        for step in path:
            found = found[step]
        yield {}, found

    return samples


def _scaled(factor: float, *path: str) -> Callable[[Report], Samples]:
    def samples(said: Report) -> Samples:
        for labels, value in _at(*path)(said):
            yield labels, None if value is None else value * factor

    return samples


def _present(*path: str) -> Callable[[Report], Samples]:
    """Return what tells whether something is there and not empty: 1 or 0."""

    def samples(said: Report) -> Samples:
        for labels, value in _at(*path)(said):
            yield labels, int(bool(value))

    return samples


def _state(states: Iterable[str], *path: str) -> Callable[[Report], Samples]:
    """Return what is 1 for the present state and 0 for all others."""

    def samples(said: Report) -> Samples:
        found: Any = said
        for step in path:
            found = found[step]
        for state in dict.fromkeys((*states, str(found))):
            yield {"state": state}, int(state == found)

    return samples


def _map(label: str, *path: str) -> Callable[[Report], Samples]:
    def samples(said: Report) -> Samples:
        found: Any = said
        for step in path:
            found = found[step]
        for name, value in found.items():
            yield {label: name}, value

    return samples


def _channels(key: str) -> Callable[[Report], Samples]:
    def samples(said: Report) -> Samples:
        for if_chain, one in said["radio"]["listened"]["channels"].items():
            yield {"if_chain": if_chain}, one[key]

    return samples


def _destinations(take: Callable[[Mapping[str, Any]], float | None]) -> Callable[[Report], Samples]:
    def samples(said: Report) -> Samples:
        for one in said["destinations"]:
            yield {"destination": one["destination"]}, take(one)

    return samples


def _accounts(take: Callable[[Mapping[str, Any]], float | None]) -> Callable[[Report], Samples]:
    def samples(said: Report) -> Samples:
        for one in said["accounts"]:
            yield {"destination": one["destination"]}, take(one)

    return samples


def _info(said: Report) -> Samples:
    gateway = said["gateway"]
    yield {"version": version("civigate"), "gateway": gateway["name"], "eui": gateway["eui"] or ""}, 1


def _frames(said: Report) -> Samples:
    for one in said["accounts"]:
        for bucket in (name for name in BUCKETS if name != "quarantined"):
            yield {"destination": one["destination"], "bucket": bucket}, one["account"][bucket]
        yield {"destination": one["destination"], "bucket": "delivered"}, one["delivered"]


def _receptions(said: Report) -> Iterator[tuple[Labels, float]]:
    for one in said["heard"]["hour"]:
        for fate in ("kept", "filtered", "bad_crc"):
            yield (
                {
                    "if_chain": one["if_chain"],
                    "frequency_hz": one["frequency_hz"],
                    "datarate": one["datarate"],
                    "fate": fate,
                },
                one[fate],
            )


def _phases(said: Report) -> Samples:
    for one in said["destinations"]:
        for phase in dict.fromkeys((*PHASES, one["phase"])):
            yield {"destination": one["destination"], "phase": phase}, int(phase == one["phase"])


def _counts(said: Report) -> Samples:
    for one in said["destinations"]:
        for name, count in one["counts"].items():
            yield {"destination": one["destination"], "event": name}, count


def _clock_error(said: Report) -> Samples:
    clock = said["clock"]
    if clock["error_us"] is not None:
        yield {"source": clock["source"] or ""}, clock["error_us"] / 1e6


def _remarks(said: Report) -> Samples:
    if not said:
        return
    found = [remark.level for remark in remarks(said)]
    for level in Level:
        yield {"level": level}, found.count(level)


_DESTINATION: Final = ("destination",)

FAMILIES: Final = (
    Family("info", "gauge", "Always 1; who this is.", ("version", "gateway", "eui"), _info),
    Family("uptime_seconds", "gauge", "Since the agent began.", (), _at("uptime_s")),
    Family("remarks", "gauge", "What `civigate status` finds to say, by level.", ("level",), _remarks),
    Family(
        "radio_state",
        "gauge",
        "1 for the state that the radio is in.",
        ("state",),
        _state(RADIO_STATES, "radio", "state"),
    ),
    Family("radio_starts_total", "counter", "Starts of the concentrator.", (), _at("radio", "starts")),
    Family("radio_failures_total", "counter", "Starts and runs of it that failed.", (), _at("radio", "failures")),
    Family(
        "radio_repairs_total", "counter", "What was done after failures.", ("step",), _map("step", "radio", "repairs")
    ),
    Family(
        "radio_packets_total", "counter", "Packets of all kinds, each transmission once.", (), _at("radio", "heard")
    ),
    Family("radio_lost_total", "counter", "Faults that may each have cost a frame.", (), _at("radio", "lost")),
    Family("radio_faults_total", "counter", "Damage in the receive FIFO.", ("kind",), _map("kind", "radio", "faults")),
    Family("channel_frames_total", "counter", "Frames heard by an IF chain.", ("if_chain",), _channels("frames")),
    Family("channel_bad_crc_total", "counter", "Of them damaged.", ("if_chain",), _channels("bad_crc")),
    Family("channel_rssi_dbm", "gauge", "Level during frames, smoothed.", ("if_chain",), _channels("rssi_dbm")),
    Family("channel_snr_db", "gauge", "Ratio to the noise, smoothed.", ("if_chain",), _channels("snr_db")),
    Family(
        "channel_noise_dbm",
        "gauge",
        "Level between transmissions, where an SX1261 measures it.",
        ("if_chain",),
        _channels("noise_dbm"),
    ),
    Family(
        "receptions_last_hour",
        "gauge",
        "Receptions of the last 50 to 60 minutes: kept, filtered, bad_crc.",
        ("if_chain", "frequency_hz", "datarate", "fate"),
        _receptions,
    ),
    Family(
        "frames_total",
        "counter",
        "Frames by bucket since the destination's stream began.",
        ("destination", "bucket"),
        _frames,
    ),
    Family(
        "waiting_frames",
        "gauge",
        "Frames that are to be delivered still.",
        _DESTINATION,
        _accounts(lambda one: one["waiting"]),
    ),
    Family(
        "quarantined_frames",
        "gauge",
        "Frames in batches that the platform refused.",
        _DESTINATION,
        _accounts(lambda one: one["account"]["quarantined"]),
    ),
    Family(
        "oldest_waiting_seconds",
        "gauge",
        "How long the oldest of them has waited, up to an hour too much; of an earlier boot at least so long.",
        _DESTINATION,
        _accounts(lambda one: one["oldest_s"]),
    ),
    Family(
        "spool_state",
        "gauge",
        "1 for the state that the spool is in.",
        ("state",),
        _state(SPOOL_STATES, "spool", "state"),
    ),
    Family("spool_used_bytes", "gauge", "Of its file in use.", (), _at("spool", "used_bytes")),
    Family(
        "spool_room_bytes", "gauge", "Left for frames, below the quota and on the disk.", (), _at("spool", "room_bytes")
    ),
    Family("spool_queued_frames", "gauge", "Frames not committed yet.", (), _at("spool", "queued_frames")),
    Family("spool_queued_seconds", "gauge", "How long the oldest of them has waited.", (), _at("spool", "oldest_s")),
    Family("spool_committed_frames_total", "counter", "Frames committed.", (), _at("spool", "committed_frames")),
    Family("spool_commits_total", "counter", "Commits.", (), _at("spool", "commits")),
    Family("spool_commit_failures_total", "counter", "Commits that the disk refused.", (), _at("spool", "failures")),
    Family("spool_slow_commits_total", "counter", "Commits that took more than 3 s.", (), _at("spool", "slow_commits")),
    Family(
        "spool_shed_frames_total",
        "counter",
        "Frames that found the queue full while the disk refused.",
        (),
        _at("spool", "shed_frames"),
    ),
    Family(
        "spool_journal_failures_total",
        "counter",
        "Records that found no room in runtime_dir.",
        (),
        _at("spool", "journal_failures"),
    ),
    Family("spool_crowded", "gauge", "1 while the disk has no room to spare.", (), _present("spool", "crowded")),
    Family("spool_sealing_blocked", "gauge", "1 while the key cannot sign.", (), _present("spool", "sealing")),
    Family("destination_phase", "gauge", "1 for the phase that the uplink is in.", ("destination", "phase"), _phases),
    Family(
        "destination_problem",
        "gauge",
        "1 while a failure of the link stands.",
        _DESTINATION,
        _destinations(lambda one: int(one["problem"] is not None)),
    ),
    Family(
        "destination_through_batches",
        "gauge",
        "Every batch up to this number is acknowledged.",
        _DESTINATION,
        _destinations(lambda one: one["through"]),
    ),
    Family(
        "destination_newest_batch",
        "gauge",
        "Number of the batch sealed last.",
        _DESTINATION,
        _destinations(lambda one: one["newest"]),
    ),
    Family(
        "destination_waiting_batches",
        "gauge",
        "Batches sealed, not sent.",
        _DESTINATION,
        _destinations(lambda one: one["waiting"]),
    ),
    Family(
        "destination_in_flight_batches",
        "gauge",
        "Batches sent, not answered.",
        _DESTINATION,
        _destinations(lambda one: one["in_flight"]),
    ),
    Family(
        "destination_answer_seconds",
        "gauge",
        "How long the platform's answers take.",
        _DESTINATION,
        _destinations(lambda one: one.get("answer_s")),
    ),
    Family(
        "destination_sent_bytes_total",
        "counter",
        "On its TCP connections, TLS included.",
        _DESTINATION,
        _destinations(lambda one: one["traffic"]["up_bytes"]),
    ),
    Family(
        "destination_received_bytes_total",
        "counter",
        "The other way.",
        _DESTINATION,
        _destinations(lambda one: one["traffic"]["down_bytes"]),
    ),
    Family(
        "destination_events_total",
        "counter",
        "sent, resent, receipts, failures and what was odd; see docs/status.md.",
        ("destination", "event"),
        _counts,
    ),
    Family(
        "clock_synchronised", "gauge", "1 while the kernel calls its clock so.", (), _present("clock", "synchronised")
    ),
    Family("clock_error_seconds", "gauge", "The true time is not farther away than this.", ("source",), _clock_error),
    Family(
        "gnss_state",
        "gauge",
        "1 for the state that the receiver is in.",
        ("state",),
        _state(GNSS_STATES, "gnss", "receiver", "state"),
    ),
    Family("gnss_satellites", "gauge", "In use.", (), _at("gnss", "receiver", "sight", "satellites")),
    Family(
        "gnss_time_age_seconds", "gauge", "Since the last pulse whose second is known.", (), _at("gnss", "time_age_s")
    ),
    Family("gnss_drift_ppb", "gauge", "How much too fast the concentrator's crystal is.", (), _at("gnss", "drift_ppb")),
    Family(
        "card_daily_bytes", "gauge", "Written to the card in a day by all programs.", (), _at("outlook", "daily_bytes")
    ),
    Family(
        "card_life_seconds",
        "gauge",
        "Until it is worn out at this rate.",
        (),
        _scaled(365.25 * 86_400, "outlook", "card_years"),
    ),
    Family("card_life_used_ratio", "gauge", "What an eMMC says of itself.", (), _at("outlook", "life_used")),
    Family(
        "buffer_seconds",
        "gauge",
        "How long frames find room while nothing is delivered.",
        (),
        _scaled(86_400, "outlook", "buffer_days"),
    ),
    Family("host_temperature_celsius", "gauge", "Of the processor.", (), _at("host", "temperature_celsius")),
    Family("process_resident_memory_bytes", "gauge", "Memory of the agent.", (), _at("host", "resident_bytes")),
    Family("process_cpu_seconds_total", "counter", "Processor time of the agent.", (), _at("host", "cpu_s")),
    Family("process_threads", "gauge", "Threads of the agent.", (), _at("host", "threads")),
)
"""In the order of the output; names do not change, new ones may come."""
