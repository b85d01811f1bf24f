-- The outbox, schema 1. Order and progress are integers that SQLite hands out, never times.

-- One row: which start of the gateway this is, and what it hands out next. clean: the last stop was an orderly one.
CREATE TABLE boot (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    count INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    next_seq INTEGER NOT NULL,
    clean INTEGER NOT NULL
) STRICT;
INSERT INTO boot VALUES (1, 0, 0, 1, 1);

-- A task of a meter; last_slot outlives the purge of its records.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    meter TEXT NOT NULL,
    task TEXT NOT NULL,
    last_slot INTEGER,
    UNIQUE (meter, task)
) STRICT;

-- Captures and gaps, a packed row each. moment: the slot, or the stamp where unplanned (UTC ms); a key for looking
-- up, not for order. kind: 1 gap, 2 capture of a slot, 3 unplanned capture.
CREATE TABLE record (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    series INTEGER NOT NULL,
    moment INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
-- moment first: the captures of one slot come together, so their entries share pages (series first would dirty one
-- page of 4 KiB for each row of 100 bytes).
CREATE INDEX record_by_moment ON record (moment, series);

CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    moment INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- Two lanes, named by the kind of batch that carries them: 65001 captures and gaps (record), 65002 events (event).
-- Rows up to sealed_upto stand in a batch, in requeue, or are settled: history.
CREATE TABLE lane (kind INTEGER PRIMARY KEY, sealed_upto INTEGER NOT NULL) STRICT;
INSERT INTO lane VALUES (65001, 0), (65002, 0);

-- The signed, wrapped data keys; kept until the last batch under them is settled.
CREATE TABLE key_record (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kid BLOB NOT NULL UNIQUE,
    epoch INTEGER NOT NULL,
    message BLOB NOT NULL
) STRICT;

-- Sealed and not settled. The message is sent as these very bytes until the centre has committed it.
CREATE TABLE batch (
    id INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind INTEGER NOT NULL REFERENCES lane (kind),
    kid BLOB NOT NULL REFERENCES key_record (kid),
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    records INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    message BLOB NOT NULL,
    UNIQUE (epoch, seq)
) STRICT;
CREATE INDEX batch_by_key ON batch (kid);
CREATE INDEX batch_by_number ON batch (kind, epoch, seq);
CREATE INDEX batch_by_range ON batch (kind, first);

-- Ranges of rows whose batch was voided: to be sealed again under new numbers. attempts: how often that happened.
CREATE TABLE requeue (
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL REFERENCES lane (kind),
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    attempts INTEGER NOT NULL
) STRICT;

-- Numbers that will never come, told to the centre in hello until it has passed them.
CREATE TABLE voided (
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (epoch, seq)
) STRICT, WITHOUT ROWID;

-- Rows that no longer decode: kept, left out of batches, reported.
CREATE TABLE unreadable (
    kind INTEGER NOT NULL,
    record INTEGER NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (kind, record)
) STRICT, WITHOUT ROWID;

-- One for each hour that the gateway has run: the newest rows of that moment. Retention counts these, not dates.
CREATE TABLE mark (id INTEGER PRIMARY KEY AUTOINCREMENT, record INTEGER NOT NULL, event INTEGER NOT NULL) STRICT;

-- Small things learned: turnaround of meters, floor of the clock.
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
