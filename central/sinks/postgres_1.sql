-- The central tables in PostgreSQL, version 1.

CREATE TABLE meterwire_schema (version integer NOT NULL);

-- One row per (meter, quantity, stamp, source). In this order of the key a meter's history is one stretch of the index.
CREATE TABLE reading (
    point text NOT NULL,
    meter text NOT NULL,
    quantity text NOT NULL,
    stamp timestamptz NOT NULL,
    source text NOT NULL,
    value numeric,
    text text,
    quality text NOT NULL,
    fault text,
    detail text,
    ratio numeric NOT NULL,
    slot timestamptz,
    read_at timestamptz NOT NULL,
    clock_error_ms bigint,
    time_state text NOT NULL,
    task text NOT NULL,
    gateway text NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (meter, stamp, quantity, source)
);

-- A value for a key that already has another one. The first stays in reading.
CREATE TABLE conflict (
    point text NOT NULL,
    meter text NOT NULL,
    quantity text NOT NULL,
    stamp timestamptz NOT NULL,
    source text NOT NULL,
    value numeric,
    text text,
    quality text NOT NULL,
    fault text,
    detail text,
    ratio numeric NOT NULL,
    slot timestamptz,
    read_at timestamptz NOT NULL,
    clock_error_ms bigint,
    time_state text NOT NULL,
    task text NOT NULL,
    gateway text NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    seen_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX conflict_once
    ON conflict (meter, stamp, quantity, source, coalesce(value::text, ''), coalesce(text, ''));

CREATE TABLE gap (
    meter text NOT NULL,
    task text NOT NULL,
    slot timestamptz NOT NULL,
    fault text NOT NULL,
    detail text,
    opened_at timestamptz NOT NULL,
    closed_at timestamptz,
    PRIMARY KEY (meter, task, slot)
);
CREATE INDEX gap_open ON gap (slot) WHERE closed_at IS NULL;

-- Slots that a capture has filled, for gaps that arrive after it. read_at is when that capture was read.
CREATE TABLE filled_slot (
    meter text NOT NULL,
    task text NOT NULL,
    slot timestamptz NOT NULL,
    read_at timestamptz NOT NULL,
    PRIMARY KEY (meter, task, slot)
);

CREATE TABLE event (
    gateway text NOT NULL,
    name text NOT NULL,
    at timestamptz NOT NULL,
    meter text,
    detail text NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL
);
CREATE UNIQUE INDEX event_once ON event (gateway, at, name, coalesce(meter, ''), detail);

CREATE TABLE inbox (
    gateway text NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    sha256 bytea NOT NULL,
    received_at timestamptz NOT NULL,
    captures bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (gateway, epoch, seq)
);

-- Batch numbers that count as closed though nothing landed under them. voided_at: the gateway has said so itself.
CREATE TABLE closed_number (
    gateway text NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    code text NOT NULL,
    closed_at timestamptz NOT NULL,
    voided_at timestamptz,
    PRIMARY KEY (gateway, epoch, seq)
);

-- Key records as they came, the data key still wrapped: with the centre's private key they open again.
CREATE TABLE key_record (
    gateway text NOT NULL,
    kid bytea NOT NULL,
    epoch bigint NOT NULL,
    day bigint NOT NULL,
    message bytea NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (gateway, kid)
);

CREATE TABLE dead_letter (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    topic text NOT NULL,
    kid bytea NOT NULL,
    sha256 bytea NOT NULL,
    payload bytea NOT NULL,
    times bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    UNIQUE (gateway, reason, sha256)
);

-- The last state, health and hello of each gateway.
CREATE TABLE gateway_note (
    gateway text NOT NULL,
    name text NOT NULL,
    text text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (gateway, name)
);
