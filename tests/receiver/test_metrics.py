# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import re
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from receiver.intake import Intake
from receiver.ledger.sqlite import SqliteLedger
from receiver.metrics import FRESH_S, Broker, Metrics, Sources
from receiver.tally import Tally
from tests.receiver.gateway import Gateway
from tests.receiver.platform import LIMIT_S, Certificates, platform

OPERATION = Path(__file__).parents[2] / "docs" / "receiver-operation.md"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        self.now_s += FRESH_S
        return self.now_s


def families(metrics: Metrics) -> dict[str, Metric]:
    body, _ = metrics.text("")
    return {family.name: family for family in parse(body.decode())}


def values(metrics: Metrics, name: str) -> dict[str, float]:
    """Give the samples of a family by the values of their labels."""
    family = families(metrics)[f"civigate_receiver_{name}"]
    return {"".join(sample.labels.values()): sample.value for sample in family.samples if "_created" not in sample.name}


@pytest.fixture
def intake(ledger: SqliteLedger, gateway: Gateway) -> Intake:
    return Intake(ledger, gateway.signer)


@pytest.fixture
def metrics(ledger: SqliteLedger, intake: Intake) -> Metrics:
    return Metrics(Sources(intake.tally, ledger, broker=lambda: Broker(True, 2, 3)), Clock())


def test_what_became_of_batches_is_counted(metrics: Metrics, intake: Intake, gateway: Gateway) -> None:
    sent = gateway.wires(3, frames=4)
    for wire in (sent[0], sent[0], sent[2], b"garbage", Gateway(eui=b"\x11" * 8).wire()):
        intake.submit(wire, sender="here")
    assert values(metrics, "batches") == {"accepted": 2, "repeated": 1, "refused": 2}
    refusals = values(metrics, "refusals")
    assert {reason for reason, count in refusals.items() if count} == {"malformed", "unknown_key"}
    assert values(metrics, "frames") == {"": 8}
    assert values(metrics, "receipts") == {"": 3}
    assert values(metrics, "received_bytes")[""] > 3 * len(sent[0])
    verify = families(metrics)["civigate_receiver_verify_seconds"].samples
    assert next(sample.value for sample in verify if sample.name.endswith("_count")) == 5
    assert values(metrics, "streams_behind") == {"": 1}
    assert (values(metrics, "holes"), values(metrics, "missing_batches")) == ({"": 1}, {"": 1})
    assert values(metrics, "quarantine_batches") == {"": 1}
    assert values(metrics, "alarms") == {"unknown key": 1}
    assert abs(values(metrics, "gateway_last_batch_timestamp_seconds")[gateway.eui.hex()] - time.time()) < 3600
    assert values(metrics, "gateway_missing_batches") == {gateway.eui.hex(): 1}
    assert values(metrics, "broker_connected") == {"": 1}


def test_only_so_many_gateways_have_series_and_the_silent_ones_first(ledger: SqliteLedger, gateway: Gateway) -> None:
    now_us = 10**15

    def clock() -> int:
        nonlocal now_us
        now_us += 1_000_000
        return now_us

    intake = Intake(ledger, gateway.signer, utc_us=clock)
    masts = [Gateway(eui=bytes([number]) * 8, seed=bytes([number])) for number in range(5)]
    for mast in masts:
        ledger.add_key(mast.registration)
        intake.submit(mast.wire(), sender="here")
    bounded = Metrics(Sources(intake.tally, ledger, max_gateways=2), Clock())
    assert list(values(bounded, "gateway_missing_batches")) == [mast.eui.hex() for mast in masts[:2]]
    assert values(bounded, "gateways") == {"": 5}
    assert values(bounded, "gateways_unlabelled") == {"": 3}


def test_a_ledger_that_does_not_answer_shows_and_hides_nothing_else(ledger: SqliteLedger, tmp_path: Path) -> None:
    tally = Tally()
    tally.acknowledge()
    missing = type(ledger)(tmp_path / "other")
    missing.close()
    (tmp_path / "other" / "ledger.db").unlink()
    metrics = Metrics(Sources(tally, missing), Clock())
    assert values(metrics, "ledger_up") == {"": 0}
    assert values(metrics, "receipts") == {"": 1}
    assert "civigate_receiver_streams" not in families(metrics)


def test_the_ledger_is_not_asked_each_time(ledger: SqliteLedger, intake: Intake, gateway: Gateway) -> None:
    metrics = Metrics(Sources(intake.tally, ledger), lambda: 0.0)
    assert values(metrics, "streams") == {"": 0}
    intake.submit(gateway.wire(), sender="here")
    assert values(metrics, "streams") == {"": 0}


def test_a_running_receiver_gives_figures_to_whoever_has_the_token(tmp_path: Path, certificates: Certificates) -> None:
    (tmp_path / "token").write_text("0123456789abcdef0123\n")
    made = platform(tmp_path, certificates)
    made.toml.write_text(made.toml.read_text().replace("[api]", '[api]\ntoken_file = "token"\nmetrics = true'))
    gateway = Gateway()
    with made.serving(), httpx.Client(base_url=f"http://127.0.0.1:{made.api_port}", timeout=LIMIT_S) as reader:
        made.json("gateways", "add", gateway.eui.hex(), "--key", gateway.signer.public.text)
        with made.client() as client:
            assert client.post("/v1/batches", content=gateway.wire()).status_code == 200
            assert reader.get("/metrics").status_code == 401
            reader.headers["authorization"] = "Bearer 0123456789abcdef0123"
            given = reader.get("/metrics").raise_for_status()
            assert given.headers["content-type"].startswith("text/plain")
            assert 'civigate_receiver_batches_total{outcome="accepted"} 1.0' in given.text
            assert 'civigate_receiver_connections{listener="https"} 1.0' in given.text
            assert 'civigate_receiver_certificate_end_timestamp_seconds{use="https"}' in given.text
            newer = reader.get("/metrics", headers={"accept": "application/openmetrics-text"}).raise_for_status()
            found = parse_openmetrics(newer.text)  # type: ignore[no-untyped-call] # the library leaves it untyped
            assert "civigate_receiver_batches" in {family.name for family in found}


def test_without_being_asked_for_there_are_none(tmp_path: Path, certificates: Certificates) -> None:
    made = platform(tmp_path, certificates)
    with made.serving(), httpx.Client(base_url=f"http://127.0.0.1:{made.api_port}", timeout=LIMIT_S) as reader:
        assert reader.get("/metrics").status_code == 404


def test_every_figure_is_documented(metrics: Metrics, intake: Intake, gateway: Gateway) -> None:
    intake.submit(gateway.wire(), sender="here")
    given = {family.name for family in families(metrics).values() if family.name.startswith("civigate")}
    counters = {family.name for family in families(metrics).values() if family.type == "counter"}
    named = {f"{name}_total" if name in counters else name for name in given}
    documented = set(re.findall(r"^\| `(civigate_receiver_\w+)`", OPERATION.read_text(), re.MULTILINE))
    assert documented == named
