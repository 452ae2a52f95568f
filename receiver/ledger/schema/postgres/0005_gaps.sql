-- SPDX-FileCopyrightText: 2026 civigate contributors
-- SPDX-License-Identifier: EUPL-1.2
--
-- Each is explained in schema/sqlite.

CREATE TABLE batch_hour (
    stream      BIGINT NOT NULL,
    number      BIGINT NOT NULL,
    boot        BIGINT NOT NULL,
    hour        BIGINT NOT NULL,
    heard       BIGINT NOT NULL,
    bad_crc     BIGINT NOT NULL,
    filtered    BIGINT NOT NULL,
    duplicate   BIGINT NOT NULL,
    spooled     BIGINT NOT NULL,
    evicted     BIGINT NOT NULL,
    expired     BIGINT NOT NULL,
    quarantined BIGINT NOT NULL,
    overrun     BIGINT NOT NULL,
    frames      BIGINT NOT NULL,
    late        BIGINT NOT NULL, -- of these, came long after they were heard
    PRIMARY KEY (stream, number, boot, hour),
    FOREIGN KEY (stream, number) REFERENCES batch (stream, number)
);

CREATE TABLE hour_account (
    stream      BIGINT NOT NULL REFERENCES stream (id),
    boot        BIGINT NOT NULL,
    hour        BIGINT NOT NULL,
    heard       BIGINT NOT NULL,
    bad_crc     BIGINT NOT NULL,
    filtered    BIGINT NOT NULL,
    duplicate   BIGINT NOT NULL,
    spooled     BIGINT NOT NULL,
    evicted     BIGINT NOT NULL,
    expired     BIGINT NOT NULL,
    quarantined BIGINT NOT NULL,
    overrun     BIGINT NOT NULL,
    frames      BIGINT NOT NULL,
    late        BIGINT NOT NULL,
    PRIMARY KEY (stream, boot, hour)
);

INSERT INTO batch_hour
SELECT stream, number, 0, 0, heard, bad_crc, filtered, duplicate, spooled, evicted, expired, quarantined, overrun,
    frame_count, 0
FROM batch;
INSERT INTO hour_account
SELECT stream.id, 0, 0, heard, bad_crc, filtered, duplicate, spooled, evicted, expired, quarantined, overrun, frames, 0
FROM stream JOIN account ON account.stream = stream.id;

CREATE INDEX frame_by_utc ON frame (utc_us);
CREATE INDEX frame_by_device ON frame (COALESCE(dev_addr, -1), utc_us);

CREATE VIEW gap_ledger AS
SELECT
    encode(gateway.eui, 'hex')   AS gateway,
    encode(stream.stream_id, 'hex') AS stream,
    encode(boot.boot_id, 'hex')     AS boot,
    CASE WHEN hour_account.boot <> 0 THEN hour_account.hour END AS hour,
    hour_account.hour * 3600000000 + COALESCE(
        (SELECT utc_us - boottime_us FROM anchor WHERE anchor.boot = hour_account.boot AND source = 2
            AND boottime_us >= hour_account.hour * 3600000000 ORDER BY boottime_us LIMIT 1),
        (SELECT utc_us - boottime_us FROM anchor WHERE anchor.boot = hour_account.boot AND source = 1
            AND boottime_us >= hour_account.hour * 3600000000 ORDER BY boottime_us LIMIT 1),
        (SELECT utc_us - boottime_us FROM anchor WHERE anchor.boot = hour_account.boot AND source = 3
            AND boottime_us >= hour_account.hour * 3600000000 ORDER BY boottime_us LIMIT 1),
        (SELECT utc_us - boottime_us FROM anchor WHERE anchor.boot = hour_account.boot AND source = 2
            ORDER BY boottime_us DESC LIMIT 1),
        (SELECT utc_us - boottime_us FROM anchor WHERE anchor.boot = hour_account.boot AND source = 1
            ORDER BY boottime_us DESC LIMIT 1),
        (SELECT utc_us - boottime_us FROM anchor WHERE anchor.boot = hour_account.boot AND source = 3
            ORDER BY boottime_us DESC LIMIT 1),
        (SELECT frame.utc_us - frame.boottime_us FROM session JOIN frame ON frame.session = session.id
            WHERE session.boot = hour_account.boot AND frame.utc_us IS NOT NULL LIMIT 1)
    )                            AS begin_us,
    heard                        AS heard,
    bad_crc                      AS bad_crc,
    filtered                     AS filtered,
    duplicate                    AS duplicate,
    spooled                      AS kept,
    hour_account.frames          AS received,
    late                         AS late,
    evicted                      AS evicted,
    expired                      AS expired,
    quarantined                  AS quarantined,
    overrun                      AS overrun,
    spooled - hour_account.frames - evicted - expired - quarantined AS missing
