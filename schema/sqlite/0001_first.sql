-- Functions, versions and packages; letters; the embedded queue.

CREATE TABLE revision (                      -- counts changes of the registry, so that every node notices them
    number      BIGINT NOT NULL
);
INSERT INTO revision (number) VALUES (1);

CREATE TABLE functions (
    name        TEXT PRIMARY KEY,
    current     BIGINT NOT NULL,             -- the version that the bare name means
    created_ms  BIGINT NOT NULL
);

CREATE TABLE packages (                      -- code as it was uploaded (an archive that libarchive reads)
    sha256      TEXT PRIMARY KEY,            -- 64 hex digits, of `archive`
    archive     BLOB NOT NULL,
    created_ms  BIGINT NOT NULL
);

CREATE TABLE versions (                      -- immutable
    function    TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
    number      BIGINT NOT NULL,             -- 1, 2, 3, ...
    sha256      TEXT NOT NULL,
    settings    TEXT NOT NULL,               -- JSON: runtime, handler, timeout_ms, retries, ...
    created_ms  BIGINT NOT NULL,
    PRIMARY KEY (function, number)
);

CREATE TABLE letters (
    id            BLOB PRIMARY KEY,          -- the event's id, 16 bytes
    function      TEXT NOT NULL,
    state         TEXT NOT NULL,             -- due, dead, replaying, replayed, discarded
    kind          TEXT NOT NULL,             -- function, throttled, platform, expired, undecodable, delayed
    due_ms        BIGINT,                    -- state due: when it goes back to its queue
    lease_ms      BIGINT NOT NULL DEFAULT 0, -- somebody moves it until then (Unix ms); 0: nobody
    accepted_ms   BIGINT NOT NULL,
    changed_ms    BIGINT NOT NULL,
    attempts      BIGINT NOT NULL,           -- how many were charged
    error_type    TEXT NOT NULL,
    error_message TEXT NOT NULL,
    version       BIGINT NOT NULL,           -- that ran the last attempt; 0: none did
    source_kind   TEXT NOT NULL,
    source_name   TEXT NOT NULL,
    source_at     TEXT NOT NULL,
    ordering_key  TEXT NOT NULL,
    content_type  TEXT NOT NULL,
    origin_id     BLOB,                      -- the letter that this one's event replayed
    replay_id     BLOB,                      -- the event that replays this letter
    history       TEXT NOT NULL,             -- JSON array: every attempt
    payload       BLOB NOT NULL,
    event         BLOB NOT NULL              -- the whole event as in schema/event.md, without payload and history
);
CREATE INDEX letters_by_due ON letters (due_ms) WHERE state = 'due';
CREATE INDEX letters_by_state ON letters (state, function, id);

CREATE TABLE queues (
    id            INTEGER PRIMARY KEY,
    function      TEXT NOT NULL UNIQUE,
    delivered_id  BIGINT NOT NULL DEFAULT 0  -- messages up to it may have been handed out when the process died
);

-- One integer key, because appending to a rowid table is 1.5 to 3 times as fast as to a WITHOUT ROWID table with the key
-- (queue, number): measured with 350 and 3,000 byte bodies.
CREATE TABLE queue_messages (
    id            INTEGER PRIMARY KEY,       -- queues.id * 2^40 + the number of the message in its queue
    deliveries    INTEGER NOT NULL DEFAULT 0,
    accepted_ms   INTEGER NOT NULL,
    body          BLOB NOT NULL
);
