# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What readers ask for: some receptions, page by page; transmissions with all gateways that heard them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.batch import codec
from agent.batch.keys import Ed25519Signer
from agent.batch.model import Account, Anchor, Body, TimeSource
from receiver.api.app import reading_app
from receiver.intake import Intake
from receiver.ledger import search
from receiver.ledger.port import Found, Wanted, parse_dev_addr
from receiver.ledger.postgres import PostgresLedger
from receiver.ledger.writer import LedgerWriter
from tests.receiver.gateway import Gateway, frame, wire
from tests.receiver.postgres import stored

BOTH_ENGINES = True
EPOCH_US = 1_790_000_000_000_000
DEVICES = (0x26011BDA, 0x26011BDB, 0x27000001)
SECOND_US = 1_000_000
SCHEMA = Path(__file__).parents[2] / "docs" / "receiver-schema.md"


def payload(device: int | None, counter: int) -> bytes:
    if device is None:
        return b"\x00" + counter.to_bytes(22, "little")  # a join request
    return b"\x40" + device.to_bytes(4, "little") + b"\x00" + counter.to_bytes(2, "little") + b"\x01data" + bytes(4)


class Mast:
    """A gateway whose clock is known, and that hears what the test says."""

    def __init__(self, ledger: LedgerWriter, number: int, *, known: bool = True, error_us: int = 1000) -> None:
        self.eui = bytes([number]) * 8
        self.boot_id = bytes([number]) * 16
        self.gateway = Gateway(eui=self.eui, seed=self.eui, signer=Ed25519Signer.generate())
        ledger.add_key(self.gateway.registration)
        self.intake = Intake(ledger, self.gateway.signer)
        anchor = Anchor(self.boot_id, 0, EPOCH_US, error_us, TimeSource.GNSS)
        self.anchors = (anchor,) if known else ()

    def hears(self, *heard: tuple[int, bytes, int]) -> None:
        """Deliver a batch of frames: seconds since the boot, payload, channel."""
        members = tuple(
            replace(
                frame(1, boot_id=self.boot_id, payload=content, boottime_us=round(at_s * SECOND_US)),
                frequency_hz=868_100_000 + 200_000 * channel,
            )
            for at_s, content, channel in heard
        )
        gateway = self.gateway
        account = Account(heard=len(members), spooled=len(members))
        sealed = codec.seal(
            Body(members, account, self.anchors, (), {}),
            gateway.signer,
            gateway_eui=gateway.eui,
            stream_id=gateway.stream_id,
            number=gateway.number + 1,
            first_seq=gateway.seq,
            previous_hash=gateway.previous_hash,
            filter_version=1,
        )
        gateway.number += 1
        gateway.seq += len(members)
        gateway.previous_hash = sealed.hash
        assert self.intake.submit(wire(sealed), sender="here").refusal is None


def everything(ledger: LedgerWriter, wanted: Wanted, limit: int = 3) -> list[int]:
    """Page through all that is wanted."""
    after, ids = 0, []
    while True:
        found = ledger.search(after, limit, wanted)
        assert isinstance(found, Found)
        assert len(found.rows) <= limit
        ids += [int(row["id"] or 0) for row in found.rows]
        assert found.next >= after
        if not found.more:
            return ids
        assert found.next > after
        after = found.next


