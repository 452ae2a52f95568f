# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The authority of the demonstration is one that a strict TLS takes, as Python's is from version 3.13 on."""

from __future__ import annotations

import ssl
from pathlib import Path

from agent.demo.authority import Authority


def test_its_certificates_are_taken_by_the_strict(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.server("server")
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(issued.certificate, issued.key)
    ours = ssl.create_default_context(cafile=str(authority.certificate))
    ours.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ours.wrap_bio(to_client, to_server, server_hostname="localhost")
    server = theirs.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    for _ in range(10):
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    assert len(done) == 2
