# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Receipts that were carried here: a stick brings to the gateway what no link does.

Batches go out by `civigate spool export`, the platform's signed receipts for them come back as files. They are verified
like those that travel. Where the agent is stopped the command frees the spool itself; where it runs, the command leaves
them in a folder of its runtime_dir, and the agent takes them from there. In the same way it is asked to try its
platforms again at once, or to seal what a stick shall take along.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from agent.batch.keys import PublicKey, ring
from agent.batch.model import Receipt
from agent.batch.receipt import open_receipt
from agent.errors import BatchError, SpoolError
from agent.ownership import as_owner
from agent.uplink.port import MAX_ANSWER_BYTES

logger = logging.getLogger(__name__)

FOLDER = "receipts"
"""Below runtime_dir."""
RETRY = "retry"
"""Name of the file that asks to try again at once."""
SEAL = "seal"
"""Name of the file that asks to seal what there is, however little."""
SUFFIX = ".receipt"
MOST_FILES = 100
"""That are looked at in one go."""
LOOK_S = 2.0
"""How often the running agent looks."""


def receipt_files(places: Iterable[Path]) -> Iterator[Path]:
    """Yield files as they are named, and of folders those that are called like receipts."""
    for place in places:
        yield from sorted(place.glob(f"*{SUFFIX}")) if place.is_dir() else (place,)


def read(path: Path) -> bytes:
    """Read a file that should be a receipt.

    Raises:
        SpoolError: CG-SPL-050, it cannot be read, or is too long for one.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ANSWER_BYTES + 1)
    except OSError as error:
        raise _unfit(path, f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_ANSWER_BYTES:
        raise _unfit(path, f"longer than {MAX_ANSWER_BYTES} bytes")
    return data


def verified(path: Path, keys: Mapping[str, Sequence[PublicKey]], destination_of: Callable[[bytes], str]) -> Receipt:
    """Verify a receipt with the key of the platform that its stream goes to: no other one may free anything of it.

    Args:
        path: of the file.
        keys: of the platforms, by destination.
        destination_of: names the destination of a stream id; SpoolError for one that is not of this spool.

    Raises:
        SpoolError: CG-SPL-050, it is no receipt, or not signed by that platform; what `destination_of` raises.
    """
    data = read(path)
    receipt = _opened(data, path, [key for several in keys.values() for key in several])
    return _opened(data, path, keys.get(destination_of(receipt.stream_id), ()))


def _opened(data: bytes, path: Path, keys: Sequence[PublicKey]) -> Receipt:
    try:
        return open_receipt(data, ring(*keys))
    except BatchError as error:
        raise _unfit(path, f"no receipt that verifies with receipt_key: {error.what}") from error


def hand_over(data: bytes, runtime_dir: Path) -> Path:
    """Leave a receipt for the running agent; it is gone from there once it was taken.

    Raises:
        SpoolError: CG-SPL-051, the folder does not take it.
    """
    folder = runtime_dir / FOLDER
    with as_owner(runtime_dir), _explained(folder):
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
        path = Path(file.name)
        return path.rename(path.with_name(path.name + SUFFIX))


def ask(runtime_dir: Path, what: str) -> Path:
    """Ask the running agent for something that it can do at once; return a file that is gone when that is done.

    Args:
        runtime_dir: of the agent.
        what: `RETRY` or `SEAL`.

    Raises:
        SpoolError: CG-SPL-051, the folder does not take it.
    """
    folder = runtime_dir / FOLDER
    with as_owner(runtime_dir), _explained(folder):
        (folder / what).touch()
    return folder / what


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "run this as root or as the agent's user (sudo); an older agent has no such folder: restart it"
        what = f"cannot be written: {error.strerror}"
        raise SpoolError(what, where=str(folder), hint=hint, code="CG-SPL-051") from error


class Inbox:
    """The agent's side of `hand_over` and `ask`.

    Args:
        runtime_dir: of the agent.
        keys: of the platforms, by destination.
        destination_of: names the destination of a stream id.
        take: frees what a verified receipt covers; only queues.
        requests: what is done when it is asked for, by name.
    """

    def __init__(
        self,
        runtime_dir: Path,
        keys: Mapping[str, Sequence[PublicKey]],
        destination_of: Callable[[bytes], str],
        take: Callable[[Receipt], None],
        requests: Mapping[str, Callable[[], object]],
    ) -> None:
        self._folder = runtime_dir / FOLDER
        self._keys = keys
        self._destination_of = destination_of
        self._take = take
        self._requests = requests
        self._said = False

    def run(self, ended: threading.Event) -> None:
        """Look now and then; the body of the thread "receipts"."""
        self.look()
        while not ended.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Take what is there."""
        try:
            self._folder.mkdir(exist_ok=True)
            for name, do in self._requests.items():
                if (self._folder / name).exists():
                    do()
                    (self._folder / name).unlink(missing_ok=True)
            files = [path for _, path in zip(range(MOST_FILES), self._folder.glob(f"*{SUFFIX}"), strict=False)]
        except OSError as error:
            if not self._said:
                logger.warning("event=no_receipts_folder folder=%s problem=%s", self._folder, error)
            self._said = True
            return
        for path in files:
            self._take_file(path)

    def _take_file(self, path: Path) -> None:
        try:
            receipt = verified(path, self._keys, self._destination_of)
            logger.info("event=receipt_carried stream=%s through=%d", receipt.stream_id.hex(), receipt.through)
            self._take(receipt)
        except SpoolError as error:
            logger.warning("event=receipt_refused problem=%s; %s [%s]", error, error.hint, error.code)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("event=receipt_stays file=%s problem=%s", path, error)


def _unfit(path: Path, what: str) -> SpoolError:
    hint = "write it anew on the platform: civigate-receiver import --receipts FOLDER"
    return SpoolError(what, where=str(path), hint=hint, code="CG-SPL-050")
