# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Changes to the ledger by commands: directly where no receiver runs, otherwise by asking the one that does."""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from agent.batch import keyfile
from agent.batch.keys import PublicKey
from receiver import control
from receiver.config import ReceiverConfig
from receiver.errors import LedgerError, RegistryError
from receiver.intake import Intake
from receiver.ledger.opening import open_ledger
from receiver.ledger.port import Ledger, RegisteredKey

LOCK_CODE = "CG-LED-001"
TAKEN = ("accepted", "repeated")
"""Outcomes of a batch that is committed now."""


class Administration(Protocol):
    """What commands change."""

    def add_gateway(self, eui: bytes, key: PublicKey, name: str) -> bool:
        """Register a key for a gateway; False if it was registered already."""
        ...

    def rotate(self, eui: bytes, key: PublicKey) -> bytes:
        """Register a key in the place of the one that a gateway has; return the kid of that."""
        ...

    def revoke(self, eui: bytes, kid: bytes | None) -> int:
        """Revoke one key of a gateway, or all; return how many were active."""
        ...

    def submit(self, wire: bytes, sender: str) -> tuple[str, str]:
        """Take a batch; return "accepted", "repeated" or the name of the reason of a refusal, and a detail."""
        ...

    def receipt(self, stream_id: bytes) -> bytes:
        """Sign what is committed of a stream (16 bytes)."""
        ...

    def release(self, number: int) -> tuple[str, str]:
        """Judge a batch in quarantine again, as if it came now; return as `submit`, or "gone"."""
        ...

    def discard(self, number: int) -> bool:
        """Drop a batch in quarantine; False if it is not there."""
        ...