FROM hour_account
JOIN stream ON stream.id = hour_account.stream
JOIN gateway ON gateway.id = stream.gateway
LEFT JOIN boot ON boot.id = hour_account.boot;

CREATE VIEW hole AS
SELECT
    gateway                      AS gateway,
    stream                       AS stream,
    first                        AS first,
    last                         AS last,
    next_seq - seq               AS frames,
    (SELECT utc_us FROM frame WHERE frame.stream = gap.id AND frame.seq = gap.seq - 1)    AS after_us,
    (SELECT utc_us FROM frame WHERE frame.stream = gap.id AND frame.seq = gap.next_seq)   AS before_us
FROM (
    SELECT
        run.*,
        COALESCE((SELECT first_seq + frame_count FROM batch WHERE batch.stream = run.id AND number < run.first
            ORDER BY number DESC LIMIT 1), 1) AS seq,
        (SELECT first_seq FROM batch WHERE batch.stream = run.id AND number > run.last ORDER BY number LIMIT 1) AS next_seq
    FROM (
        SELECT
            encode(gateway.eui, 'hex')   AS gateway,
            encode(stream.stream_id, 'hex') AS stream,
            stream.id                    AS id,
            COALESCE(lag(span.last) OVER (PARTITION BY span.stream ORDER BY span.first), stream.through) + 1 AS first,
            span.first - 1               AS last
        FROM span
        JOIN stream ON stream.id = span.stream
        JOIN gateway ON gateway.id = stream.gateway
    ) AS run
) AS gap;

CREATE OR REPLACE VIEW reception AS
SELECT
    frame.id                                AS id,
    encode(gateway.eui, 'hex')              AS gateway,
    encode(stream.stream_id, 'hex')            AS stream,
    frame.seq                               AS seq,
    frame.utc_us                            AS utc_us,
    frame.utc_error_us                      AS utc_error_us,
    CASE frame.utc_source WHEN 1 THEN 'kernel' WHEN 2 THEN 'gnss' WHEN 3 THEN 'platform' END AS utc_source,
    encode(boot.boot_id, 'hex')                AS boot,
    session.number                          AS session,
    frame.boottime_us                       AS boottime_us,
    frame.counter_us                        AS counter_us,
    frame.frequency_hz                      AS frequency_hz,
    CASE frame.modulation WHEN 0 THEN 'LORA' WHEN 1 THEN 'FSK' END AS modulation,
    frame.bandwidth_hz                      AS bandwidth_hz,
    frame.datarate                          AS datarate,
    CASE WHEN frame.coding_rate > 0 THEN '4/' || (frame.coding_rate + 4) END AS coding_rate,
    CASE frame.crc WHEN 0 THEN 'ok' WHEN 1 THEN 'bad' WHEN 2 THEN 'none' END AS crc,
    frame.rssi_ddbm / 10.0::double precision                  AS rssi_dbm,
    frame.rssis_ddbm / 10.0::double precision                 AS rssis_dbm,
    frame.snr_qdb / 4.0::double precision                     AS snr_db,
    frame.frequency_offset_hz               AS frequency_offset_hz,
    frame.if_chain                          AS if_chain,
    frame.rf_chain                          AS rf_chain,
    frame.fine_timestamp_ns                 AS fine_timestamp_ns,
    CASE WHEN frame.dev_addr IS NOT NULL THEN lpad(to_hex(frame.dev_addr), 8, '0') END AS dev_addr,
    encode(frame.phy_payload, 'hex')           AS phy_payload,
    frame.received_us                       AS received_us,
    COALESCE(frame.dev_addr, -1)            AS device
FROM frame
JOIN stream ON stream.id = frame.stream
JOIN gateway ON gateway.id = stream.gateway
JOIN session ON session.id = frame.session
JOIN boot ON boot.id = session.boot;

