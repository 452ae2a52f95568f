-- SPDX-FileCopyrightText: 2026 civigate contributors
-- SPDX-License-Identifier: EUPL-1.2
--
-- usable from version 1
--
-- Made for an SD card: what is written with every commit lies in one place, at the end of `frame`. No secondary index, no
-- AUTOINCREMENT, no status per row. A frame leaves by a range delete; who still needs it follows from `stream` and `batch`.
-- The single row of `spool`, and `stream` and `account`, are snapshots: commits that only add frames do not touch them but
-- leave a note on their last frame (`frame.note`); what has happened since the snapshot is the sum of those notes.
-- What is read whole is covered by a checksum of the snapshot, rows that are read one by one have their own.

CREATE TABLE spool (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    spool_id    BLOB    NOT NULL,           -- 16 random bytes: this file and no copy of another
    gateway_eui BLOB,                       -- EUI-64 in the headers; NULL until it is known
    last_row    INTEGER NOT NULL,           -- newest frame.seq at the snapshot; numbers are never used again
    journal     INTEGER NOT NULL,           -- highest journal record contained at the snapshot
    session     INTEGER NOT NULL,           -- newest concentrator session at the snapshot
    next_anchor INTEGER NOT NULL,           -- number of the next anchor
    snapshot_crc32 INTEGER                  -- NULL before the first; over this row, stream, filter, hour, account, tombstone, and places in batch
) STRICT;

CREATE TABLE session (                      -- runs of the concentrator between two resets
    number  INTEGER PRIMARY KEY,
    boot_id BLOB    NOT NULL,
    row_crc32 INTEGER NOT NULL
) STRICT;

CREATE TABLE frame (                        -- columns as in agent.frame.Frame
    seq                 INTEGER PRIMARY KEY,  -- contiguous when written, for all destinations together
    route               INTEGER NOT NULL,     -- bit stream.bit is set: for that destination
    session             INTEGER NOT NULL,
    boottime_us         INTEGER NOT NULL,
    counter_us          INTEGER NOT NULL,
    frequency_hz        INTEGER NOT NULL,
    modulation          INTEGER NOT NULL,
    bandwidth_hz        INTEGER NOT NULL,
    datarate            INTEGER NOT NULL,
    coding_rate         INTEGER NOT NULL,
    crc                 INTEGER NOT NULL,
    rssi_ddbm           INTEGER NOT NULL,
    frequency_offset_hz INTEGER NOT NULL,
    if_chain            INTEGER NOT NULL,
    rf_chain            INTEGER NOT NULL,
    rssis_ddbm          INTEGER,
    snr_qdb             INTEGER,
    fine_timestamp_ns   INTEGER,
    phy_payload         BLOB    NOT NULL,
    row_crc32           INTEGER NOT NULL,     -- over everything else in the row: SQLite does not notice flipped bits
    note                BLOB                  -- on the last frame of a commit: CBOR [journal, [hour, stream, 9 counts, stream, ...], ...]
) STRICT;

CREATE TABLE stream (                       -- one sequence of batches to one destination
    id             INTEGER PRIMARY KEY,
    destination    TEXT    NOT NULL,
    bit            INTEGER NOT NULL,        -- in frame.route; a destination keeps its bit
    stream_id      BLOB    NOT NULL,        -- 16 random bytes
    open           INTEGER NOT NULL,        -- 0: replaced by a newer stream of the destination
    next_row       INTEGER NOT NULL,        -- first frame that is neither sealed nor taken out
    unsealed       INTEGER NOT NULL,        -- frames of the stream from there on, at the snapshot
    next_number    INTEGER NOT NULL,        -- of the next batch
    next_seq       INTEGER NOT NULL,        -- stream sequence number of its first frame
    last_hash      BLOB    NOT NULL,        -- SHA-256 of the signed header of batch next_number - 1
    through        INTEGER NOT NULL,        -- batches up to here are acknowledged
    through_hash   BLOB    NOT NULL,
    next_anchor    INTEGER NOT NULL,        -- first anchor that has not travelled
    hold_reason    INTEGER,                 -- refused for a reason that somebody else has to remove
    hold_detail    TEXT,
    stale_answers  INTEGER NOT NULL,        -- receipts and refusals that are older than what is known
    foreign_answers INTEGER NOT NULL,       -- receipts and refusals that do not fit what was sealed here
    signed_by      BLOB    NOT NULL,        -- kid that signed the newest batch; empty before the first
    signed_from    INTEGER NOT NULL,        -- first batch of that key
    successor      BLOB    NOT NULL,        -- kid that was announced last; empty for none
    announced      INTEGER NOT NULL         -- batch that announced it; 0: another stream did, and the platform knows it
) STRICT;

