-- SPDX-FileCopyrightText: 2026 civigate contributors
-- SPDX-License-Identifier: EUPL-1.2
--
-- Version 1 of the ledger. Times are microseconds since 1970-01-01 UTC unless named otherwise. docs/receiver-schema.md
-- explains it to those who query it; they should read the views, which are kept stable, not the tables.

CREATE TABLE gateway (
    id       INTEGER PRIMARY KEY,
    eui      BLOB    NOT NULL UNIQUE CHECK (length(eui) = 8),
    name     TEXT    NOT NULL,
    added_us INTEGER NOT NULL
) STRICT;

-- A gateway may have several keys at once: a new one overlaps the old while batches signed by the old remain.
CREATE TABLE gateway_key (
    kid        BLOB    PRIMARY KEY,
    gateway    INTEGER NOT NULL REFERENCES gateway (id),
    public_key TEXT    NOT NULL,
    added_us   INTEGER NOT NULL,
    revoked_us INTEGER              -- NULL while active
) STRICT, WITHOUT ROWID;

CREATE TABLE stream (
    id            INTEGER PRIMARY KEY,
    stream_id     BLOB    NOT NULL UNIQUE CHECK (length(stream_id) = 16),
    gateway       INTEGER NOT NULL REFERENCES gateway (id),
    through       INTEGER NOT NULL, -- every batch up to this number is committed or withdrawn
    hash          BLOB    NOT NULL, -- of batch `through`; 32 zero bytes for 0
    first_seen_us INTEGER NOT NULL,
    last_seen_us  INTEGER NOT NULL,
    frames        INTEGER NOT NULL  -- committed
) STRICT;

