-- Triggers: rows that bind a source to a function. Their changes count in `revision` too.

CREATE TABLE triggers (
    name        TEXT PRIMARY KEY,
    function    TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
    kind        TEXT NOT NULL,               -- kafka, amqp, ...
    settings    TEXT NOT NULL,               -- JSON object of strings
    state       TEXT NOT NULL,               -- active, paused, seeking
    epoch       BIGINT NOT NULL,             -- raised by each seek
    created_ms  BIGINT NOT NULL,
    changed_ms  BIGINT NOT NULL              -- strictly rising from change to change
);
CREATE INDEX triggers_by_function ON triggers (function);
