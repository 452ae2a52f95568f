# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Equal content gives equal bytes, and the compressor does not matter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from agent.batch import codec
from agent.batch.errors import RefusedError
from agent.batch.keys import ring
from tests.agent.batch.damage import envelope
from tests.agent.batch.determinism import digest
from tests.agent.batch.samples import ED25519, ordinary, seal

FROZEN = "542476fe13818f451ed5828e5a9a7f485bda5686874dddf81651b5548dbec9d9"
"""As Python 3.11, 3.12 and 3.13 give it with the oldest and the newest cbor2, cryptography and zstandard."""


@pytest.mark.parametrize("seed", ["0", "1", "4711"])
def test_every_process_gives_the_same_bytes(seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.agent.batch.determinism"],
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == FROZEN == digest()


@pytest.mark.parametrize("level", [-5, 1, 3, 9, 19, 22])
@pytest.mark.parametrize("checksum", [False, True])
def test_any_compressor_carries_the_same_batch(level: int, checksum: bool) -> None:
    """Versions of zstd differ in what they write; what is signed is what comes out again."""
    sealed = seal(ordinary(200))
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=checksum, write_content_size=True)
    wire = envelope(sealed.signed_header, compressor.compress(sealed.body), codec.CODEC_ZSTD)
    opened = codec.open_wire(wire, ring(ED25519.public))
    assert (opened.hash, opened.body) == (sealed.hash, ordinary(200))


def test_a_body_in_several_blocks_or_not_compressed_at_all_is_the_same() -> None:
    sealed = seal(ordinary(200))
    whole = zstandard.ZstdCompressor(level=1).compressobj(size=len(sealed.body))
    parts = [
        whole.compress(sealed.body[start : start + 500]) + whole.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        for start in range(0, len(sealed.body), 500)
    ]
    blocks = b"".join(parts) + whole.flush()
    for wire in (envelope(sealed.signed_header, blocks, codec.CODEC_ZSTD), envelope(sealed.signed_header, sealed.body)):
        assert codec.open_wire(wire, ring(ED25519.public)).hash == sealed.hash
    with pytest.raises(RefusedError):
        codec.open_wire(envelope(sealed.signed_header, blocks[:-3], codec.CODEC_ZSTD), ring(ED25519.public))