@pytest.fixture
def some(ledger: LedgerWriter) -> LedgerWriter:
    """A ledger with two gateways and some devices."""
    for number in (1, 2):
        mast = Mast(ledger, number)
        mast.hears(*((at, payload(DEVICES[at % 3], at), at % 3) for at in range(12)))
        mast.hears((20, payload(None, 1), 0), (21, payload(DEVICES[0], 21), 1))
    Mast(ledger, 3, known=False).hears((5, payload(DEVICES[0], 99), 0))
    return ledger


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gateway=st.sampled_from([None, 1, 2, 3, 9]),
    device=st.sampled_from([None, "26011bda", "26011bd0/28", "26000000/7", "27000001/32", "00000000/0"]),
    since=st.one_of(st.none(), st.integers(-1, 22)),
    length=st.one_of(st.none(), st.integers(0, 23)),
    scan=st.sampled_from([1, 4, 1000]),
    few=st.sampled_from([0, 3, 1000]),
)
def test_what_is_wanted_is_found_page_by_page(
    some: LedgerWriter,
    gateway: int | None,
    device: str | None,
    since: int | None,
    length: int | None,
    scan: int,
    few: int,
) -> None:
    first, last = (None, None) if device is None else parse_dev_addr(device)
    since_us = None if since is None else EPOCH_US + since * SECOND_US
    until_us = None if length is None else (since_us or EPOCH_US) + length * SECOND_US
    wanted = Wanted(None if gateway is None else bytes([gateway]) * 8, first, last, since_us, until_us)

    def fits(row: dict[str, Any]) -> bool:
        return (
            (gateway is None or row["gateway"] == (bytes([gateway]) * 8).hex())
            and (first is None or (row["dev_addr"] is not None and first <= int(row["dev_addr"], 16) <= (last or 0)))
            and (since_us is None or (row["utc_us"] is not None and row["utc_us"] >= since_us))
            and (until_us is None or (row["utc_us"] is not None and row["utc_us"] < until_us))
        )

    expected = [row["id"] for row in some.frames(0, 1000) if fits(row)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "SCAN", scan)
        patch.setattr(search, "FEW", few)
        assert everything(some, wanted) == expected


def test_what_comes_late_is_behind_the_cursor_and_not_missed(some: LedgerWriter) -> None:
    wanted = Wanted(since_us=EPOCH_US, until_us=EPOCH_US + 100 * SECOND_US)
    before = some.search(0, 1000, wanted)
    Mast(some, 4).hears((3, payload(DEVICES[0], 3), 0))
    later = some.search(before.next, 1000, wanted)
    assert [row["gateway"] for row in later.rows] == [(b"\4" * 8).hex()]


def uplinks(ledger: LedgerWriter) -> list[list[str]]:
    """Return who heard each transmission."""
    found, _, more = ledger.transmissions(0, 1000, Wanted())
    assert not more
    said = {one.uplink: len({row["gateway"] for row in one.receptions}) for one in found}
    view = {int(name): int(count) for name, count in stored(ledger, "SELECT uplink, receptions FROM uplink")}
    assert said == view, "the view says the same"
    members = stored(ledger, "SELECT uplink, id FROM uplink_reception ORDER BY uplink, id")
    assert members == [(one.uplink, row["id"]) for one in found for row in one.receptions]
    return [sorted(str(row["gateway"])[:2] for row in one.receptions) for one in found]


def test_one_transmission_that_several_gateways_heard_is_one(ledger: LedgerWriter) -> None:
    for number in (1, 2, 3):
        Mast(ledger, number).hears((10 + number * 0.01, payload(DEVICES[0], 7), 2))  # type: ignore[arg-type] # seconds
    assert uplinks(ledger) == [["01", "02", "03"]]


def test_a_repetition_is_no_copy(ledger: LedgerWriter) -> None:
    """NbTrans 3: the same bytes again after the receive windows, on another channel or by chance on the same."""
    one, two = Mast(ledger, 1), Mast(ledger, 2)
    sent = payload(DEVICES[0], 7)
    one.hears((10, sent, 2), (13, sent, 5), (16, sent, 2))
    two.hears((10, sent, 2), (16, sent, 2))
    assert uplinks(ledger) == [["01", "02"], ["01"], ["01", "02"]]


def test_two_streams_of_one_gateway_are_one_reception(ledger: LedgerWriter) -> None:
    mast = Mast(ledger, 1)
    mast.hears((10, payload(DEVICES[0], 7), 2))
    again = Mast(ledger, 1)
    again.gateway.seed = b"other destination"
    again.hears((10, payload(DEVICES[0], 7), 2))
    found, _, _ = ledger.transmissions(0, 10, Wanted())
    assert [(one.uplink, len(one.receptions)) for one in found] == [(1, 2)]
    assert uplinks(ledger) == [["01", "01"]]


