# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""The certificates of one destination: three sets, so that a bad one never strands a gateway on a mast.

A set is a folder that never changes: a certificate, the TLS key that belongs to it, and the authorities of the platform
that came with it. One small file says which set is which; replacing it, in one rename, changes all roles at once. A new
set is a candidate. It becomes current when it has carried a receipt, and what was current stays as previous; the one
from the enrolment stays as factory. When TLS fails because of certificates, the next set is tried, round and round.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from agent import durable
from agent.batch import keyfile
from agent.batch.keys import Algorithm
from agent.enrolment import certificate
from agent.enrolment.certificate import Validity
from agent.errors import IdentityError

CERTIFICATE_FILE = "certificate.pem"
KEY_FILE = "key.pem"
AUTHORITIES_FILE = "platform-ca.pem"
ROLES_FILE = "roles.json"
NEXT_KEY_FILE = "next.key"
LOCK_FILE = "lock"
_MODE = 0o600
SILENT_FAILURES = 3
"""So many connections in a row that end without a word count like one that ends because of the certificate."""
_ID_DIGITS = 16
_MAX_ROLES_BYTES = 4096

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Roles:
    """Which set is which, by name; None where there is none.

    Attributes:
        candidate: new, has not carried a receipt yet.
        current: the last one that became so by carrying a receipt.
        previous: what was current before.
        factory: from the enrolment.
    """

    candidate: str | None = None
    current: str | None = None
    previous: str | None = None
    factory: str | None = None

    def order(self) -> list[str]:
        """Return the names in the order in which they are tried."""
        names = (self.candidate, self.current, self.previous, self.factory)
        return list(dict.fromkeys(name for name in names if name is not None))


@dataclass(frozen=True, slots=True)
class CertificateSet:
    """One set.

    Attributes:
        name: first digits of the certificate's SHA-256.
        folder: with its files.
        der: the gateway's certificate.
        validity: of it.
        authorities: file of those that certify the platform, None for those of the system or the configuration.
    """

    name: str
    folder: Path
    der: bytes
    validity: Validity
    authorities: Path | None

    @property
    def certificate(self) -> Path:
        """The certificate and those behind it, PEM."""
        return self.folder / CERTIFICATE_FILE

    @property
    def key(self) -> Path:
        """The TLS key, PEM."""
        return self.folder / KEY_FILE


