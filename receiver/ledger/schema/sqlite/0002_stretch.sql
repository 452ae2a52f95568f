-- SPDX-FileCopyrightText: 2026 civigate contributors
-- SPDX-License-Identifier: EUPL-1.2

-- What the frames of a stream tell of a boot. Boots follow one another as their sessions do, whose numbers only grow
-- within a spool; no clock orders them.
CREATE TABLE stretch (
    stream  INTEGER NOT NULL REFERENCES stream (id),
    boot    INTEGER NOT NULL REFERENCES boot (id),
    session INTEGER NOT NULL, -- lowest number of its sessions
    last_us INTEGER NOT NULL, -- CLOCK_BOOTTIME of its latest frame
    over_us INTEGER NOT NULL, -- UTC by which that frame was here
    PRIMARY KEY (stream, boot)
) STRICT, WITHOUT ROWID;

CREATE INDEX stretch_by_order ON stretch (stream, session);

INSERT INTO stretch (stream, boot, session, last_us, over_us)
SELECT stream, boot, min(number), max(boottime_us), max(received_us)
FROM frame JOIN session ON session.id = frame.session
GROUP BY stream, boot;
