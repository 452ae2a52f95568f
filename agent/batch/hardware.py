# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Sign with a key that never leaves its device.

The device is asked when it is needed and let go at once: batches are few, and a token that was unplugged and comes back
needs nobody. Each signature is verified before it is given out, so a failing device cannot break the chain.

| code | what | what helps |
|---|---|---|
| CG-IDN-005 | a key is there already where one is to be made | another place |
| CG-IDN-006 | it cannot be made there | |
| CG-IDN-020 | the Python package for the device is missing | install it |
| CG-IDN-021 | device, token or library missing | plug it in |
| CG-IDN-022 | PIN missing or wrong (`agent.batch.pin`) | correct the file |
| CG-IDN-023 | no such key in the device | |
| CG-IDN-024 | a key of another kind | |
| CG-IDN-025 | the device fails, or does not answer | |
| CG-IDN-026 | its signature is not that of the key: another device, or a defect | |
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Protocol, TypeVar

from agent.batch.keys import Algorithm, PublicKey
from agent.errors import IdentityError

ANSWER_LIMIT_S = 60.0
"""For one call of a device. The slowest makes a key in ten seconds; whoever waits is watched with twice this limit."""

Result = TypeVar("Result")


class DeviceKey(Protocol):
    """A private key in a device. Each call opens the device and closes it."""

    def read(self) -> PublicKey:
        """Return the public key.

        Raises:
            IdentityError: CG-IDN-020 to -025.
        """
        ...

    def sign(self, data: bytes, algorithm: Algorithm) -> bytes:
        """Return the signature of `data`, 64 bytes.

        Raises:
            IdentityError: CG-IDN-020 to -025.
        """
        ...


class Patience:
    """Asks a device in a thread of its own, and waits for it no longer than `ANSWER_LIMIT_S`.

    A device that hangs shall not keep those who ask; while it owes an answer it is not asked again. Besides, libraries
    of devices use OpenSSL and leave errors in its queue, which each thread has for itself: in the thread of a TLS
    connection that is open, Python would take such an error for one of the connection, and end it.

    Args:
        where: what errors name.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._owed: Future[Any] | None = None
        self._asked_s = 0.0

    def ask(self, call: Callable[[], Result]) -> Result:
        """Return what the device answers; callers take turns.

        Raises:
            IdentityError: CG-IDN-025, it does not answer; what `call` raises.
        """
        now_s = time.monotonic()
        if self._owed is not None and not self._owed.done():
            raise self._silent(f"no answer since {now_s - self._asked_s:.0f} s")
        done: Future[Result] = Future()

        def run() -> None:
            try:
                done.set_result(call())
            except BaseException as error:
                done.set_exception(error)

        self._owed, self._asked_s = done, now_s
        threading.Thread(target=run, name="device", daemon=True).start()
        try:
            return done.result(ANSWER_LIMIT_S)
        except FutureTimeoutError:
            if done.done():  # just now; or it was an error of the call itself
                return done.result()
            raise self._silent(f"no answer within {ANSWER_LIMIT_S:g} s") from None

    def _silent(self, what: str) -> IdentityError:
        hint = "plug it out and in again, or restart the machine; batches are sealed as soon as it signs again"
        return device_error(what, self._where, "CG-IDN-025", hint)


class DeviceSigner:
    """`agent.batch.keys.Signer` with a key in a device; safe to use from several threads.

    ECDSA signatures of devices are different each time. Nothing relies on them being equal: a batch is signed once.

    Args:
        key: in the device.
        where: what errors name.
    """

    def __init__(self, key: DeviceKey, where: str) -> None:
        self._key = key
        self._where = where
        self._patience = Patience(where)
        self._lock = threading.Lock()
        self._public: PublicKey | None = None

    @property
    def public(self) -> PublicKey:
        """The public key; asks the device once.

        Raises:
            IdentityError: CG-IDN-020 to -025.
        """
        with self._lock:
            if self._public is None:
                self._public = self._patience.ask(self._key.read)
            return self._public

    @property
    def kid(self) -> bytes:
        """Thumbprint of the public key; errors as `public`."""
        return self.public.kid

    @property
    def algorithm(self) -> Algorithm:
        """What it signs with; errors as `public`."""
        return self.public.algorithm

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data`, 64 bytes.

        Raises:
            IdentityError: CG-IDN-020 to -026.
        """
        public = self.public
        with self._lock:
            signature = self._patience.ask(lambda: self._key.sign(data, public.algorithm))
        if not public.verify(signature, data):
            raise IdentityError(
                f"does not sign with key {public.kid.hex()} any more",
                where=self._where,
                hint="put the right device back; if its key was replaced, restart civigate and register the new one",
                code="CG-IDN-026",
                retryable=True,
            )
        return signature


def missing_package(package: str, extra: str, where: str) -> IdentityError:
    """Make the error for a library that is not installed."""
    return IdentityError(
        f"needs the Python package {package}",
        where=where,
        hint=f"pip install 'civigate[{extra}]'",
        code="CG-IDN-020",
    )


def device_error(what: str, where: str, code: str, hint: str) -> IdentityError:
    """Make the error for a device that does not do what it should; it may later."""
    return IdentityError(what, where=where, hint=hint, code=code, retryable=True)
