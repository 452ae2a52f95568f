# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Every reader of bytes from outside, as one function of arbitrary bytes: what must hold, whatever they are.

A reader gives a value or raises the error it documents; it takes memory in proportion to what it reads; and what it
accepts, it would have written itself (or an implementation of a later release), so that no altered byte goes through.
"""

from __future__ import annotations

import contextlib
import tempfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import cbor2

from agent.batch import body as bodies
from agent.batch import cbor, codec, cose, keyplace, receipt, succession
from agent.batch.errors import RefusedError, UnwritableError
from agent.batch.keys import PublicKey, ring
from agent.batch.model import MAX_BODY_BYTES, Receipt
from agent.errors import IdentityError
from receiver.batchfile import read_batches
from receiver.errors import EvidenceError
from tests.agent.batch.damage import header
from tests.agent.batch.samples import ED25519, ES256, ordinary, seal

RESOLVE = ring(ED25519.public, ES256.public)
MEMORY_BYTES = 64 * 1024 * 1024
"""The most that reading one message may take; the largest message has 2 MiB, and Python's numbers some 30 bytes."""
_SEALED = seal(ordinary(20))
_ALL = (_SEALED, seal(ordinary(0)), seal(ordinary(3)))
HEADERS = {one.signed_header for one in _ALL}
BODIES = {one.body for one in _ALL}
WIRES = [codec.pack(one.signed_header, one.body) for one in _ALL]
"""All batches that the key has signed: nobody else can make one that is accepted."""
RECEIPT = receipt.sign_receipt(Receipt(bytes(16), 17, b"\x22" * 32, 5, ((19, 19), (25, 40))), ED25519)
SUCCESSION = succession.announce(ES256, gateway_eui=bytes(8), predecessor=ED25519.kid)


def read_wire(data: bytes) -> None:
    """A batch as it comes."""
    codec.glimpse(data)
    try:
        opened = codec.open_wire(data, RESOLVE)
    except RefusedError:
        return
    assert data in WIRES, "an altered byte was accepted"
    assert opened.signed_header in HEADERS


def read_envelope(data: bytes) -> None:
    """A batch whose check is right: header and carried body are arbitrary."""
    cut = len(data) // 2
    for signed_header, carried in ((data[:cut], data[cut:]), (_SEALED.signed_header, data), (data, _SEALED.body)):
        for number in (0, 1):
            crc = zlib.crc32(carried, zlib.crc32(bytes([number]), zlib.crc32(signed_header)))
            message = cbor2.dumps([signed_header, number, carried, crc.to_bytes(4, "big")])
            codec.glimpse(message)
            try:
                opened = codec.open_wire(message, RESOLVE)
            except RefusedError:
                continue
            assert opened.signed_header in HEADERS, "an altered byte was accepted"
            assert bodies.encode(opened.body) in BODIES, "an altered byte was accepted"


def read_header(data: bytes) -> None:
    """A signed header: arbitrary payload, signed rightly."""
    try:
        signed = cose.sign(data, ED25519)
    except UnwritableError:
        return
    try:
        found = codec.read_header(signed)
    except RefusedError:
        pass
    else:
        assert cbor2.dumps(cbor2.loads(data)) == data
        assert found.number > 0
    for reader in (receipt.open_answer, receipt.open_receipt, receipt.open_refusal):
        try:
            reader(signed, RESOLVE)
        except RefusedError:
            continue


def read_message(data: bytes) -> None:
    """A signed message, a receipt, a refusal, an announcement of a key: arbitrary bytes."""
    with contextlib.suppress(RefusedError):
        cose.read(data, where="fuzz")
    try:
        receipt.open_answer(data, RESOLVE)
    except RefusedError:
        pass
    else:
        assert data == RECEIPT, "an altered byte was accepted"
    try:
        succession.read(data)
    except RefusedError:
        pass
    else:
        assert data == SUCCESSION, "an altered byte was accepted"


def read_announced(data: bytes) -> None:
    """An announcement of a key: arbitrary payload, signed rightly."""
    try:
        succession.read(cose.sign(data, ES256))
    except (RefusedError, UnwritableError):
        return
    assert cbor2.dumps(cbor2.loads(data)) == data


def read_body(data: bytes) -> None:
    """A body: frames, account, hours, anchors, tombstones, health."""
    try:
        found = bodies.decode(data)
    except RefusedError:
        return
    written = bodies.encode(found)
    # a writer chooses base, step and width of a column, and members that may be ignored are not kept
    assert bodies.decode(written) == found


def read_signed_body(data: bytes) -> None:
    """The whole way of a body that a registered gateway has signed."""
    if not 0 < len(data) <= MAX_BODY_BYTES:
        return
    signed_header = cose.sign(cbor2.dumps(list(header(data).values())), ED25519)
    try:
        codec.open_wire(codec.pack(signed_header, data), RESOLVE)
    except RefusedError:
        return
    assert cbor2.dumps(cbor2.loads(data), canonical=True) == data


def read_cbor(data: bytes) -> None:
    """The encoding itself: what is accepted is what would be written."""
    try:
        item = cbor.decode(data, where="fuzz", max_bytes=1 << 16)
    except RefusedError:
        return
    assert cbor2.dumps(cbor2.loads(data), canonical=True) == data or isinstance(item, dict | list)
    cbor.check(data, where="fuzz", max_bytes=1 << 16)


def read_key(data: bytes) -> None:
    """Texts and COSE_Keys of public keys, and places of private ones."""
    text = data.decode("utf-8", "replace")
    for read in (PublicKey.from_text, lambda _: PublicKey.from_cose_key(data)):
        try:
            key = read(text)
        except IdentityError:
            continue
        assert text.strip() == key.text or data == key.cose_key
    try:
        keyplace.parse_device(text)
    except ValueError:
        return


_FOLDER = tempfile.TemporaryDirectory(prefix="readers-")
_FILE = Path(_FOLDER.name) / "batches"


def read_file(data: bytes) -> None:
    """A file of batches."""
    _FILE.write_bytes(data)
    found = b""
    try:
        for one in read_batches(_FILE):
            found += one
    except EvidenceError:
        pass
    else:
        assert found == data, "every byte belongs to a batch"
    assert data.startswith(found)


READERS: dict[str, Callable[[bytes], None]] = {
    read.__name__.removeprefix("read_"): read
    for read in (
        read_wire,
        read_envelope,
        read_header,
        read_message,
        read_announced,
        read_body,
        read_signed_body,
        read_cbor,
        read_key,
        read_file,
    )
}
SEEDS: tuple[bytes, ...] = (
    *WIRES,
    _SEALED.signed_header,
    _SEALED.body,
    cbor2.dumps(list(header().values())),
    RECEIPT,
    SUCCESSION,
    cbor2.loads(RECEIPT).value[2],
    cbor2.loads(SUCCESSION).value[2],
    ED25519.public.text.encode(),
    ES256.public.text.encode(),
    ES256.public.cose_key,
    b"tpm:0x81000001?tcti=device:/dev/tpmrm0&pin-source=file:/pin",
    b"pkcs11:token=a;object=b;id=%01?module-path=/x.so&pin-source=credential:pin",
    b"".join(WIRES),
)


def within_bounds(read: Callable[[bytes], None], data: bytes) -> None:
    """Call a reader and see that it takes no more memory than it may; slow, for some of the calls."""
    tracemalloc.start()
    try:
        read(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_BYTES, f"{peak} bytes for a message of {len(data)}"
