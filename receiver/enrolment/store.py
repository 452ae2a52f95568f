# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""What enrolment remembers: claim codes, who asked, which certificates were issued. One small SQLite file.

It stands beside the ledger, because only one receiver of an operator takes enrolments, on whatever database the ledger
is. Every method is one transaction, durable when it returns; a rollback journal instead of a log lets commands and the
receiver write it in turn.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from agent.ownership import as_owner
from receiver.errors import LedgerError
from receiver.ledger.database import translated

FILE_NAME = "enrolment.db"
SCHEMA_VERSION = 1
BUSY_LIMIT_S = 10.0
MAX_CLAIMS = 100_000
MAX_PENDING = 1000
"""Gateways that wait for approval; one more is turned away, so that strangers cannot fill the disk, unless ..."""
LEFT_US = 3_600_000_000
"""... one has not asked for so long: it gives way, so that strangers cannot keep the others out for ever either."""

_SCHEMA = """
CREATE TABLE claim (
    digest     BLOB    PRIMARY KEY,  -- of the code, which itself is nowhere
    eui        BLOB,                 -- NULL for whichever gateway comes with it
    name       TEXT    NOT NULL,
    made_us    INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    used_us    INTEGER,
    used_by    BLOB                  -- kid
) STRICT, WITHOUT ROWID;
CREATE TABLE applicant (
    kid        BLOB    PRIMARY KEY,
    eui        BLOB    NOT NULL,
    public_key TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    sender     TEXT    NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('pending', 'approved', 'rejected')),
    first_us   INTEGER NOT NULL,
    last_us    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE certificate (
    fingerprint   BLOB    PRIMARY KEY, -- SHA-256 of the DER
    serial        TEXT    NOT NULL,    -- decimal: up to 160 bits
    eui           BLOB    NOT NULL,
    kid           BLOB    NOT NULL,
    key_digest    BLOB    NOT NULL,    -- SHA-256 of its public key
    der           BLOB    NOT NULL,
    issued_us     INTEGER NOT NULL,
    not_after_us  INTEGER NOT NULL,
    revoked_us    INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX certificate_by_key ON certificate (key_digest);
CREATE INDEX certificate_by_eui ON certificate (eui);
"""


class Admission(Enum):
    """What became of a claim code."""

    TAKEN = "taken"
    """It let this gateway in, now or before."""
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    USED = "used already"
    ELSEWHERE = "for another gateway"
    OCCUPIED = "for any gateway, but this EUI is registered with another key"


@dataclass(frozen=True, slots=True)
class Claim:
    """An invitation.

    Attributes:
        digest: of the code, 32 bytes.
        eui: of the only gateway it is for; None for any.
        name: the gateway shall get.
        made_us: UTC, microseconds, as all times here.
        expires_us: after which it is no good.
        used_us: None while unused.
        used_by: kid of the gateway that used it.
    """

    digest: bytes
    eui: bytes | None
    name: str
    made_us: int
    expires_us: int
    used_us: int | None = None
    used_by: bytes | None = None


