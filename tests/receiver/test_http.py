# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from agent.batch.model import MAX_WIRE_BYTES, Reason, Receipt, Refusal
from agent.batch.receipt import open_answer
from receiver.http import Door, gateway_app
from receiver.intake import Intake
from receiver.ledger.sqlite import SqliteLedger
from receiver.listener import Listener, bind
from receiver.rate import Buckets
from receiver.tls import server_context
from tests.receiver.gateway import Gateway
from tests.receiver.platform import LIMIT_S, Certificates, Platform, free_port, platform


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Platform]:
    """A receiver that runs for all tests of this module; each brings a gateway of its own."""
    made = platform(tmp_path_factory.mktemp("receiver"), certificates)
    with made.serving():
        yield made


def registered(made: Platform, seed: int) -> Gateway:
    gateway = Gateway(eui=seed.to_bytes(8, "big"), seed=bytes([seed]))
    made.json("gateways", "add", gateway.eui.hex(), "--key", gateway.signer.public.text, "--name", f"mast {seed}")
    return gateway


def post(client: httpx.Client, wire: bytes) -> httpx.Response:
    return client.post("/v1/batches", content=wire, headers={"content-type": "application/cbor"})


def test_a_batch_brings_its_receipt(serving: Platform) -> None:
    gateway = registered(serving, 1)
    with serving.client() as client:
        assert client.get(f"/v1/streams/{gateway.stream_id.hex()}/receipt").status_code == 200
        response = post(client, gateway.wire())
        assert response.status_code == 200
        receipt = open_answer(response.content, serving.resolve)
        assert isinstance(receipt, Receipt)
        assert receipt.through == 1
        asked = client.get(f"/v1/streams/{gateway.stream_id.hex()}/receipt")
        again = open_answer(asked.content, serving.resolve)
        assert isinstance(again, Receipt)
        assert (again.through, again.hash) == (1, gateway.previous_hash)


def test_responses_carry_no_header_that_nobody_needs(serving: Platform) -> None:
    with serving.client() as client:
        response = post(client, b"garbage")
        assert sorted(response.headers) == ["content-length", "content-type"]
        assert response.headers["content-type"] == "application/cose"
        assert response.status_code == 422
        refusal = open_answer(response.content, serving.resolve)
        assert isinstance(refusal, Refusal)
        assert (refusal.reason, refusal.number) == (Reason.MALFORMED, 0)


def test_an_unknown_gateway_is_accepted_once_it_is_registered(serving: Platform) -> None:
    stranger = Gateway(eui=b"\x55" * 8, seed=b"stranger")
    wire = stranger.wire()
    with serving.client() as client:
        refused = open_answer(post(client, wire).content, serving.resolve)
        assert isinstance(refused, Refusal)
        assert (refused.reason, refused.number) == (Reason.UNKNOWN_KEY, 1)
        serving.json("gateways", "add", stranger.eui.hex(), "--key", stranger.signer.public.text)
        assert post(client, wire).status_code == 200
        serving.json("gateways", "revoke", stranger.eui.hex())
        revoked = open_answer(post(client, stranger.wire()).content, serving.resolve)
        assert isinstance(revoked, Refusal)
        assert revoked.reason is Reason.REVOKED_KEY