CREATE VIEW uplink_reception AS
SELECT
    COALESCE((
        SELECT min(other.id) FROM frame AS other
        WHERE COALESCE(other.dev_addr, -1) = COALESCE(frame.dev_addr, -1)
            AND other.utc_us BETWEEN frame.utc_us - 2000000 AND frame.utc_us + 2000000
            AND abs(other.utc_us - frame.utc_us) <= 1000000 + CASE
                WHEN other.utc_error_us + frame.utc_error_us < 1000000 THEN other.utc_error_us + frame.utc_error_us
                ELSE 1000000 END
            AND other.phy_payload = frame.phy_payload
            AND other.frequency_hz = frame.frequency_hz
            AND other.modulation = frame.modulation
            AND other.bandwidth_hz = frame.bandwidth_hz
            AND other.datarate = frame.datarate
            AND (other.session <> frame.session OR other.counter_us = frame.counter_us)
    ), frame.id) AS uplink,
    frame.id                                AS id,
    encode(gateway.eui, 'hex')                 AS gateway,
    frame.utc_us                            AS utc_us,
    frame.utc_error_us                      AS utc_error_us,
    frame.rssi_ddbm / 10.0::double precision                  AS rssi_dbm,
    frame.snr_qdb / 4.0::double precision                     AS snr_db,
    frame.fine_timestamp_ns                 AS fine_timestamp_ns,
    CASE WHEN frame.dev_addr IS NOT NULL THEN lpad(to_hex(frame.dev_addr), 8, '0') END AS dev_addr,
    COALESCE(frame.dev_addr, -1)            AS device,
    frame.received_us                       AS received_us
FROM frame
JOIN stream ON stream.id = frame.stream
JOIN gateway ON gateway.id = stream.gateway;

CREATE VIEW uplink AS
SELECT
    frame.id                                AS uplink,
    frame.utc_us                            AS utc_us,
    frame.utc_error_us                      AS utc_error_us,
    CASE WHEN frame.dev_addr IS NOT NULL THEN lpad(to_hex(frame.dev_addr), 8, '0') END AS dev_addr,
    COALESCE(frame.dev_addr, -1)            AS device,
    frame.frequency_hz                      AS frequency_hz,
    CASE frame.modulation WHEN 0 THEN 'LORA' WHEN 1 THEN 'FSK' END AS modulation,
    frame.bandwidth_hz                      AS bandwidth_hz,
    frame.datarate                          AS datarate,
    encode(frame.phy_payload, 'hex')           AS phy_payload,
    COALESCE((
        SELECT count(DISTINCT other.session) FROM frame AS other
        WHERE COALESCE(other.dev_addr, -1) = COALESCE(frame.dev_addr, -1)
            AND other.utc_us BETWEEN frame.utc_us - 2000000 AND frame.utc_us + 2000000
            AND abs(other.utc_us - frame.utc_us) <= 1000000 + CASE
                WHEN other.utc_error_us + frame.utc_error_us < 1000000 THEN other.utc_error_us + frame.utc_error_us
                ELSE 1000000 END
            AND other.phy_payload = frame.phy_payload
            AND other.frequency_hz = frame.frequency_hz
            AND other.modulation = frame.modulation
            AND other.bandwidth_hz = frame.bandwidth_hz
            AND other.datarate = frame.datarate
            AND (other.session <> frame.session OR other.counter_us = frame.counter_us)
            AND frame.utc_us IS NOT NULL
    ), 0) + CASE WHEN frame.utc_us IS NULL THEN 1 ELSE 0 END AS receptions
FROM frame
WHERE NOT EXISTS (
    SELECT 1 FROM frame AS other
    WHERE COALESCE(other.dev_addr, -1) = COALESCE(frame.dev_addr, -1)
        AND other.utc_us BETWEEN frame.utc_us - 2000000 AND frame.utc_us + 2000000
        AND abs(other.utc_us - frame.utc_us) <= 1000000 + CASE
                WHEN other.utc_error_us + frame.utc_error_us < 1000000 THEN other.utc_error_us + frame.utc_error_us
                ELSE 1000000 END
        AND other.phy_payload = frame.phy_payload
        AND other.frequency_hz = frame.frequency_hz
        AND other.modulation = frame.modulation
        AND other.bandwidth_hz = frame.bandwidth_hz
        AND other.datarate = frame.datarate
        AND (other.session <> frame.session OR other.counter_us = frame.counter_us)
        AND other.id < frame.id
);
