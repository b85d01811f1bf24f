-- From version 1 to 2: what several workers at once must find in the database.

-- How far the numbers of an epoch are known to be closed without a hole; what is above stands in inbox and closed_number.
CREATE TABLE epoch_mark (
    gateway TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    upto INTEGER NOT NULL,
    PRIMARY KEY (gateway, epoch)
) WITHOUT ROWID;
CREATE INDEX closed_number_open ON closed_number (gateway, epoch, seq) WHERE voided_at IS NULL;

-- When the oldest record of the batch was read: where to begin again when batches behind it are lost with a backup.
ALTER TABLE inbox ADD COLUMN oldest_at INTEGER;

-- What the centre has asked of gateways. lost: JSON, [epoch, first, last] of numbers that are closed when it is done.
CREATE TABLE request (
    request BLOB PRIMARY KEY,
    gateway TEXT NOT NULL,
    action TEXT NOT NULL,
    arguments TEXT NOT NULL,
    lost TEXT NOT NULL,
    sent_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    status TEXT,
    detail TEXT,
    replied_at INTEGER
) WITHOUT ROWID;
CREATE INDEX request_open ON request (gateway) WHERE status IS NULL;
