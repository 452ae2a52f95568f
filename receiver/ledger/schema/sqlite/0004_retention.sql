-- SPDX-FileCopyrightText: 2026 civigate contributors
-- SPDX-License-Identifier: EUPL-1.2

-- Frames that were received before `from_us` are not kept any more; the evidence of their batches is. Those received
-- before `done_us` are gone already. One row.
CREATE TABLE retention (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    from_us INTEGER NOT NULL,
    done_us INTEGER NOT NULL
) STRICT;

INSERT INTO retention (id, from_us, done_us) VALUES (1, 0, 0);

-- Whose frames are to go is found by it.
CREATE INDEX batch_by_time ON batch (received_us);