class CertificateSets:
    """The sets of one destination. Safe to use from several threads, and beside a command that changes them.

    Args:
        folder: of the destination; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._stamp: tuple[int, int] | None = None
        self._roles = Roles()
        self._failed: set[str] = set()
        self._silent: dict[str, int] = {}
        self._fell_back = False
        self._all_failed = False
        self._depth = 0
        self._opened: dict[str, CertificateSet] = {}
        self.using = ""
        """Name of the set of the latest connection, "" for none; noted by the transport."""
        self.noted: Callable[[], None] = lambda: None
        """Called when a set has become current, or a renewal urgent."""

    def __bool__(self) -> bool:
        return bool(self.order())

    @property
    def roles(self) -> Roles:
        """Which set is which."""
        with self._lock:
            self._look()
            return self._roles

    @property
    def urgent(self) -> bool:
        """Whether a new certificate is needed whatever the old one's end: the current one, or all, were refused."""
        with self._lock:
            return self._fell_back or self._all_failed

    def order(self) -> list[CertificateSet]:
        """Return the sets that can be used, in the order in which they are tried."""
        with self._lock:
            self._look()
            return [one for name in self._roles.order() if (one := self._open(name)) is not None]

    def choose(self) -> CertificateSet | None:
        """Return the set for the next connection, None where there is none."""
        with self._lock:
            order = self.order()
            for one in order:
                if one.name not in self._failed:
                    return one
            return order[0] if order else None

    def newest(self) -> CertificateSet | None:
        """Return the set that is valid longest: the one that a renewal goes out from."""
        return max(self.order(), key=lambda one: one.validity.not_after_us, default=None)

    def failed(self, name: str, *, certain: bool) -> None:
        """Note that a connection with a set failed.

        Args:
            name: of the set.
            certain: whether because of certificates; otherwise it just ended, which may have other reasons.
        """
        with self._lock:
            self._silent[name] = self._silent.get(name, 0) + 1
            if not certain and self._silent[name] < SILENT_FAILURES:
                return
            self._silent.pop(name)
            self._failed.add(name)
            left = [one.name for one in self.order() if one.name not in self._failed]
            if left:
                _log.warning("event=certificate_refused set=%s next=%s", name, left[0])
                return
            # all were refused: it may be the platform, so all get another turn
            self._failed.clear()
            self._all_failed = True
            self.noted()

    def carried(self, name: str) -> None:
        """Note that a verified receipt came over a connection with a set."""
        with self._lock:
            self._silent.pop(name, None)
            self._all_failed = False
            roles = self.roles
            refused = roles.candidate is not None and roles.candidate in self._failed
            if name == roles.candidate or refused:
                self._settle(name)
            if roles.current in self._failed and name != roles.current and not self._fell_back:
                _log.error("event=certificate_fallback set=%s what=the current certificate was refused", name)
                self._fell_back = True
                self.noted()

    def _settle(self, name: str) -> None:
        """Make the candidate current, or drop it because another set works where it was refused."""
        with self._changing():
            roles = self.roles
            if name == roles.candidate:
                self._change(replace(roles, candidate=None, current=name, previous=roles.current))
                self._fell_back = False
                self._failed.clear()
                _log.info("event=certificate_current set=%s", name)
                self.noted()
            elif roles.candidate in self._failed:
                _log.error("event=certificate_dropped set=%s what=the new certificate was refused", roles.candidate)
                self._change(replace(roles, candidate=None))

    def next_key(self) -> ec.EllipticCurvePrivateKey:
        """Return the TLS key of the certificate that is asked for next; it stays until that one has come.

        So a request that is repeated, because the answer was lost, is for the same key and gets the same certificate.

        Raises:
            IdentityError: it cannot be made or read.
        """
        with self._changing():
            path = self._folder / NEXT_KEY_FILE
            keyfile.load_or_create(path, Algorithm.ES256)
            return _private_key(path)

    def take_key(self, drawer: CertificateSets) -> None:
        """Take over the next key of other sets.

        Raises:
            IdentityError: it cannot be moved.
        """
        with self._changing():
            drawer.next_key()
            (drawer._folder / NEXT_KEY_FILE).replace(self._folder / NEXT_KEY_FILE)
            durable.sync(self._folder)

    def add(self, chain_pem: bytes, authorities_pem: bytes, *, enrolled: bool) -> CertificateSet:
        """Keep a new certificate for the next key, as candidate.

        Args:
            chain_pem: the certificate first.
            authorities_pem: of the platform; empty for none.
            enrolled: whether it comes from an enrolment, and is what the gateway falls back to in the end.

        Raises:
            IdentityError: CG-ENR-003 it cannot be read, -004 it is for another key, -005 it cannot be kept.
        """
        key = self.next_key()
        leaf = certificate.chain_from_pem(chain_pem, "certificate")[0]
        if authorities_pem:
            certificate.chain_from_pem(authorities_pem, "authorities of the platform")
        if certificate.public_key_digest(leaf) != certificate.public_key_digest(key):
            hint = "a certificate goes with the latest 'civigate identity csr' or 'civigate enrol' on this gateway"
            raise IdentityError("is for another key", where="certificate", hint=hint, code="CG-ENR-004")
        der = leaf.public_bytes(Encoding.DER)
        name = certificate.fingerprint(der).hex()[:_ID_DIGITS]
        with self._changing(), _writing(self._folder):
            if not (self._folder / name).exists():
                draft = self._folder / f".{name}.new"
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir(mode=0o700)
                durable.create(draft / CERTIFICATE_FILE, chain_pem, _MODE)
                durable.create(draft / KEY_FILE, (self._folder / NEXT_KEY_FILE).read_bytes(), _MODE)
                if authorities_pem:
                    durable.create(draft / AUTHORITIES_FILE, authorities_pem, _MODE)
                durable.sync(draft)
                draft.rename(self._folder / name)
                durable.sync(self._folder)
            roles = self.roles
            candidate = None if name == roles.current else name
            factory = name if enrolled or roles.factory is None else roles.factory
            self._change(replace(roles, candidate=candidate, factory=factory))
            (self._folder / NEXT_KEY_FILE).unlink()
            self._failed.clear()
            self._fell_back = self._all_failed = False
        made = self._open(name)
        assert made is not None, "it was just written"
        return made

    # -- the files

    def _look(self) -> None:
        """Read the roles again if another process has changed them."""
        path = self._folder / ROLES_FILE
        try:
            status = path.stat()
        except OSError:
            self._stamp, self._roles = None, Roles()
            return
        stamp = (status.st_ino, status.st_mtime_ns)
        if stamp == self._stamp:
            return
        try:
            with path.open("rb") as file:
                said = json.loads(file.read(_MAX_ROLES_BYTES))
            roles = _roles(said)
        except (OSError, ValueError, KeyError, TypeError):
            _log.error("event=certificate_roles_damaged file=%s", path)
            roles = self._guess()
        self._stamp, self._roles = stamp, roles

    def _guess(self) -> Roles:
        """Say which set is which from the sets alone: the latest is current, the oldest from the enrolment."""
        names_found: list[str] = []
        with contextlib.suppress(OSError):
            names_found = [path.name for path in self._folder.iterdir() if _is_name(path.name)]
        found = [one for name in names_found if (one := self._open(name)) is not None]
        names = [one.name for one in sorted(found, key=lambda one: one.validity.not_after_us, reverse=True)]
        if not names:
            return Roles()
        return Roles(current=names[0], previous=names[1] if len(names) > 1 else None, factory=names[-1])

    def _open(self, name: str) -> CertificateSet | None:
        """Read a set, which never changes; None if it cannot be used."""
        if name in self._opened:
            return self._opened[name]
        folder = self._folder / name
        try:
            leaf = certificate.chain_from_pem((folder / CERTIFICATE_FILE).read_bytes(), str(folder))[0]
        except (OSError, IdentityError) as error:
            _log.error("event=certificate_unreadable set=%s problem=%s", name, error)
            return None
        authorities = folder / AUTHORITIES_FILE
        self._opened[name] = CertificateSet(
            name,
            folder,
            leaf.public_bytes(Encoding.DER),
            certificate.validity(leaf),
            authorities if authorities.exists() else None,
        )
        return self._opened[name]

    def _change(self, roles: Roles) -> None:
        """Give the sets their roles, in one rename, and remove those that have none."""
        with _writing(self._folder):
            path = self._folder / ROLES_FILE
            draft = path.with_name(f".{path.name}.new")
            draft.unlink(missing_ok=True)
            durable.create(draft, json.dumps(asdict(roles)).encode(), _MODE)
            draft.rename(path)
            durable.sync(self._folder)
            self._look()
            for old in self._folder.iterdir():
                if _is_name(old.name) and old.name not in roles.order():
                    shutil.rmtree(old, ignore_errors=True)
                    self._opened.pop(old.name, None)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Keep other threads and processes from changing anything."""
        with self._lock, _writing(self._folder):
            if self._depth:
                yield
                return
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
            self._depth += 1
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                self._depth -= 1
                os.close(descriptor)


def _roles(said: dict[str, str | None]) -> Roles:
    names = {role: said[role] for role in asdict(Roles())}
    if not all(name is None or _is_name(name) for name in names.values()):
        raise ValueError
    return Roles(**names)


def _is_name(text: object) -> bool:
    return isinstance(text, str) and len(text) == _ID_DIGITS and set(text) <= set("0123456789abcdef")


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    private = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        hint = "remove it: a new one is made"
        raise IdentityError("is not a P-256 key", where=str(path), hint=hint, code="CG-ENR-005")
    return private


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "check owner, permissions and room of the folder; it is in [gateway] state_dir"
        raise IdentityError(
            f"cannot be written: {error.strerror}", where=str(folder), hint=hint, code="CG-ENR-005"
        ) from error