@dataclass(frozen=True, slots=True)
class Applicant:
    """A gateway that asked.

    Attributes:
        kid: thumbprint of its key.
        eui: that it says it has.
        public_key: one-line text form.
        name: that it or its invitation gives it.
        sender: address it asked from.
        state: "pending", "approved" or "rejected".
        first_us: when it asked first.
        last_us: when it asked last.
    """

    kid: bytes
    eui: bytes
    public_key: str
    name: str
    sender: str
    state: str
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was issued.

    Attributes:
        fingerprint: SHA-256 of its DER.
        serial: number.
        eui: whose it is.
        kid: of the key that asked for it.
        key_digest: SHA-256 of its public key.
        der: itself.
        issued_us: when.
        not_after_us: its end.
        revoked_us: None while good.
    """

    fingerprint: bytes
    serial: int
    eui: bytes
    kid: bytes
    key_digest: bytes
    der: bytes
    issued_us: int
    not_after_us: int
    revoked_us: int | None = None


class EnrolmentStore:
    """The file in a data folder. Safe to use from several threads.

    Args:
        data_dir: of the receiver; must exist.

    Raises:
        LedgerError: it cannot be opened.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE_NAME
        self._lock = threading.Lock()
        # SQLite gives the journals that it makes later to whom the file belongs
        with as_owner(data_dir), translated(self._path):
            # a missing folder and one that is not ours are named by SQLite, below
            with contextlib.suppress(OSError):
                self._path.touch(mode=0o600)
            self._db = sqlite3.connect(self._path, timeout=BUSY_LIMIT_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA synchronous = EXTRA")
            with self._transaction() as db:
                (version,) = db.execute("PRAGMA user_version").fetchone()
                if version > SCHEMA_VERSION:
                    hint = "install the version that wrote it, or a later one"
                    what = f"version {version}, this program knows {SCHEMA_VERSION}"
                    raise LedgerError(what, where=str(self._path), hint=hint, code="CG-LED-006")
                if version == 0:
                    for statement in filter(str.strip, _SCHEMA.split(";")):
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    # -- claims

    def invite(self, claim: Claim) -> None:
        """Keep an invitation, and forget those that expired unused long ago when there are too many."""
        with self._transaction() as db:
            db.execute(
                "DELETE FROM claim WHERE used_us IS NULL AND expires_us < ? AND (SELECT count(*) FROM claim) >= ?",
                (claim.made_us, MAX_CLAIMS),
            )
            db.execute(
                "INSERT INTO claim (digest, eui, name, made_us, expires_us) VALUES (?, ?, ?, ?, ?)",
                (claim.digest, claim.eui, claim.name, claim.made_us, claim.expires_us),
            )

    def claims(self) -> list[Claim]:
        """List the invitations, oldest first."""
        with self._transaction() as db:
            rows = db.execute(
                "SELECT digest, eui, name, made_us, expires_us, used_us, used_by FROM claim ORDER BY made_us, digest"
            ).fetchall()
        return [Claim(*row) for row in rows]

    def is_open(self, digest: bytes, at_us: int) -> bool:
        """Tell whether a code is good for somebody."""
        with self._transaction() as db:
            row = db.execute(
                "SELECT 1 FROM claim WHERE digest = ? AND used_us IS NULL AND expires_us > ?", (digest, at_us)
            ).fetchone()
        return row is not None

    def withdraw(self, eui: bytes | None) -> int:
        """Take back the unused invitations for a gateway, None for those for any; return how many there were."""
        with self._transaction() as db:
            return db.execute("DELETE FROM claim WHERE eui IS ? AND used_us IS NULL", (eui,)).rowcount

    def withdraw_one(self, begin: bytes) -> int:
        """Take back the unused invitations whose digest begins like this; return how many there were."""
        with self._transaction() as db:
            return db.execute(
                "DELETE FROM claim WHERE substr(digest, 1, ?) = ? AND used_us IS NULL", (len(begin), begin)
            ).rowcount

    def claimed(self, digest: bytes, applicant: Applicant, *, occupied: bool, again: bool) -> Admission:
        """Let a gateway in with a code: use the code up and note the gateway as approved, both or neither.

        The gateway that used a code may come with it again as long as it is not in: it may have been interrupted.

        Args:
            digest: of the code.
            applicant: the gateway, now.
            occupied: whether its EUI is registered with another key; then only a code for that EUI will do.
            again: whether the code that it has used already will do.
        """
        with self._transaction() as db:
            row = db.execute(
                "SELECT digest, eui, name, made_us, expires_us, used_us, used_by FROM claim WHERE digest = ?",
                (digest,),
            ).fetchone()
            if row is None:
                return Admission.UNKNOWN
            claim = Claim(*row)
            if claim.used_by is not None:
                known = _applicant(db, applicant.kid)
                same = again and claim.used_by == applicant.kid and known is not None and known.eui == applicant.eui
                return Admission.TAKEN if same else Admission.USED
            if claim.expires_us <= applicant.last_us:
                return Admission.EXPIRED
            if claim.eui is None and occupied:
                return Admission.OCCUPIED
            if claim.eui not in {None, applicant.eui}:
                return Admission.ELSEWHERE
            db.execute(
                "UPDATE claim SET used_us = ?, used_by = ? WHERE digest = ?",
                (applicant.last_us, applicant.kid, digest),
            )
            _note(db, applicant, "approved", claim.name or applicant.name)
            return Admission.TAKEN

    # -- applicants

    def applied(self, applicant: Applicant) -> Applicant | None:
        """Note that a gateway asked without a code; return what is known of it, None if too many wait."""
        with self._transaction() as db:
            known = _applicant(db, applicant.kid)
            if known is None:
                (waiting,) = db.execute("SELECT count(*) FROM applicant WHERE state = 'pending'").fetchone()
                if waiting >= MAX_PENDING:
                    left = db.execute(
                        "DELETE FROM applicant WHERE kid = (SELECT kid FROM applicant WHERE state = 'pending'"
                        " AND last_us < ? ORDER BY last_us LIMIT 1)",
                        (applicant.last_us - LEFT_US,),
                    )
                    if left.rowcount == 0:
                        return None
                _note(db, applicant, "pending", applicant.name)
            elif known.state == "pending":
                db.execute(
                    "UPDATE applicant SET eui = ?, name = ?, sender = ?, last_us = ? WHERE kid = ?",
                    (applicant.eui, applicant.name, applicant.sender, applicant.last_us, applicant.kid),
                )
            return _applicant(db, applicant.kid)

    def decide(self, kid: bytes, state: str) -> None:
        """Note that a person said yes ("approved") or no ("rejected")."""
        with self._transaction() as db:
            db.execute("UPDATE applicant SET state = ? WHERE kid = ?", (state, kid))

    def applicant(self, kid: bytes) -> Applicant | None:
        """Return what is known of a gateway that asked."""
        with self._transaction() as db:
            return _applicant(db, kid)

    def applicants(self, state: str) -> list[Applicant]:
        """List those in a state, by the time they asked first."""
        with self._transaction() as db:
            rows = db.execute(f"{_APPLICANT} WHERE state = ? ORDER BY first_us, kid", (state,)).fetchall()
        return [Applicant(*row) for row in rows]

    # -- certificates

    def certificate_for(self, eui: bytes, key_digest: bytes) -> Issued | None:
        """Return the latest certificate of a gateway for a public key."""
        with self._transaction() as db:
            row = db.execute(
                f"{_ISSUED} WHERE eui = ? AND key_digest = ? ORDER BY issued_us DESC LIMIT 1", (eui, key_digest)
            ).fetchone()
        return None if row is None else _issued(row)

    def certificate(self, fingerprint: bytes) -> Issued | None:
        """Return a certificate by its fingerprint."""
        with self._transaction() as db:
            row = db.execute(f"{_ISSUED} WHERE fingerprint = ?", (fingerprint,)).fetchone()
        return None if row is None else _issued(row)

    def certificates_of(self, eui: bytes) -> list[Issued]:
        """List the certificates of a gateway, by age."""
        with self._transaction() as db:
            rows = db.execute(f"{_ISSUED} WHERE eui = ? ORDER BY issued_us", (eui,)).fetchall()
        return [_issued(row) for row in rows]

    def certificates(self) -> list[Issued]:
        """List all certificates, by gateway and age."""
        with self._transaction() as db:
            rows = db.execute(f"{_ISSUED} ORDER BY eui, issued_us").fetchall()
        return [_issued(row) for row in rows]

    def first_end_us(self, since_us: int) -> int | None:
        """Return when the first gateway's certificate ends, of those that have one which ends after a moment."""
        with self._transaction() as db:
            (end_us,) = db.execute(
                "SELECT min(end_us) FROM (SELECT max(not_after_us) AS end_us FROM certificate"
                " WHERE revoked_us IS NULL GROUP BY eui) WHERE end_us > ?",
                (since_us,),
            ).fetchone()
        return None if end_us is None else int(end_us)

    def keep(self, issued: Issued) -> None:
        """Keep a certificate before it is given away: what nobody knows of could not be revoked."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO certificate (fingerprint, serial, eui, kid, key_digest, der, issued_us, not_after_us)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    issued.fingerprint,
                    str(issued.serial),
                    issued.eui,
                    issued.kid,
                    issued.key_digest,
                    issued.der,
                    issued.issued_us,
                    issued.not_after_us,
                ),
            )

    def revoke(self, eui: bytes, serial: int | None, at_us: int) -> int:
        """Revoke one certificate of a gateway, or all; return how many were good until now."""
        with self._transaction() as db:
            return db.execute(
                "UPDATE certificate SET revoked_us = ? WHERE eui = ? AND revoked_us IS NULL"
                " AND (? IS NULL OR serial = ?)",
                (at_us, eui, serial if serial is None else 1, str(serial)),
            ).rowcount

    def is_revoked(self, fingerprint: bytes) -> bool:
        """Tell whether a certificate was revoked; asked with every batch."""
        with self._lock, translated(self._path):
            row = self._db.execute(
                "SELECT 1 FROM certificate WHERE fingerprint = ? AND revoked_us IS NOT NULL", (fingerprint,)
            ).fetchone()
        return row is not None

    def revoked(self) -> list[Issued]:
        """List the revoked certificates, also those that have expired: a clock may be wrong."""
        with self._transaction() as db:
            rows = db.execute(f"{_ISSUED} WHERE revoked_us IS NOT NULL ORDER BY revoked_us, serial").fetchall()
        return [_issued(row) for row in rows]

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, translated(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")


_APPLICANT = "SELECT kid, eui, public_key, name, sender, state, first_us, last_us FROM applicant"
_ISSUED = "SELECT fingerprint, serial, eui, kid, key_digest, der, issued_us, not_after_us, revoked_us FROM certificate"


def _applicant(db: sqlite3.Connection, kid: bytes) -> Applicant | None:
    row = db.execute(f"{_APPLICANT} WHERE kid = ?", (kid,)).fetchone()
    return None if row is None else Applicant(*row)


def _note(db: sqlite3.Connection, applicant: Applicant, state: str, name: str) -> None:
    db.execute(
        "INSERT INTO applicant VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kid) DO UPDATE SET"
        " eui = excluded.eui, name = excluded.name, state = excluded.state, last_us = excluded.last_us",
        (
            applicant.kid,
            applicant.eui,
            applicant.public_key,
            name,
            applicant.sender,
            state,
            applicant.first_us,
            applicant.last_us,
        ),
    )


def _issued(row: tuple[bytes, str, bytes, bytes, bytes, bytes, int, int, int | None]) -> Issued:
    return Issued(row[0], int(row[1]), *row[2:])
