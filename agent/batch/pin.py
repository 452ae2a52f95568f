# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The PIN of a token, or the authorisation value of a TPM key: read from a file, never shown, never tried twice."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from agent.errors import IdentityError

MAX_PIN_BYTES = 255
CREDENTIAL = "credential:"
_FILE = "file:"


@dataclass(frozen=True, slots=True)
class PinSource:
    """Where a PIN is.

    Attributes:
        text: `file:/PATH`, or `credential:NAME` for a file of that name in systemd's `$CREDENTIALS_DIRECTORY`.
    """

    text: str

    def __post_init__(self) -> None:
        if self.text.startswith(_FILE):
            if not self.text.removeprefix(_FILE).startswith("/"):
                raise ValueError("pin-source: the path behind file: does not begin with /")
        elif not self.text.startswith(CREDENTIAL) or "/" in self.text or self.text == CREDENTIAL:
            raise ValueError("pin-source is neither file:/PATH nor credential:NAME")

    def read(self) -> str:
        """Return the first line.

        Raises:
            IdentityError: CG-IDN-022, it cannot be read, others may read it, or it is no PIN.
        """
        path = self._path()
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                mode = os.fstat(descriptor).st_mode
                data = os.read(descriptor, MAX_PIN_BYTES + 2) if stat.S_ISREG(mode) else b""
            finally:
                os.close(descriptor)
        except OSError as error:
            raise bad_pin(f"PIN cannot be read: {error.strerror}", str(path), retryable=True) from error
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise bad_pin(f"mode {stat.S_IMODE(mode):04o} lets others read the PIN", str(path), retryable=True)
        line = data.split(b"\n", 1)[0].rstrip(b"\r")
        if not 0 < len(line) <= MAX_PIN_BYTES:
            raise bad_pin(f"no PIN of 1 to {MAX_PIN_BYTES} bytes in its first line", str(path), retryable=True)
        try:
            return line.decode()
        except UnicodeDecodeError:
            # the error would quote the PIN
            raise bad_pin("the PIN is not UTF-8", str(path), retryable=True) from None

    def _path(self) -> Path:
        if self.text.startswith(_FILE):
            return Path(self.text.removeprefix(_FILE))
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder is None:
            raise bad_pin("$CREDENTIALS_DIRECTORY is not set: systemd did not start this", self.text, retryable=False)
        return Path(folder) / self.text.removeprefix(CREDENTIAL)


class Pin:
    """A PIN that is tried once: after a few wrong tries a token locks itself, so a wrong one must first change.

    Args:
        source: None where the key needs none.
    """

    def __init__(self, source: PinSource | None) -> None:
        self._source = source
        self._refused: bytes | None = None

    def read(self) -> str | None:
        """Return the PIN; None where the key needs none.

        Raises:
            IdentityError: CG-IDN-022, it cannot be read, or it is the one that was refused.
        """
        if self._source is None:
            return None
        pin = self._source.read()
        if self._refused == _digest(pin):
            raise self.wrong()
        return pin

    def refuse(self, pin: str | None) -> IdentityError:
        """Remember that a PIN was wrong, and return the error that says so."""
        if pin is not None:
            self._refused = _digest(pin)
        return self.wrong()

    def wrong(self) -> IdentityError:
        """Return the error for a PIN that the device did not take."""
        if self._source is None:
            return bad_pin("needs a PIN, and there is none", "pin-source", retryable=True)
        return bad_pin("the device does not take this PIN", self._source.text, retryable=True)


def bad_pin(what: str, where: str, *, retryable: bool) -> IdentityError:
    """Make the error for a PIN that cannot be used; it never says what the PIN is."""
    return IdentityError(
        what,
        where=where,
        hint="put the right PIN into the file that pin-source names, mode 0600; a wrong one is not tried again",
        code="CG-IDN-022",
        retryable=retryable,
    )


def _digest(pin: str) -> bytes:
    return hashlib.sha256(pin.encode()).digest()
