-- The central tables in SQLite, version 1. Times are UTC milliseconds; numbers are plain decimal text, exact.

-- One row per (meter, quantity, stamp, source). In this order of the key what lands together stands together, at the end
-- of the table: a day of 512 meters wrote 0.14 GB so, and 1.1 GB with the meter first.
CREATE TABLE reading (
    point TEXT NOT NULL,
    meter TEXT NOT NULL,
    quantity TEXT NOT NULL,
    stamp INTEGER NOT NULL,
    source TEXT NOT NULL,
    value TEXT,
    text TEXT,
    quality TEXT NOT NULL,
    fault TEXT,
    detail TEXT,
    ratio TEXT NOT NULL,
    slot INTEGER,
    read_at INTEGER NOT NULL,
    clock_error_ms INTEGER,
    time_state TEXT NOT NULL,
    task TEXT NOT NULL,
    gateway TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (stamp, meter, quantity, source)
) WITHOUT ROWID;

-- A value for a key that already has another one. The first stays in reading.
CREATE TABLE conflict (
    point TEXT NOT NULL,
    meter TEXT NOT NULL,
    quantity TEXT NOT NULL,
    stamp INTEGER NOT NULL,
    source TEXT NOT NULL,
    value TEXT,
    text TEXT,
    quality TEXT NOT NULL,
    fault TEXT,
    detail TEXT,
    ratio TEXT NOT NULL,
    slot INTEGER,
    read_at INTEGER NOT NULL,
    clock_error_ms INTEGER,
    time_state TEXT NOT NULL,
    task TEXT NOT NULL,
    gateway TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    seen_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX conflict_once
    ON conflict (meter, stamp, quantity, source, coalesce(value, ''), coalesce(text, ''));

CREATE TABLE gap (
    meter TEXT NOT NULL,
    task TEXT NOT NULL,
    slot INTEGER NOT NULL,
    fault TEXT NOT NULL,
    detail TEXT,
    opened_at INTEGER NOT NULL,
    closed_at INTEGER,
    PRIMARY KEY (meter, task, slot)
) WITHOUT ROWID;
CREATE INDEX gap_open ON gap (slot) WHERE closed_at IS NULL;

-- Slots that a capture has filled, for gaps that arrive after it. read_at is when that capture was read.
CREATE TABLE filled_slot (
    meter TEXT NOT NULL,
    task TEXT NOT NULL,
    slot INTEGER NOT NULL,
    read_at INTEGER NOT NULL,
    PRIMARY KEY (slot, meter, task)
) WITHOUT ROWID;

CREATE TABLE event (
    gateway TEXT NOT NULL,
    name TEXT NOT NULL,
    at INTEGER NOT NULL,
    meter TEXT,
    detail TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL
);
CREATE UNIQUE INDEX event_once ON event (gateway, at, name, coalesce(meter, ''), detail);

CREATE TABLE inbox (
    gateway TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    captures INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (gateway, epoch, seq)
) WITHOUT ROWID;

-- Batch numbers that count as closed though nothing landed under them. voided_at: the gateway has said so itself.
CREATE TABLE closed_number (
    gateway TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    code TEXT NOT NULL,
    closed_at INTEGER NOT NULL,
    voided_at INTEGER,
    PRIMARY KEY (gateway, epoch, seq)
) WITHOUT ROWID;

-- Key records as they came, the data key still wrapped: with the centre's private key they open again.
CREATE TABLE key_record (
    gateway TEXT NOT NULL,
    kid BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    day INTEGER NOT NULL,
    message BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (gateway, kid)
) WITHOUT ROWID;

CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    topic TEXT NOT NULL,
    kid BLOB NOT NULL,
    sha256 BLOB NOT NULL,
    payload BLOB NOT NULL,
    times INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    UNIQUE (gateway, reason, sha256)
);

-- The last state, health and hello of each gateway.
CREATE TABLE gateway_note (
    gateway TEXT NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (gateway, name)
) WITHOUT ROWID;