def test_other_devices_and_join_requests_are_told_apart(ledger: LedgerWriter) -> None:
    for number in (1, 2):
        Mast(ledger, number).hears(
            (10, payload(DEVICES[0], 7), 2),
            (10, payload(DEVICES[1], 7), 2),
            (10, payload(None, 1), 2),
            (10, payload(None, 2), 2),
        )
    assert uplinks(ledger) == [["01", "02"]] * 4


def test_a_copy_that_comes_late_joins_its_transmission(ledger: LedgerWriter) -> None:
    Mast(ledger, 1).hears((10, payload(DEVICES[0], 7), 2), (11, payload(DEVICES[0], 8), 2))
    first, after, _ = ledger.transmissions(0, 10, Wanted())
    Mast(ledger, 2).hears((10, payload(DEVICES[0], 7), 2))
    (joined,), _, _ = ledger.transmissions(after, 10, Wanted())
    assert joined.uplink == first[0].uplink
    assert len(joined.receptions) == 2


def test_a_reception_without_a_time_waits_for_it(ledger: LedgerWriter) -> None:
    Mast(ledger, 1).hears((10, payload(DEVICES[0], 7), 2))
    late = Mast(ledger, 2, known=False)
    late.hears((10, payload(DEVICES[0], 7), 2))
    assert uplinks(ledger) == [["01"], ["02"]]
    late.anchors = (Anchor(late.boot_id, 0, EPOCH_US, 1000, TimeSource.GNSS),)
    late.hears()
    while ledger.revise(1000):
        pass
    assert uplinks(ledger) == [["01", "02"]]


def test_poor_clocks_may_be_further_apart(ledger: LedgerWriter) -> None:
    Mast(ledger, 1).hears((10, payload(DEVICES[0], 7), 2))
    Mast(ledger, 2).hears((11.5, payload(DEVICES[0], 7), 2))  # type: ignore[arg-type] # seconds
    Mast(ledger, 3, error_us=600_000).hears((11.5, payload(DEVICES[0], 8), 2))  # type: ignore[arg-type] # seconds
    Mast(ledger, 4, error_us=600_000).hears((10, payload(DEVICES[0], 8), 2))
    assert uplinks(ledger) == [["01"], ["02"], ["03", "04"]]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM reception WHERE id > 5 ORDER BY id LIMIT 10",
        "SELECT * FROM reception WHERE utc_us BETWEEN 1 AND 2",
        "SELECT * FROM reception WHERE device = 5",
        "SELECT * FROM reception WHERE device = 5 AND utc_us BETWEEN 1 AND 2",
        "SELECT * FROM uplink WHERE utc_us BETWEEN 1 AND 2",
        "SELECT * FROM uplink WHERE device = 5 AND utc_us > 1",
        "SELECT * FROM uplink_reception WHERE device = 5",
        "SELECT * FROM uplink_reception WHERE id > 5 ORDER BY id LIMIT 10",
    ],
)
def test_no_question_reads_all_frames(query: str, some: LedgerWriter) -> None:
    if isinstance(some, PostgresLedger):
        with some._borrowed() as db:
            # of so few rows it would read all, because that is quicker
            db.raw.execute(b"SET enable_seqscan = off")
            plan = "\n".join(row[0] for row in db.raw.execute(f"EXPLAIN {query}".encode()).fetchall())
            db.raw.execute(b"RESET enable_seqscan")
        assert "Seq Scan on frame_" not in plan, plan
        return
    plan = "\n".join(str(row[3]) for row in stored(some, f"EXPLAIN QUERY PLAN {query}"))
    assert "SCAN frame" not in plan, plan
    assert "SCAN other" not in plan, plan


