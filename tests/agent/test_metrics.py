# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Metrics as Prometheus reads them."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from agent import report
from agent.bearing import Reading
from agent.families import FAMILIES, GNSS_STATES, PHASES, PREFIX, RADIO_STATES, SPOOL_STATES
from agent.hostview import HostView
from agent.local.remarks import Level, exit_code, remarks
from agent.metrics import Textfile, render
from agent.radio import RadioState
from agent.spool.condition import WriterState
from agent.uplink.machine import Phase
from drivers.gnss.receiver import ReceiverState
from tests.agent.test_report import said as earlier

TABLE = Path(__file__).parents[2] / "docs" / "metrics.md"


def whole(**changes: object) -> dict[str, Any]:
    """Return a report with all its parts, read back as a reader does."""
    account = dict.fromkeys(("bad_crc", "filtered", "duplicate", "evicted", "expired", "quarantined", "overrun"), 1)
    made = earlier(
        uptime_s=100,
        gateway={"name": 'town "hall"\\\n', "eui": bytes(8)},
        destinations=[
            {
                "destination": "city",
                "phase": Phase.BACKOFF,
                "since_us": 1,
                "retry_at_us": None,
                "problem": "no route",
                "through": 6,
                "newest": 9,
                "waiting": 2,
                "in_flight": 1,
                "held": None,
                "traffic": {"up_bytes": 1000, "down_bytes": 10},
                "counts": {"sent": 7, "failures": 1},
            }
        ],
        accounts=[
            {
                "destination": "city",
                "account": account | {"heard": 10, "spooled": 7},
                "delivered": 3,
                "waiting": 4,
                "oldest_s": 12.5,
            }
        ],
        heard={
            "since_us": 0,
            "hour": [
                {
                    "if_chain": 2,
                    "frequency_hz": 868_500_000,
                    "modulation": "lora",
                    "datarate": 9,
                    "kept": 2,
                    "filtered": 3,
                    "bad_crc": 1,
                }
            ],
            "day": [],
        },
        clock=Reading(synchronised=True, utc_us=1, error_us=250_000, source="kernel"),
        host=HostView(44_000_000, 1.5, 9, 51.5),
        gnss=None,
    )
    read: dict[str, Any] = json.loads(report.as_text(made | changes))
    return read


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} twice"
            found[key] = sample.value
    return found


def test_prometheus_reads_what_the_report_says() -> None:
    found = samples(render(whole()))

    def value(name: str, **labels: str) -> float:
        return found[PREFIX + name, frozenset(labels.items())]

    assert value("frames_total", destination="city", bucket="heard") == 10
    assert value("frames_total", destination="city", bucket="delivered") == 3
    assert value("waiting_frames", destination="city") == 4
    assert value("oldest_waiting_seconds", destination="city") == 12.5
    assert value("destination_phase", destination="city", phase="backoff") == 1
    assert value("destination_phase", destination="city", phase="online") == 0
    assert value("destination_problem", destination="city") == 1
    assert value("destination_sent_bytes_total", destination="city") == 1000
    assert value("destination_events_total", destination="city", event="failures") == 1
    assert value("receptions_last_hour", if_chain="2", frequency_hz="868500000", datarate="9", fate="filtered") == 3
    assert value("clock_error_seconds", source="kernel") == 0.25
    assert value("radio_state", state="off") == 1
    assert value("spool_room_bytes") == 400_000_000
    assert value("host_temperature_celsius") == 51.5
    assert value("remarks", level="fault") == 1
    (info,) = [dict(labels) for name, labels in found if name == PREFIX + "info"]
    assert info["gateway"] == 'town "hall"\\\n'
    assert not [name for name, _ in found if "gnss" in name]


def test_types_and_names_are_those_that_prometheus_wants() -> None:
    families = list(text_string_to_metric_families(render(whole())))
    known = {PREFIX + family.name: family for family in FAMILIES}
    assert len(known) == len(FAMILIES)
    for family in families:
        row = known.get(family.name) or known[family.name + "_total"]
        assert family.type == row.kind
        assert family.documentation == row.meaning
        for sample in family.samples:
            assert set(sample.labels) == set(row.labels)
    for row in FAMILIES:
        assert row.name.endswith("_total") == (row.kind == "counter"), row.name


def test_every_state_of_the_program_has_its_row() -> None:
    assert set(RADIO_STATES) == {state.value for state in RadioState}
    assert set(SPOOL_STATES) == {state.value for state in WriterState}
    assert set(PHASES) == {phase.value for phase in Phase}
    assert set(GNSS_STATES) == {state.value for state in ReceiverState}


def test_the_documented_metrics_are_those_that_there_are() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", TABLE.read_text(), flags=re.M)
    labels = {family.name: ", ".join(f"`{label}`" for label in family.labels) for family in FAMILIES}
    assert rows == [(PREFIX + row.name, row.kind, labels[row.name], row.meaning) for row in FAMILIES]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(whole())), JSON), st.sets(st.sampled_from(sorted(whole()))))
def test_a_report_of_another_release_does_no_harm(odd: dict[str, Any], missing: set[str]) -> None:
    said = {name: value for name, value in (whole() | odd).items() if name not in missing}
    samples(render(said))
    assert exit_code(remarks(said)) in {0, 1, 3, 4}


def test_nothing_is_known_in_the_first_seconds() -> None:
    assert samples(render({})) == {}


def test_the_text_file_is_whole_and_told_once_when_it_is_not_there(tmp_path: Path) -> None:
    told: list[str] = []
    path = tmp_path / "collector" / "civigate.prom"
    textfile = Textfile(path, told.append)
    textfile.renew(whole(), 0.0)
    textfile.renew(whole(), 16.0)
    assert len(told) == 1
    assert "CG-MET-001" in told[0]
    path.parent.mkdir()
    textfile.renew(whole(), 20.0)
    assert not path.exists()  # it is not time yet
    textfile.renew(whole(), 40.0)
    assert samples(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    textfile.end()
    assert list(path.parent.iterdir()) == []


def test_the_worst_comes_first_and_decides_the_exit_code() -> None:
    well = whole()["radio"] | {"state": "receiving"}
    radio = well | {"state": "fault", "detail": "no answer [CG-SPI-002]"}
    spool = whole()["spool"] | {"state": "damaged", "detail": "x"}
    for said, code, key in (
        (whole(), 1, "unreachable"),
        (whole(radio=radio), 3, "radio_fault"),
        (whole(radio=radio, spool=spool), 4, "spool_damaged"),
        (whole(radio=well, destinations=[]), 0, "no_destination"),
    ):
        found = remarks(said)
        assert exit_code(found) == code
        assert found[0].key == key
        assert found[0].level is (Level.FAULT if code else Level.NOTE)
