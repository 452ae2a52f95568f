# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A town whose receiver enrols gateways, and a gateway that asks, message by message."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.batch.keys import Ed25519Signer, PublicKey, Signer
from agent.enrolment import certificate, claim, message
from agent.enrolment.message import Enrolled, Kind, Request, Said
from tests.receiver.gateway import EUI
from tests.receiver.platform import LIMIT_S, Certificates, Platform, free_port, platform


@dataclass
class Town:
    """A platform with an enrolment section and an authority."""

    platform: Platform
    port: int

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def code(self, eui: bytes | None = EUI, *more: str) -> str:
        """Invite a gateway."""
        arguments = [] if eui is None else [eui.hex()]
        (code,) = self.platform.json("gateways", "invite", *arguments, *more)["claims"]
        return str(code)

    def client(self) -> httpx.Client:
        """Connect as a gateway does that has no certificate."""
        context = ssl.create_default_context(cafile=str(self.platform.certificates.authority))
        return httpx.Client(base_url=self.url, verify=context, timeout=LIMIT_S)


def town(folder: Path, certificates: Certificates, *, section: str = "", https: str | None = None) -> Town:
    """Write the configuration and make the authority."""
    port = free_port()
    client_ca = f'client_ca = "{folder}/data/ca/ca.pem"' if https is None else https
    extra = f"""
[enrolment]
listen = "127.0.0.1"
port = {port}
url = "https://localhost"
platform_ca = "{certificates.authority}"
{section}
"""
    made = Town(platform(folder, certificates, https=client_ca, extra=extra), port)
    toml = made.platform.toml  # the port of the batches is known only now
    toml.write_text(toml.read_text().replace('"https://localhost"', f'"{made.platform.url}"'))
    made.platform.json("ca", "create", "--name", "Town of Example")
    return made


@dataclass
class Asking:
    """A gateway that asks; it makes a new TLS key when it is told to."""

    town: Town
    signer: Signer = field(default_factory=Ed25519Signer.generate)
    eui: bytes = EUI
    tls_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def request(self, nonce: bytes, *, code: str = "", present: bytes | None = None, csr: bytes | None = None) -> bytes:
        kind = Kind.ENROL if present is None else Kind.RENEW
        asked = Request(
            kind,
            nonce,
            self.eui,
            self.signer.public,
            certificate.request(self.eui, self.tls_key) if csr is None else csr,
            claim=claim.parse(code) if code else "",
            name="town hall",
            certificate=b"" if present is None else certificate.fingerprint(present),
        )
        return message.sign_request(asked, self.signer)

    def send(self, data: bytes) -> httpx.Response:
        with self.town.client() as client:
            return client.post(message.ENROLMENT_PATH, content=data)

    def nonce(self) -> bytes:
        with self.town.client() as client:
            return client.post(message.CHALLENGE_PATH).content

    def ask(
        self, code: str = "", *, present: bytes | None = None, csr: bytes | None = None, key: PublicKey | None = None
    ) -> Said:
        """Ask once and read the answer."""
        data = self.request(self.nonce(), code=code, present=present, csr=csr)
        response = self.send(data)
        assert response.headers["content-type"] == message.CONTENT_TYPE, response.text
        said, _ = message.open_answer(response.content, message.digest_of(data), () if key is None else (key,))
        return said

    def enrolled(self, code: str = "", *, present: bytes | None = None) -> Enrolled:
        """Ask once; the answer must be yes."""
        said = self.ask(code, present=present)
        assert isinstance(said, Enrolled), said
        return said

    def batches(self, chain: bytes) -> httpx.Client:
        """Connect to the port of the batches with a certificate."""
        folder = self.town.platform.folder
        pem = certificate.chain_to_pem((chain,), "-")
        private = self.tls_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "tls.pem").write_bytes(pem + private)
        context = ssl.create_default_context(cafile=str(self.town.platform.certificates.authority))
        context.load_cert_chain(folder / "tls.pem")
        return httpx.Client(base_url=self.town.platform.url, verify=context, timeout=LIMIT_S)