def test_the_documented_columns_are_those_of_the_views(some: LedgerWriter) -> None:
    text = SCHEMA.read_text()
    for view, heading in (("gap_ledger", "## `gap_ledger`"), ("uplink", "## `uplink` and")):
        section = text.partition(heading)[2].partition("\n## ")[0]
        lines = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `") and "column" not in line]
        documented = [name for line in lines for name in line.split("`")[1::2]]
        with some._reading() as db:
            columns = [column[0] for column in db.execute(f"SELECT * FROM {view} LIMIT 1").description]
        assert documented == columns


@pytest.fixture
def client(some: LedgerWriter) -> TestClient:
    return TestClient(reading_app(some, None))


def test_readers_get_what_they_ask_for(client: TestClient) -> None:
    page = client.get("/v1/frames", params={"dev_addr": "26011bda", "gateway": "01" * 8}).json()
    assert [row["dev_addr"] for row in page["receptions"]] == ["26011bda"] * 5
    assert page["more"] is False
    page = client.get(
        "/v1/uplinks", params={"since_us": EPOCH_US + 3 * SECOND_US, "until_us": EPOCH_US + 4 * SECOND_US}
    ).json()
    (uplink,) = page["uplinks"]
    assert (uplink["gateways"], uplink["dev_addr"], uplink["utc_us"]) == (2, "26011bda", EPOCH_US + 3 * SECOND_US)
    assert [heard["gateway"] for heard in uplink["receptions"]] == ["01" * 8, "02" * 8]
    gaps = client.get("/v1/gaps", params={"gateway": "01" * 8}).json()
    assert [(hour["heard"], hour["received"], hour["missing"]) for hour in gaps["hours"] if hour["hour"] is None] == [
        (14, 0, 14)
    ]
    assert sum(hour["received"] for hour in gaps["hours"]) == 14
    assert gaps["holes"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"dev_addr": "26011bd"},
        {"dev_addr": "26011bda/33"},
        {"gateway": "xyz"},
        {"since_us": "-1"},
        {"since_us": 2, "until_us": 1},
        {"after": 1 << 64},
        {"limit": 0},
    ],
)
def test_a_wrong_question_is_answered_with_422(wrong: dict[str, Any], client: TestClient) -> None:
    assert client.get("/v1/frames", params=wrong).status_code == 422


VALUES = st.one_of(
    st.integers(-(1 << 70), 1 << 70).map(str),
    st.sampled_from(
        ["26011bda", "26000000/7", "01" * 8, "0", "1", "1000", "true", "null", "'; DROP TABLE frame", "\0", "é"]
    ),
    st.text(max_size=12),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_question_breaks_it_and_answers_are_as_documented(client: TestClient, data: st.DataObject) -> None:
    document = client.get("/openapi.json").json()
    path = data.draw(st.sampled_from(sorted(document["paths"])))
    operation = document["paths"][path]["get"]
    given_ = {one["name"]: data.draw(VALUES) for one in operation.get("parameters", []) if data.draw(st.booleans())}
    answer = client.get(path, params=given_)
    assert answer.status_code in {200, 422}
    assert str(answer.status_code) in operation["responses"]
    if answer.status_code == 200:
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        fits(answer.json(), schema, document)


def fits(value: object, schema: dict[str, Any], document: dict[str, Any]) -> None:
    """Hold a value against a schema, as far as FastAPI writes any."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema:
        options = {one.get("type") for one in schema["anyOf"]}
        assert (value is None) <= ("null" in options)
        schema = {} if value is None else next(one for one in schema["anyOf"] if one.get("type") != "null")
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    assert isinstance(value, kinds.get(schema.get("type", ""), object))  # type: ignore[arg-type] # a type or several
    if isinstance(value, dict) and "properties" in schema:
        assert set(schema.get("required", [])) <= set(value) <= set(schema["properties"])
        for name, item in value.items():
            fits(item, schema["properties"][name], document)
    if isinstance(value, list):
        for item in value:
            fits(item, schema.get("items", {}), document)
