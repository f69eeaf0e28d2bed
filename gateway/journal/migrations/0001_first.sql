-- The journal's own facts: its random id, how often the process has started, what was dropped.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- What all tasks of a run share.
CREATE TABLE bodies (
    run TEXT NOT NULL,
    hash TEXT NOT NULL,
    body TEXT NOT NULL,
    -- the secrets of the body, sealed; empty for none
    secrets TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (run, hash)
) WITHOUT ROWID;

-- Each attempt whole. `lane` is the device, or the task itself where there is none. An attempt
-- that was cancelled before it was offered has no offer and no record.
CREATE TABLE tasks (
    task TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    lane TEXT NOT NULL,
    run TEXT NOT NULL DEFAULT '',
    body TEXT NOT NULL DEFAULT '',
    offer TEXT,
    record TEXT,
    snapshot TEXT NOT NULL,
    status TEXT NOT NULL,
    begun INTEGER NOT NULL DEFAULT 0,
    priority INTEGER NOT NULL DEFAULT 1,
    revision INTEGER NOT NULL,
    stored_revision INTEGER NOT NULL DEFAULT 0,
    refused_revision INTEGER NOT NULL DEFAULT 0,
    refused_code TEXT,
    forgotten INTEGER NOT NULL DEFAULT 0,
    accepted_at INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    ended_at INTEGER,
    receipt_at INTEGER,
    PRIMARY KEY (task, attempt)
) WITHOUT ROWID;

-- The outbox: what is ahead of what is stored. Ended attempts come first.
CREATE INDEX tasks_unsent ON tasks (ended_at IS NULL, changed)
    WHERE revision > stored_revision AND revision > refused_revision AND forgotten = 0;
CREATE INDEX tasks_open ON tasks (lane, begun DESC, priority DESC, accepted_at)
    WHERE ended_at IS NULL;
CREATE INDEX tasks_ended ON tasks (receipt_at) WHERE receipt_at IS NOT NULL;
CREATE INDEX tasks_refused ON tasks (refused_code) WHERE refused_code IS NOT NULL;
CREATE INDEX tasks_body ON tasks (run, body);

-- What is left of an attempt after its time.
CREATE TABLE tombstones (
    task TEXT PRIMARY KEY,
    attempt INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    status TEXT NOT NULL,
    begun INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    buried_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX tombstones_buried ON tombstones (buried_at);

-- Lines that are append-only by nature, in numbered streams.
CREATE TABLE outbox (
    stream TEXT NOT NULL,
    kind TEXT NOT NULL,
    number INTEGER NOT NULL,
    line TEXT NOT NULL,
    PRIMARY KEY (stream, kind, number)
) WITHOUT ROWID;
