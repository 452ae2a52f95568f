# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The way to the platform: real TLS and HTTP, everything that can be in the way, and the clock that goes with it."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.batch import receipt
from agent.batch.keys import Ed25519Signer
from agent.batch.model import Reason, Refusal
from agent.clock import HostClock
from agent.doctor import platform, shown, table
from tests.agent.doctor.scene import Scene, destination, synchronised
from tests.agent.enrolment.issuing import Issuer
from tests.agent.uplink.scene import PLATFORM_KEY, Broker, Handler, HttpsServer, Platform, free_port

Capsys = pytest.CaptureFixture[str]
ISSUER = Issuer()
STRANGER = Issuer("hotel")
PATIENT = ("connect_timeout_s = 30.0", "answer_timeout_s = 30.0")


class Town(Scene):
    """A gateway with a platform on loopback."""

    platform: Platform
    server: HttpsServer

    def open(self, first_day: float = -1, last_day: float = 90, issuer: Issuer = ISSUER) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*issuer.write(self.folder, "server", first_day, last_day))
        (self.folder / "ca.pem").write_bytes(ISSUER.certificate())
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.folder / "ca.pem")
        self.platform = Platform()
        self.server = HttpsServer(self.platform, context)

    def point(
        self, *, host: str = "localhost", port: int | None = None, ours: tuple[float, float] = (-1, 90), key: str = ""
    ) -> None:
        """Configure the destination, with a certificate of our own from and to so many days from now."""
        certificate, private = ISSUER.write(self.folder, "ours", *ours)
        url = f"https://{host}:{port or self.server.port}"
        files = (f'ca_file = "{self.folder}/ca.pem"', f'cert_file = "{certificate}"', f'key_file = "{private}"')
        self.destination = destination(url, *files, *PATIENT, key=key or PLATFORM_KEY.public.text)


