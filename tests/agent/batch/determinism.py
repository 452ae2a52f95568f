# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Print one digest over bodies, headers and messages made anew: `python -m tests.agent.batch.determinism`.

It must be the same in every process, with every Python and with every version of the libraries. It needs no more than
the agent does: cbor2, cryptography, zstandard.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

from agent.batch import body as bodies
from agent.batch import codec, receipt, succession
from agent.batch.keys import Ed25519Signer, PublicKey, ring
from agent.batch.model import Receipt

VECTORS = json.loads((Path(__file__).parents[2] / "data/batch/vectors.json").read_text(encoding="utf-8"))
RESOLVE = ring(*(PublicKey.from_cose_key(bytes.fromhex(entry["cose_key"])) for entry in VECTORS["keys"]))


def digest() -> str:
    """Seal every content of the vectors, its entries of health in any order, and return one SHA-256."""
    from cryptography.hazmat.primitives.asymmetric import ed25519

    signer = Ed25519Signer(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    found = hashlib.sha256()
    for vector in VECTORS["batches"]:
        opened = codec.open_wire(bytes.fromhex(vector["wire"]), RESOLVE)
        entries = list(opened.body.health.items())
        random.shuffle(entries)
        content = replace(opened.body, health=dict(entries))
        assert (bodies.encode(content).hex() == vector["body"]) is vector["exact"]
        header = opened.header
        sealed = codec.seal(
            content,
            signer,
            gateway_eui=header.gateway_eui,
            stream_id=header.stream_id,
            number=header.number,
            first_seq=header.first_seq,
            previous_hash=header.previous_hash,
        )
        assert codec.open_wire(codec.pack(sealed.signed_header, sealed.body), RESOLVE).body == content
        found.update(sealed.signed_header + sealed.body)
    found.update(receipt.sign_receipt(Receipt(bytes(16), 3, b"\x01" * 32, 7, ((5, 9),)), signer))
    found.update(succession.announce(signer, gateway_eui=bytes(8), predecessor=bytes(32)))
    return found.hexdigest()


if __name__ == "__main__":
    print(digest())