class Local:
    """Changes the ledger that this process holds.

    Args:
        ledger: open.
        intake: gives the way of batches into it; asked only when a batch comes.
    """

    def __init__(self, ledger: Ledger, intake: Callable[[], Intake]) -> None:
        self._ledger = ledger
        self._intake = intake

    def add_gateway(self, eui: bytes, key: PublicKey, name: str) -> bool:
        """Register a key for a gateway; False if it was registered already."""
        return self._ledger.add_key(RegisteredKey(eui, name, key.kid, key.text, time.time_ns() // 1000))

    def rotate(self, eui: bytes, key: PublicKey) -> bytes:
        """Register a key in the place of the one that a gateway has; return the kid of that.

        Raises:
            RegistryError: CG-REG-001 to -003, -007.
        """
        return self._ledger.rotate_key(RegisteredKey(eui, "", key.kid, key.text, time.time_ns() // 1000))

    def revoke(self, eui: bytes, kid: bytes | None) -> int:
        """Revoke one key of a gateway, or all; return how many were active.

        Raises:
            RegistryError: CG-REG-003, there is no such gateway or key.
        """
        mine = [key for key in self._ledger.registry() if key.eui == eui and kid in (None, key.kid)]
        if not mine:
            hint = "'civigate-receiver gateways list' shows what is registered"
            raise RegistryError("no such gateway or key", where=f"gateway {eui.hex()}", hint=hint, code="CG-REG-003")
        return self._ledger.revoke(eui, kid, time.time_ns() // 1000)

    def submit(self, wire: bytes, sender: str) -> tuple[str, str]:
        """Take a batch; return "accepted", "repeated" or the name of the reason of a refusal, and a detail."""
        answer = self._intake().submit(wire, sender=sender)
        if answer.refusal is not None:
            return answer.refusal.reason.name.lower(), answer.refusal.detail
        return ("repeated" if answer.repeat else "accepted"), ""

    def receipt(self, stream_id: bytes) -> bytes:
        """Sign what is committed of a stream (16 bytes)."""
        return self._intake().receipt(stream_id)

    def release(self, number: int) -> tuple[str, str]:
        """Judge a batch in quarantine again, as if it came now; return as `submit`, or "gone".

        Whether it came on the right topic was judged by the person who lets it go.
        """
        row = self._ledger.quarantined_row(number)
        if row is None:
            return "gone", ""
        outcome, detail = self.submit(row.parked.wire, row.parked.sender)
        if outcome in TAKEN:
            self._ledger.discard(number)
        return outcome, detail

    def discard(self, number: int) -> bool:
        """Drop a batch in quarantine; False if it is not there."""
        return self._ledger.discard(number)

    def handlers(self) -> Mapping[str, control.Handler]:
        """Give the same to those who ask over the control socket."""
        return {
            "add_gateway": self._on_add,
            "rotate": self._on_rotate,
            "revoke": self._on_revoke,
            "submit": self._on_submit,
            "receipt": self._on_receipt,
            "release": self._on_release,
            "discard": self._on_discard,
        }

    def _on_add(self, request: control.Json) -> control.Json:
        eui, key = bytes.fromhex(str(request["eui"])), PublicKey.from_text(str(request["key"]))
        return {"added": self.add_gateway(eui, key, str(request["name"]))}

    def _on_rotate(self, request: control.Json) -> control.Json:
        eui, key = bytes.fromhex(str(request["eui"])), PublicKey.from_text(str(request["key"]))
        return {"replaced": self.rotate(eui, key).hex()}

    def _on_revoke(self, request: control.Json) -> control.Json:
        kid = request["kid"]
        return {"revoked": self.revoke(bytes.fromhex(str(request["eui"])), bytes.fromhex(str(kid)) if kid else None)}

    def _on_submit(self, request: control.Json) -> control.Json:
        outcome, detail = self.submit(base64.b64decode(str(request["wire"])), str(request["sender"]))
        return {"outcome": outcome, "detail": detail}

    def _on_receipt(self, request: control.Json) -> control.Json:
        return {"receipt": base64.b64encode(self.receipt(bytes.fromhex(str(request["stream"])))).decode()}

    def _on_release(self, request: control.Json) -> control.Json:
        outcome, detail = self.release(int(str(request["id"])))
        return {"outcome": outcome, "detail": detail}

    def _on_discard(self, request: control.Json) -> control.Json:
        return {"discarded": self.discard(int(str(request["id"])))}


class Remote:
    """Asks the receiver that holds the ledger."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def add_gateway(self, eui: bytes, key: PublicKey, name: str) -> bool:
        """Register a key for a gateway; False if it was registered already."""
        request = {"command": "add_gateway", "eui": eui.hex(), "key": key.text, "name": name}
        return bool(control.ask(self._data_dir, request)["added"])

    def rotate(self, eui: bytes, key: PublicKey) -> bytes:
        """Register a key in the place of the one that a gateway has; return the kid of that."""
        request = {"command": "rotate", "eui": eui.hex(), "key": key.text}
        return bytes.fromhex(str(control.ask(self._data_dir, request)["replaced"]))

    def revoke(self, eui: bytes, kid: bytes | None) -> int:
        """Revoke one key of a gateway, or all; return how many were active."""
        request = {"command": "revoke", "eui": eui.hex(), "kid": kid.hex() if kid else None}
        return int(str(control.ask(self._data_dir, request)["revoked"]))

    def submit(self, wire: bytes, sender: str) -> tuple[str, str]:
        """Take a batch; return "accepted", "repeated" or the name of the reason of a refusal, and a detail."""
        request = {"command": "submit", "wire": base64.b64encode(wire).decode(), "sender": sender}
        answer = control.ask(self._data_dir, request)
        return str(answer["outcome"]), str(answer["detail"])

    def receipt(self, stream_id: bytes) -> bytes:
        """Sign what is committed of a stream (16 bytes)."""
        answer = control.ask(self._data_dir, {"command": "receipt", "stream": stream_id.hex()})
        return base64.b64decode(str(answer["receipt"]))

    def release(self, number: int) -> tuple[str, str]:
        """Judge a batch in quarantine again, as if it came now; return as `submit`, or "gone"."""
        answer = control.ask(self._data_dir, {"command": "release", "id": number})
        return str(answer["outcome"]), str(answer["detail"])

    def discard(self, number: int) -> bool:
        """Drop a batch in quarantine; False if it is not there."""
        return bool(control.ask(self._data_dir, {"command": "discard", "id": number})["discarded"])


@contextlib.contextmanager
def administration(config: ReceiverConfig) -> Iterator[Administration]:
    """Find the way to change the ledger of a configuration: a database takes changes of everybody, a file of one.

    Raises:
        LedgerError: it cannot be opened.
    """
    try:
        ledger = open_ledger(config)
    except LedgerError as error:
        if config.ledger.url is not None or error.code != LOCK_CODE:
            raise
        yield Remote(config.receiver.data_dir)
        return
    with contextlib.closing(ledger):
        yield Local(ledger, lambda: Intake(ledger, keyfile.load(config.identity.key_file)))