@pytest.fixture
def town(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    synchronised(monkeypatch)
    with Town(folder) as made:
        made.open()
        made.point()
        yield made
        made.server.stop()


def lines(town: Town, capsys: Capsys) -> dict[str, str]:
    look = town.look(capsys, "--hands-off")
    return {
        check: code for check, code in look.bad().items() if check in {"platform", "certificate", "clock", "network"}
    }


def test_the_way_leads_to_a_receipt(town: Town, capsys: Capsys) -> None:
    look = town.look(capsys, "--hands-off")
    assert lines(town, capsys) == {}
    finding = look.one("platform")
    assert finding["verdict"] == "ok"
    assert "a signed receipt" in finding["evidence"]
    assert abs(finding["values"]["clock_ahead_s"]) < 5
    assert look.one("certificate")["verdict"] == "ok"


@pytest.mark.parametrize(
    ("ours", "check", "code"),
    [
        ((-90, -1), "certificate", "CG-DOC-621"),
        ((-90, 5), "certificate", "CG-DOC-622"),
        ((3, 90), "certificate", "CG-DOC-623"),
    ],
    ids=["expired", "soon", "not yet"],
)
def test_our_certificate(town: Town, capsys: Capsys, ours: tuple[float, float], check: str, code: str) -> None:
    town.point(ours=ours)
    assert lines(town, capsys) == {check: code}


def test_a_certificate_that_never_lives_for_long_does_not_end_soon(town: Town, capsys: Capsys) -> None:
    town.point(ours=(-1, 3))
    assert lines(town, capsys) == {}


def test_the_platforms_certificate_has_expired(town: Town, capsys: Capsys) -> None:
    town.open(-90, -2)
    town.point()
    look = town.look(capsys, "--hands-off")
    assert look.one("platform")["code"] == "CG-DOC-617"
    assert "expired on" in look.one("platform")["evidence"]


def test_a_login_page_that_takes_over_tls(town: Town, capsys: Capsys) -> None:
    town.open(issuer=STRANGER)
    town.point(host="127.0.0.1")
    look = town.look(capsys, "--hands-off")
    # its certificate is for the host that was asked: so it is the authority that is not known
    assert look.one("platform")["code"] == "CG-DOC-616"
    assert "CN=hotel" in look.one("platform")["evidence"]


def test_a_platforms_own_certificate_of_the_old_kind_is_no_login_page(town: Town, capsys: Capsys) -> None:
    own = Issuer("localhost")  # the name of the host stands in the subject only
    (town.folder / "own.pem").write_bytes(own.certificate())
    private = own.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (town.folder / "own.key").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(town.folder / "own.pem", town.folder / "own.key")
    town.server.stop()
    town.server = HttpsServer(Platform(), context)
    town.point()
    assert lines(town, capsys) == {"platform": "CG-DOC-616"}


@pytest.mark.parametrize(
    ("host_name", "pattern", "expected"),
    [
        ("platform.example", "Platform.Example", True),
        ("a.example", "*.example", True),
        ("a.b.example", "*.example", False),
        ("müll.example", "xn--mll-hoa.example", True),
        ("fd00:0::3", "fd00::3", True),
        ("platform..example", "platform.example", False),
    ],
)
def test_whom_a_certificate_is_for(host_name: str, pattern: str, expected: bool) -> None:
    assert shown.fits(host_name, pattern) is expected


def test_a_login_page_with_a_certificate_of_its_own(
    town: Town, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.doctor.shown.fits", lambda *_: False)  # as if it named another host
    town.open(issuer=STRANGER)
    town.point()
    look = town.look(capsys, "--hands-off")
    assert look.one("platform")["code"] == "CG-DOC-615"
    assert "it showed a certificate for localhost" in look.one("platform")["evidence"]


def test_a_login_page_behind_the_right_certificate(town: Town, capsys: Capsys) -> None:
    def portal(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "http://login.hotel.example/")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    town.server.divert = portal
    assert lines(town, capsys) == {"platform": "CG-DOC-615"}


def test_a_server_that_is_unwell(town: Town, capsys: Capsys) -> None:
    def unwell(handler: Handler) -> None:
        handler.send_response(503)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    town.server.divert = unwell
    assert lines(town, capsys) == {"platform": "CG-DOC-626"}


def test_a_name_that_nobody_knows(town: Town, capsys: Capsys) -> None:
    town.point(host="platform.invalid")
    assert lines(town, capsys)["platform"] == "CG-DOC-611"


def test_name_servers_that_do_not_answer(town: Town, capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    town.point(host="platform.example")
    assert lines(town, capsys)["platform"] == "CG-DOC-604"


def test_a_name_that_is_none(town: Town, capsys: Capsys) -> None:
    town.point(host="platform..example")
    assert lines(town, capsys)["platform"] == "CG-DOC-611"


def test_a_port_where_nobody_listens(town: Town, capsys: Capsys) -> None:
    town.point(port=free_port())
    assert lines(town, capsys) == {"platform": "CG-DOC-612"}
    # a login page that lies about names shows by the address
    assert "(127.0.0.1 port" in town.look(capsys, "--hands-off").one("platform")["evidence"]


def test_something_that_speaks_no_tls(town: Town, capsys: Capsys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with suppress(OSError):  # the end of the test
                while True:
                    connection, _address = listener.accept()
                    with connection:
                        connection.recv(100)
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        town.point(port=listener.getsockname()[1])
        assert lines(town, capsys) == {"platform": "CG-DOC-619"}


def test_a_path_where_no_receiver_is(town: Town, capsys: Capsys) -> None:
    def unknown(handler: Handler) -> None:
        handler.send_response(404)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    town.server.divert = unknown
    look = town.look(capsys, "--hands-off")
    assert look.one("platform")["code"] == "CG-DOC-630"
    assert "path" in look.one("platform")["next"]


def test_another_platforms_key(town: Town, capsys: Capsys) -> None:
    town.point(key=Ed25519Signer.generate().public.text)
    assert lines(town, capsys) == {"platform": "CG-DOC-627"}


def test_a_gateway_that_is_not_registered(town: Town, capsys: Capsys) -> None:
    def refuse(handler: Handler) -> None:
        no = Refusal(bytes(16), 0, bytes(32), Reason.UNKNOWN_KEY, "who are you", time.time_ns() // 1000)
        handler._answer(422, "application/cose", receipt.sign_refusal(no, PLATFORM_KEY))

    town.server.divert = refuse
    assert lines(town, capsys) == {"platform": "CG-DOC-628"}


def test_several_ways_of_which_one_leads(town: Town, capsys: Capsys) -> None:
    town.destination = town.destination.replace(
        "receipt_key", f'fallback_urls = ["https://localhost:{free_port()}"]\nreceipt_key'
    )
    look = town.look(capsys, "--hands-off")
    assert [f["verdict"] for f in look.all("platform")] == ["ok", "warn"]
    assert look.all("platform")[1]["code"] == "CG-DOC-632"


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied", "ours.pem"), RuntimeError("a defect")])
def test_a_way_that_was_not_walked_to_its_end_is_none_that_leads(
    town: Town, capsys: Capsys, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    town.point(port=free_port())
    town.destination = town.destination.replace(
        "receipt_key", f'fallback_urls = ["https://localhost:{town.server.port}"]\nreceipt_key'
    )
    read = Path.read_bytes

    def unreadable(path: Path) -> bytes:
        if path.name.startswith("ours"):
            raise error
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", unreadable)
    look = town.look(capsys, "--hands-off")
    codes = [finding["code"] for finding in look.all("platform")]
    assert codes == ["CG-DOC-612", "CG-DOC-003" if isinstance(error, PermissionError) else "CG-DOC-015"]


def test_a_way_that_leads_with_a_wrong_clock_and_one_that_does_not(
    town: Town, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.destination = town.destination.replace(
        "receipt_key", f'fallback_urls = ["https://localhost:{free_port()}"]\nreceipt_key'
    )
    monkeypatch.setattr(time, "time_ns", lambda: round((time.time() - 900) * 1e9))
    look = town.look(capsys, "--hands-off")
    assert [f["verdict"] for f in look.all("platform")] == ["ok", "warn"]
    assert look.all("platform")[1]["code"] == "CG-DOC-632"
    assert "CG-DOC-424" in [f["code"] for f in look.all("clock")]


def test_a_slow_destination_leaves_the_others_their_findings(
    town: Town, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    (check,) = (check for check in table.CHECKS if check.name == "platform")
    monkeypatch.setattr(table, "CHECKS", (replace(check, limit_s=30.0),))
    monkeypatch.setattr(platform, "WAYS_LIMIT_S", 8.0)
    monkeypatch.setattr(platform, "CONNECT_LIMIT_S", 60.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        patient = ("connect_timeout_s = 60.0", "answer_timeout_s = 60.0")
        town.destination = destination(f"https://localhost:{mute.getsockname()[1]}", *patient)
        town.destination += destination(f"https://localhost:{free_port()}", *patient, name="county")
        look = town.look(capsys, "--hands-off")
    assert [(f["verdict"], f["code"]) for f in look.all("platform")] == [("fail", "CG-DOC-613"), ("fail", "CG-DOC-612")]
    assert "accepts" in look.all("platform")[0]["evidence"], "how far it came"


def test_a_network_without_a_way_to_that_address(town: Town, capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: errno.ENETUNREACH)
    assert lines(town, capsys) == {"platform": "CG-DOC-603"}


def test_no_platform(town: Town, capsys: Capsys) -> None:
    town.destination = ""
    assert lines(town, capsys)["platform"] == "CG-DOC-631"


@pytest.mark.parametrize("off_s", [-86_400 * 3, 900])
def test_a_clock_that_differs_from_the_platforms(
    town: Town, capsys: Capsys, monkeypatch: pytest.MonkeyPatch, off_s: int
) -> None:
    # the platform signs with this; what is asked of the gateway's own clock is another call
    monkeypatch.setattr(time, "time_ns", lambda: round((time.time() - off_s) * 1e9))
    look = town.look(capsys, "--hands-off")
    (finding,) = [f for f in look.all("clock") if f["verdict"] != "ok"]
    assert finding["code"] == "CG-DOC-424"
    assert ("behind" if off_s < 0 else "ahead of") in finding["evidence"]


@pytest.mark.parametrize("off_days", [-200, 200])
@pytest.mark.parametrize(("last_day", "due"), [(5, True), (50, False)])
def test_how_long_our_certificate_is_good_is_told_by_the_platforms_time(
    town: Town, capsys: Capsys, monkeypatch: pytest.MonkeyPatch, off_days: int, last_day: float, due: bool
) -> None:
    # nobody has set this host's clock
    monkeypatch.setattr(HostClock, "anchor", lambda _: None)
    town.point(ours=(-90, last_day))
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + off_days * 86_400)
    monkeypatch.setattr(
        time,
        "time_ns",
        lambda: real_ns() + threading.current_thread().name.startswith("doctor-") * off_days * 86_400 * 10**9,
    )
    look = town.look(capsys, "--hands-off")
    assert look.one("certificate")["code"] == ("CG-DOC-622" if due else None)


@pytest.mark.parametrize(
    ("option", "code"),
    [("allow_anonymous false\npassword_file /dev/null", "CG-DOC-625"), ("allow_anonymous true", "CG-DOC-634")],
)
def test_a_broker(town: Town, capsys: Capsys, option: str, code: str) -> None:
    broker = Broker(town.folder, option)
    try:
        town.destination = destination(
            f"mqtt://localhost:{broker.port}", "connect_timeout_s = 30.0", "answer_timeout_s = 2.0"
        )
        assert town.look(capsys, "--hands-off").one("platform")["code"] == code
    finally:
        broker.kill()