def test_what_is_too_large_is_not_read(serving: Platform) -> None:
    limit = MAX_WIRE_BYTES
    with serving.client() as client:
        assert post(client, bytes(limit + 1)).status_code == 413

        def chunks() -> Iterator[bytes]:
            for _ in range(limit // 65536 + 8):
                yield bytes(65536)

        try:
            status = client.post("/v1/batches", content=chunks()).status_code
        except httpx.TransportError:
            status = 413  # the connection was closed on us while we were still sending
        assert status == 413
        assert client.get("/v1/health").text == "ok\n"


@pytest.mark.parametrize(
    "path", ["/", "/v1/frames", "/v1/gateways", "/docs", "/openapi.json", "/v1/streams/xyz/receipt"]
)
def test_the_gateways_port_shows_nothing_else(path: str, serving: Platform) -> None:
    with serving.client() as client:
        assert client.get(path).status_code in {404, 422}


def test_many_gateways_at_once(serving: Platform) -> None:
    gateways = [registered(serving, 20 + number) for number in range(4)]
    failed: list[int] = []

    def deliver(gateway: Gateway) -> None:
        with serving.client() as client:
            failed.extend(status for wire in gateway.wires(15) if (status := post(client, wire).status_code) != 200)

    threads = [threading.Thread(target=deliver, args=(gateway,)) for gateway in gateways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert failed == []
    through = {entry["gateway"]: entry["through"] for entry in serving.json("status")["streams"]}
    assert [through[gateway.eui.hex()] for gateway in gateways] == [15] * 4


def test_readers_page_through_everything(serving: Platform) -> None:
    gateway = registered(serving, 3)
    with serving.client() as client:
        for wire in gateway.wires(3, frames=7):
            post(client, wire)
    seen: list[dict[str, object]] = []
    with httpx.Client(base_url=f"http://127.0.0.1:{serving.api_port}", timeout=LIMIT_S) as reader:
        after = 0
        while True:
            page = reader.get("/v1/frames", params={"after": after, "limit": 5}).raise_for_status().json()
            if not page["receptions"]:
                assert page["next"] == after
                break
            seen += page["receptions"]
            after = page["next"]
        assert len({row["id"] for row in seen}) == len(seen)
        mine = [row for row in seen if row["stream"] == gateway.stream_id.hex()]
        assert [row["seq"] for row in mine] == list(range(1, 22))
        assert mine[0]["phy_payload"] == "40da1b012600010001" + b"data".hex() + "00000000"
        streams = reader.get("/v1/streams").raise_for_status().json()
        assert next(entry for entry in streams if entry["gateway"] == gateway.eui.hex())["frames"] == 21
        names = {entry["gateway"]: entry["name"] for entry in reader.get("/v1/gateways").json()}
        assert names[gateway.eui.hex()] == "mast 3"
        assert isinstance(reader.get("/v1/alarms").json(), list)
        assert "/v1/frames" in reader.get("/openapi.json").json()["paths"]
        assert reader.get("/v1/frames", params={"limit": 100_000}).status_code == 422


def test_readers_need_the_token(tmp_path: Path, certificates: Certificates) -> None:
    (tmp_path / "token").write_text("0123456789abcdef0123\n")
    made = platform(tmp_path, certificates)
    made.toml.write_text(made.toml.read_text().replace("[api]", '[api]\ntoken_file = "token"'))
    with made.serving(), httpx.Client(base_url=f"http://127.0.0.1:{made.api_port}", timeout=LIMIT_S) as reader:
        assert reader.get("/v1/frames").status_code == 401
        assert reader.get("/v1/frames", headers={"authorization": "Bearer 0123456789abcdef0124"}).status_code == 401
        assert reader.get("/v1/frames", headers={"authorization": "Bearer 0123456789abcdef0123"}).status_code == 200


def test_without_a_client_certificate_nobody_comes_in(tmp_path: Path, certificates: Certificates) -> None:
    made = platform(tmp_path, certificates, https=f'client_ca = "{certificates.authority}"')
    gateway = Gateway()
    with made.serving():
        made.json("gateways", "add", gateway.eui.hex(), "--key", gateway.signer.public.text)
        with made.client(certificate=False) as client, pytest.raises(httpx.TransportError):
            post(client, gateway.wire())
        with made.client() as client:
            assert post(client, gateway.wire()).status_code in {200}


def test_nothing_older_than_tls_1_2(serving: Platform) -> None:
    context = ssl.create_default_context(cafile=str(serving.certificates.authority))
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", serving.port)) as raw, pytest.raises(ssl.SSLError):
        context.wrap_socket(raw, server_hostname="localhost")


@contextmanager
def bounded(ledger: SqliteLedger, intake: Intake, certificates: Certificates, **limits: float) -> Iterator[int]:
    """Serve with limits that a test can wait for."""
    del ledger
    port = free_port()
    door = Door(
        max_body_bytes=10_000,
        body_grace_s=limits.get("body_grace_s", 10.0),
        strangers=Buckets(per_s=1e-6, burst=limits["strangers"]) if "strangers" in limits else None,
    )
    served = Listener(
        "https",
        gateway_app(intake, door),
        bind("127.0.0.1", port, "https"),
        lambda: None,
        tls=server_context(certificates.server.certificate, certificates.server.key, None),
        max_connections=int(limits.get("max_connections", 100)),
        idle_s=60,
        headers_limit_s=limits.get("headers_limit_s", 10.0),
    )
    served.start()
    try:
        yield port
    finally:
        served.stop()


def connect(port: int, certificates: Certificates) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(certificates.authority))
    sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
    sock.settimeout(LIMIT_S)
    return sock


def ended(sock: ssl.SSLSocket) -> bool:
    """Read until the other side closes; the test fails when it does not in time."""
    try:
        while sock.recv(4096):
            pass
    except (ConnectionError, ssl.SSLError):
        pass
    return True


def healthy(sock: ssl.SSLSocket) -> bool:
    """Ask for the health and read the answer to its end."""
    sock.sendall(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
    read = b""
    while not read.endswith(b"\r\n\r\nok\n") and (chunk := sock.recv(4096)):
        read += chunk
    return read.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [b"", b"POST /v1/batches HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_headers_that_never_end_are_cut_off(
    sent: bytes, ledger: SqliteLedger, intake: Intake, certificates: Certificates
) -> None:
    with bounded(ledger, intake, certificates, headers_limit_s=0.1) as port, connect(port, certificates) as sock:
        sock.sendall(sent)
        assert ended(sock)


def test_headers_that_trickle_on_a_kept_connection_are_cut_off(
    ledger: SqliteLedger, intake: Intake, certificates: Certificates
) -> None:
    with bounded(ledger, intake, certificates, headers_limit_s=0.2) as port, connect(port, certificates) as sock:
        assert healthy(sock)
        sock.sendall(b"G")
        assert ended(sock)


def test_a_connection_without_a_request_stays(ledger: SqliteLedger, intake: Intake, certificates: Certificates) -> None:
    with bounded(ledger, intake, certificates, headers_limit_s=0.1) as port, connect(port, certificates) as kept:
        assert healthy(kept)
        with connect(port, certificates) as silent:
            assert ended(silent), "the limit has passed for one that never asked"
        assert healthy(kept)


def test_a_body_that_trickles_is_cut_off(ledger: SqliteLedger, intake: Intake, certificates: Certificates) -> None:
    with bounded(ledger, intake, certificates, body_grace_s=0.1) as port, connect(port, certificates) as sock:
        sock.sendall(b"POST /v1/batches HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nx")
        assert sock.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert ended(sock)


def test_a_sender_that_vanishes_costs_nothing(ledger: SqliteLedger, intake: Intake, certificates: Certificates) -> None:
    with bounded(ledger, intake, certificates) as port:
        with connect(port, certificates) as sock:
            sock.sendall(b"POST /v1/batches HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nx")
        with connect(port, certificates) as sock:
            assert healthy(sock)


def test_strangers_are_slowed_down_and_gateways_are_not(
    ledger: SqliteLedger, intake: Intake, certificates: Certificates, gateway: Gateway
) -> None:
    with bounded(ledger, intake, certificates, strangers=3) as port:
        context = ssl.create_default_context(cafile=str(certificates.authority))
        with httpx.Client(base_url=f"https://localhost:{port}", verify=context, timeout=LIMIT_S) as client:
            for wire in gateway.wires(6):
                assert post(client, wire).status_code == 200
            assert [post(client, b"garbage").status_code for _ in range(4)] == [422, 422, 422, 429]
            response = post(client, b"garbage")
            assert int(response.headers["retry-after"]) > 0
            # a neighbour, or the same one, who shares the address and is known
            assert post(client, gateway.wire()).status_code == 200
            assert client.get(f"/v1/streams/{gateway.stream_id.hex()}/receipt").status_code == 200
            assert [post(client, b"garbage").status_code for _ in range(2)] == [422, 429]
            assert client.get(f"/v1/streams/{bytes(16).hex()}/receipt").status_code == 429


def test_a_gateway_that_is_too_fast_is_told_when_to_come_back(
    ledger: SqliteLedger, certificates: Certificates, gateway: Gateway, signer: object
) -> None:
    intake = Intake(ledger, gateway.signer, rate=Buckets(per_s=0.01, burst=1))
    with bounded(ledger, intake, certificates) as port:
        context = ssl.create_default_context(cafile=str(certificates.authority))
        with httpx.Client(base_url=f"https://localhost:{port}", verify=context, timeout=LIMIT_S) as client:
            assert post(client, gateway.wire()).status_code == 200
            response = post(client, gateway.wire())
            assert response.status_code == 429
            assert 90 <= int(response.headers["retry-after"]) <= 100


def test_a_ledger_that_does_not_take_anything_is_no_refusal(
    ledger: SqliteLedger, intake: Intake, certificates: Certificates, gateway: Gateway
) -> None:
    """A refusal would make the gateway park its batch; it must keep it and come again."""
    ledger.path.rename(ledger.path.with_suffix(".away"))
    ledger.path.with_suffix(".db-wal").rename(ledger.path.with_suffix(".wal-away"))
    with bounded(ledger, intake, certificates) as port:
        context = ssl.create_default_context(cafile=str(certificates.authority))
        with httpx.Client(base_url=f"https://localhost:{port}", verify=context, timeout=LIMIT_S) as client:
            response = post(client, gateway.wire())
    assert response.status_code == 503
    assert response.headers["retry-after"] == "10"