-- The gateway's account, summed over the committed batches. A batch that was withdrawn by a tombstone but arrived all
-- the same counts once, and its frames count as delivered.
CREATE TABLE account (
    stream        INTEGER PRIMARY KEY REFERENCES stream (id),
    heard         INTEGER NOT NULL DEFAULT 0,
    bad_crc       INTEGER NOT NULL DEFAULT 0,
    filtered      INTEGER NOT NULL DEFAULT 0,
    duplicate     INTEGER NOT NULL DEFAULT 0,
    spooled       INTEGER NOT NULL DEFAULT 0,
    evicted       INTEGER NOT NULL DEFAULT 0,
    expired       INTEGER NOT NULL DEFAULT 0,
    quarantined   INTEGER NOT NULL DEFAULT 0,
    overrun       INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Runs of batch numbers beyond `through` that are committed or withdrawn: batches may arrive out of order. Empty when
-- nothing is missing.
CREATE TABLE span (
    stream INTEGER NOT NULL REFERENCES stream (id),
    first  INTEGER NOT NULL,
    last   INTEGER NOT NULL,
    PRIMARY KEY (stream, first)
) STRICT, WITHOUT ROWID;

CREATE TABLE batch (
    stream         INTEGER NOT NULL REFERENCES stream (id),
    number         INTEGER NOT NULL CHECK (number > 0),
    hash           BLOB    NOT NULL,
    previous_hash  BLOB    NOT NULL,
    first_seq      INTEGER NOT NULL,
    frame_count    INTEGER NOT NULL,
    filter_version INTEGER NOT NULL,
    kid            BLOB    NOT NULL REFERENCES gateway_key (kid),
    signed_header  BLOB    NOT NULL, -- the COSE_Sign1 message as it was signed: the evidence
    received_us    INTEGER NOT NULL,
    health         TEXT    NOT NULL, -- JSON object of integers
    heard          INTEGER NOT NULL,
    bad_crc        INTEGER NOT NULL,
    filtered       INTEGER NOT NULL,
    duplicate      INTEGER NOT NULL,
    spooled        INTEGER NOT NULL,
    evicted        INTEGER NOT NULL,
    expired        INTEGER NOT NULL,
    quarantined    INTEGER NOT NULL,
    overrun        INTEGER NOT NULL,
    PRIMARY KEY (stream, number)
) STRICT;

-- One boot of one gateway: the time base of CLOCK_BOOTTIME.
CREATE TABLE boot (
    id      INTEGER PRIMARY KEY,
    gateway INTEGER NOT NULL REFERENCES gateway (id),
    boot_id BLOB    NOT NULL CHECK (length(boot_id) = 16),
    UNIQUE (gateway, boot_id)
) STRICT;

-- One run of the concentrator within a boot: the time base of its counter.
CREATE TABLE session (
    id     INTEGER PRIMARY KEY,
    boot   INTEGER NOT NULL REFERENCES boot (id),
    number INTEGER NOT NULL,
    UNIQUE (boot, number)
) STRICT;

-- Explicit ids in the order of commit: a consumer that remembers the last one it saw misses nothing, however late a
-- frame comes. AUTOINCREMENT so that an id is not given again after old rows were deleted.
CREATE TABLE frame (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    stream              INTEGER NOT NULL REFERENCES stream (id),
    seq                 INTEGER NOT NULL,
    session             INTEGER NOT NULL REFERENCES session (id),
    boottime_us         INTEGER NOT NULL,
    counter_us          INTEGER NOT NULL,
    utc_us              INTEGER, -- NULL while nothing ties the boot to UTC
    utc_error_us        INTEGER,
    utc_source          INTEGER,
    frequency_hz        INTEGER NOT NULL,
    modulation          INTEGER NOT NULL,
    bandwidth_hz        INTEGER NOT NULL,
    datarate            INTEGER NOT NULL,
    coding_rate         INTEGER NOT NULL,
    crc                 INTEGER NOT NULL,
    rssi_ddbm           INTEGER NOT NULL,
    rssis_ddbm          INTEGER,
    snr_qdb             INTEGER,
    frequency_offset_hz INTEGER NOT NULL,
    if_chain            INTEGER NOT NULL,
    rf_chain            INTEGER NOT NULL,
    fine_timestamp_ns   INTEGER,
    dev_addr            INTEGER, -- of data frames
    phy_payload         BLOB    NOT NULL,
    received_us         INTEGER NOT NULL,
    UNIQUE (stream, seq)
) STRICT;

-- Frames whose time a new anchor may improve are found by it.
CREATE INDEX frame_by_time ON frame (session, boottime_us);

-- Frames whose time is to be estimated anew because anchors came that they did not know.
CREATE TABLE revision (
    session  INTEGER PRIMARY KEY REFERENCES session (id),
    from_us  INTEGER NOT NULL, -- CLOCK_BOOTTIME
    after_id INTEGER NOT NULL, -- frames at from_us up to this id are done
    to_us    INTEGER NOT NULL
) STRICT;

CREATE TABLE anchor (
    stream         INTEGER NOT NULL,
    number         INTEGER NOT NULL,
    position       INTEGER NOT NULL,
    boot           INTEGER NOT NULL REFERENCES boot (id),
    boottime_us    INTEGER NOT NULL,
    utc_us         INTEGER NOT NULL,
    uncertainty_us INTEGER NOT NULL,
    source         INTEGER NOT NULL,
    PRIMARY KEY (stream, number, position),
    FOREIGN KEY (stream, number) REFERENCES batch (stream, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX anchor_by_time ON anchor (boot, source, boottime_us);

-- Gaps that the gateway declared. A tombstone that names batches closes the chain over them.
CREATE TABLE tombstone (
    stream            INTEGER NOT NULL,
    number            INTEGER NOT NULL, -- of the batch that brought it
    position          INTEGER NOT NULL,
    count             INTEGER NOT NULL,
    reason            INTEGER NOT NULL,
    first_boot_id     BLOB    NOT NULL, -- 16 zero bytes where not known
    first_boottime_us INTEGER NOT NULL,
    last_boot_id      BLOB    NOT NULL,
    last_boottime_us  INTEGER NOT NULL,
    first_number      INTEGER NOT NULL, -- first withdrawn batch, 0 where the frames were in none
    last_number       INTEGER NOT NULL,
    last_hash         BLOB    NOT NULL,
    PRIMARY KEY (stream, number, position),
    FOREIGN KEY (stream, number) REFERENCES batch (stream, number)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX tombstone_by_batch ON tombstone (stream, last_number) WHERE last_number > 0;

-- Bytes that were not accepted, for the operator to look at. Bounded; the first evidence is kept, not the latest.
CREATE TABLE quarantine (
    id          INTEGER PRIMARY KEY,
    received_us INTEGER NOT NULL,
    reason      INTEGER NOT NULL,
    sender      TEXT    NOT NULL, -- where it came from: address or topic
    kid         BLOB,             -- of the signature, where it verified
    batch_hash  BLOB    NOT NULL UNIQUE,
    stream_id   BLOB    NOT NULL,
    number      INTEGER NOT NULL,
    detail      TEXT    NOT NULL,
    wire        BLOB    NOT NULL
) STRICT;

-- What an operator must hear of. The same event again counts up.
CREATE TABLE alarm (
    id        INTEGER PRIMARY KEY,
    kind      TEXT    NOT NULL,
    subject   TEXT    NOT NULL, -- gateway EUI or kid, hex
    stream_id BLOB    NOT NULL,
    number    INTEGER NOT NULL,
    detail    TEXT    NOT NULL,
    first_us  INTEGER NOT NULL,
    last_us   INTEGER NOT NULL,
    count     INTEGER NOT NULL,
    UNIQUE (kind, subject, stream_id, number)
) STRICT;

-- For those who query: one row per reception, names instead of numbers.
CREATE VIEW reception AS
SELECT
    frame.id                                AS id,
    lower(hex(gateway.eui))                 AS gateway,
    lower(hex(stream.stream_id))            AS stream,
    frame.seq                               AS seq,
    frame.utc_us                            AS utc_us,
    frame.utc_error_us                      AS utc_error_us,
    CASE frame.utc_source WHEN 1 THEN 'kernel' WHEN 2 THEN 'gnss' WHEN 3 THEN 'platform' END AS utc_source,
    lower(hex(boot.boot_id))                AS boot,
    session.number                          AS session,
    frame.boottime_us                       AS boottime_us,
    frame.counter_us                        AS counter_us,
    frame.frequency_hz                      AS frequency_hz,
    CASE frame.modulation WHEN 0 THEN 'LORA' WHEN 1 THEN 'FSK' END AS modulation,
    frame.bandwidth_hz                      AS bandwidth_hz,
    frame.datarate                          AS datarate,
    CASE WHEN frame.coding_rate > 0 THEN '4/' || (frame.coding_rate + 4) END AS coding_rate,
    CASE frame.crc WHEN 0 THEN 'ok' WHEN 1 THEN 'bad' WHEN 2 THEN 'none' END AS crc,
    frame.rssi_ddbm / 10.0                  AS rssi_dbm,
    frame.rssis_ddbm / 10.0                 AS rssis_dbm,
    frame.snr_qdb / 4.0                     AS snr_db,
    frame.frequency_offset_hz               AS frequency_offset_hz,
    frame.if_chain                          AS if_chain,
    frame.rf_chain                          AS rf_chain,
    frame.fine_timestamp_ns                 AS fine_timestamp_ns,
    CASE WHEN frame.dev_addr IS NOT NULL THEN printf('%08x', frame.dev_addr) END AS dev_addr,
    lower(hex(frame.phy_payload))           AS phy_payload,
    frame.received_us                       AS received_us
FROM frame
JOIN stream ON stream.id = frame.stream
JOIN gateway ON gateway.id = stream.gateway
JOIN session ON session.id = frame.session
JOIN boot ON boot.id = session.boot;