CREATE TABLE filter (                       -- which filter selected the frames of a stream, from which frame on
    stream    INTEGER NOT NULL,
    version   INTEGER NOT NULL,
    first_row INTEGER NOT NULL,
    digest    BLOB    NOT NULL,
    PRIMARY KEY (stream, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE batch (                        -- sealed: never changes, only its state does
    id            INTEGER PRIMARY KEY,      -- stream << 40 | number
    first_row     INTEGER NOT NULL,
    last_row      INTEGER NOT NULL,         -- first_row - 1: no frames
    frames        INTEGER NOT NULL,
    bytes         INTEGER NOT NULL,         -- weight of its frames in this file, about
    state         INTEGER NOT NULL,         -- 0 waiting, 1 acknowledged ahead of the chain, 2 quarantined, 3 withdrawn
    reason        INTEGER,                  -- quarantined: why
    detail        TEXT,
    signed_header BLOB    NOT NULL,
    context       BLOB    NOT NULL,         -- the body without its frames, in the batch format
    hours         BLOB    NOT NULL,         -- CBOR [hour, frames, hour, frames, ...]: when its frames were heard
    batch_crc32   INTEGER NOT NULL          -- over what never changes: all columns but state, reason, detail
) STRICT;

CREATE TABLE anchor (                       -- known pairs of CLOCK_BOOTTIME and UTC
    id             INTEGER PRIMARY KEY,
    boot_id        BLOB    NOT NULL,
    boottime_us    INTEGER NOT NULL,
    utc_us         INTEGER NOT NULL,
    uncertainty_us INTEGER NOT NULL,
    source         INTEGER NOT NULL,
    row_crc32      INTEGER NOT NULL
) STRICT;

CREATE TABLE tombstone (                    -- to be declared in the next batch; columns as in agent.batch.model.Tombstone
    stream            INTEGER NOT NULL,
    reason            INTEGER NOT NULL,
    first_number      INTEGER NOT NULL,     -- 0: frames that were in no batch; these are summed up in one row
    last_number       INTEGER NOT NULL,
    last_hash         BLOB    NOT NULL,
    count             INTEGER NOT NULL,
    first_boot_id     BLOB    NOT NULL,
    first_boottime_us INTEGER NOT NULL,
    last_boot_id      BLOB    NOT NULL,
    last_boottime_us  INTEGER NOT NULL,
    PRIMARY KEY (stream, reason, first_number)
) STRICT, WITHOUT ROWID;

CREATE TABLE hour (                         -- intervals of CLOCK_BOOTTIME that frames were heard in; 0: all others
    id      INTEGER PRIMARY KEY,            -- ascending as they began
    boot_id BLOB    NOT NULL,
    hour    INTEGER NOT NULL                -- CLOCK_BOOTTIME / 3600 s
) STRICT;

CREATE TABLE account (                      -- by hour of hearing; columns as in agent.batch.model.Account, at the snapshot
    stream      INTEGER NOT NULL,
    hour        INTEGER NOT NULL,
    scope       INTEGER NOT NULL,           -- 0 in no batch yet, 1 in batches of the stream, less what has left quarantine
    heard       INTEGER NOT NULL,
    bad_crc     INTEGER NOT NULL,
    filtered    INTEGER NOT NULL,
    duplicate   INTEGER NOT NULL,
    spooled     INTEGER NOT NULL,
    evicted     INTEGER NOT NULL,
    expired     INTEGER NOT NULL,
    quarantined INTEGER NOT NULL,
    overrun     INTEGER NOT NULL,
    delivered   INTEGER NOT NULL,           -- frames acknowledged
    PRIMARY KEY (stream, hour, scope)
) STRICT, WITHOUT ROWID;

CREATE TABLE imported (                     -- spools of other cards whose frames were taken over
    spool_id BLOB    PRIMARY KEY,
    last_row INTEGER NOT NULL               -- up to this frame there
) STRICT, WITHOUT ROWID;
