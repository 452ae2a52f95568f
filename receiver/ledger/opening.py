# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Which ledger a configuration means, the file in the data folder or a database: the only place that tells."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from agent.ownership import as_owner
from receiver.errors import ServiceError
from receiver.ledger.database import ENGINE, FILE_NAME
from receiver.ledger.schema import load
from receiver.ledger.sqlite import SqliteLedger, SqliteReader

if TYPE_CHECKING:
    from receiver.config import ReceiverConfig
    from receiver.ledger.reader import LedgerReader
    from receiver.ledger.writer import LedgerWriter


def open_ledger(config: ReceiverConfig, *, patient: bool = False) -> LedgerWriter:
    """Open the ledger for writing, and make it where there is none.

    Args:
        config: checked.
        patient: whether a server that cannot be reached now will do; then it is tried again with every batch.

    Raises:
        LedgerError: it cannot be opened; CG-LED-001, another process holds the file.
        ServiceError: CG-SRV-006, the driver of the database is missing.
    """
    limits = config.limits.quarantine
    if config.ledger.url is None:
        # SQLite gives what it makes later to whom the ledger belongs
        load(ENGINE)
        with as_owner(config.receiver.data_dir):
            return SqliteLedger(config.receiver.data_dir, limits)
    ledger: LedgerWriter = _postgres().PostgresLedger(config.ledger.url, limits, patient=patient)
    return ledger


def open_reader(config: ReceiverConfig) -> LedgerReader:
    """Open the ledger for queries alone, at the first of them.

    Raises:
        ServiceError: CG-SRV-006, the driver of the database is missing.
    """
    if config.ledger.url is None:
        return SqliteReader(config.receiver.data_dir / FILE_NAME)
    reader: LedgerReader = _postgres().PostgresReader(config.ledger.url)
    return reader


def _postgres() -> ModuleType:
    # a town does without: neither the driver nor the time to load it
    try:
        from receiver.ledger import postgres  # noqa: PLC0415
    except ImportError as error:
        hint = "install psycopg (Debian: python3-psycopg), or take the line out"
        raise ServiceError("a library is missing", where="[ledger] url", hint=hint, code="CG-SRV-006") from error
    return postgres
