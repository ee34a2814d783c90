-- Dead letters: groups, edits, replays, policies, and the audit.
--
-- What an event holds moves out of `letters`, so that going through a million letters touches little; what is indexed for operators is so
-- for dead ones only, so that a replay changes each index once.

CREATE TABLE letter_bodies (
    id            BLOB PRIMARY KEY,         -- letters.id
    history       TEXT NOT NULL,             -- JSON array: every attempt
    event         BLOB NOT NULL              -- the whole event as in schema/event.md, without payload and history
);
INSERT INTO letter_bodies (id, history, event) SELECT id, history, event FROM letters;

ALTER TABLE letters RENAME TO letters_before;
DROP INDEX letters_by_due;
DROP INDEX letters_by_state;
CREATE TABLE letters (
    id            BLOB PRIMARY KEY,         -- the event's id, 16 bytes
    function      TEXT NOT NULL,
    state         TEXT NOT NULL,             -- due, dead, replaying, replayed, discarded
    kind          TEXT NOT NULL,             -- function, throttled, platform, expired, undecodable, unroutable, delayed
    due_ms        BIGINT,                    -- state due: when it goes back to its queue
    lease_ms      BIGINT NOT NULL DEFAULT 0, -- somebody moves it until then (Unix ms); 0: nobody
    accepted_ms   BIGINT NOT NULL,
    died_ms       BIGINT NOT NULL,           -- of its last failure
    changed_ms    BIGINT NOT NULL,
    attempts      BIGINT NOT NULL,           -- how many were charged
    version       BIGINT NOT NULL,           -- that ran the last attempt; 0: none did
    fingerprint   BIGINT NOT NULL,           -- of what it died of (docs/dead-letters.md); 0: from before there were any
    error_type    TEXT NOT NULL,
    error_message TEXT NOT NULL,
    source_kind   TEXT NOT NULL,
    source_name   TEXT NOT NULL,
    source_at     TEXT NOT NULL,             -- JSON object
    ordering_key  TEXT NOT NULL,
    content_type  TEXT NOT NULL,
    origin_id     BLOB,                     -- the letter that this one's event replayed
    replay_id     BLOB,                     -- the event that replays this letter
    replay        BIGINT,                    -- replays.id: who sends it (replaying) or sent it
    why           TEXT NOT NULL DEFAULT '',  -- it was discarded or restored
    headers       TEXT  NOT NULL,            -- JSON object: names in lower case, of several values ", " between them
    json          BIGINT NOT NULL DEFAULT 0, -- 1: `payload` is JSON that can be asked about; 2: with a name twice, or escaped
    payload       BLOB NOT NULL            -- as it was edited last
);
INSERT INTO letters (id, function, state, kind, due_ms, lease_ms, accepted_ms, died_ms, changed_ms, attempts, version, fingerprint, error_type,
                     error_message, source_kind, source_name, source_at, ordering_key, content_type, origin_id, replay_id, headers, payload)
    SELECT id, function, state, kind, due_ms, lease_ms, accepted_ms, changed_ms, changed_ms, attempts, version, 0, error_type, error_message,
           source_kind, source_name, source_at, ordering_key, content_type, origin_id, replay_id, '{}', payload FROM letters_before;
DROP TABLE letters_before;
CREATE INDEX letters_by_due ON letters (due_ms, id) WHERE state = 'due';
CREATE INDEX letters_dead ON letters (id) WHERE state = 'dead';
CREATE INDEX letters_dead_by_function ON letters (function, id) WHERE state = 'dead';
CREATE INDEX letters_dead_by_group ON letters (fingerprint, died_ms, version) WHERE state = 'dead';
CREATE INDEX letters_replaying ON letters (lease_ms) WHERE state = 'replaying';
CREATE INDEX letters_from_before ON letters (id) WHERE fingerprint = 0;
CREATE INDEX letters_closed ON letters (changed_ms) WHERE state IN ('replayed', 'discarded');

CREATE TABLE letter_originals (              -- what was there before the first edit
    letter_id     BLOB PRIMARY KEY,
    payload       BLOB NOT NULL,
    event         BLOB NOT NULL
);
CREATE TABLE letter_edits (
    letter_id     BLOB NOT NULL,
    revision      BIGINT NOT NULL,           -- 1, 2, 3, …
    at_ms         BIGINT NOT NULL,
    who           TEXT NOT NULL,
    why           TEXT NOT NULL,
    patch         TEXT NOT NULL,             -- JSON Patch (RFC 6902) from the revision before
    PRIMARY KEY (letter_id, revision)
);

CREATE TABLE letter_groups (                 -- what people said about a group
    fingerprint   BIGINT PRIMARY KEY,
    name          TEXT NOT NULL,             -- '': none
    note          TEXT NOT NULL,
    muted         BIGINT NOT NULL,           -- 1: left out of listings of groups
    changed_ms    BIGINT NOT NULL,
    who           TEXT NOT NULL
);
CREATE UNIQUE INDEX letter_groups_by_name ON letter_groups (name) WHERE name <> '';

CREATE TABLE letter_policies (
    function      TEXT PRIMARY KEY REFERENCES functions (name) ON DELETE CASCADE,
    settings      TEXT NOT NULL,             -- JSON object
    done_version  BIGINT NOT NULL,           -- a higher one that is current has its automatic replay to come
    changed_ms    BIGINT NOT NULL,
    who           TEXT NOT NULL
);

CREATE TABLE replays (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    state         TEXT NOT NULL,             -- selecting, running, paused, done, cancelled, aborted
    cause         TEXT UNIQUE,               -- of one that nobody asked for: deploy:FUNCTION:VERSION
    created_ms    BIGINT NOT NULL,
    ran_ms        BIGINT NOT NULL,           -- paused: how long it ran, pauses left out; else when it would have begun, had there been none
    ended_ms      BIGINT,
    who           TEXT NOT NULL,
    selection     TEXT NOT NULL,             -- as its user wrote it
    target        TEXT NOT NULL,             -- '': each letter's own function; NAME or NAME:VERSION
    to_origin     BIGINT NOT NULL,
    rate          BIGINT NOT NULL,           -- letters in 1,000 seconds; 0: as fast as it goes
    ramp_ms       BIGINT NOT NULL,           -- until the rate is reached
    abort_share   BIGINT NOT NULL,           -- of a million; it ends when more fail. -1: never
    sample        BIGINT NOT NULL,           -- so many first, then their outcomes are waited for; 0: none
    in_order      BIGINT NOT NULL,
    total         BIGINT NOT NULL,           -- letters selected
    reason        TEXT NOT NULL,             -- of its state
    owner         TEXT NOT NULL,             -- the node that runs it
    lease_ms      BIGINT NOT NULL            -- until then (the store's clock)
);
CREATE INDEX replays_open ON replays (id) WHERE ended_ms IS NULL;
CREATE TABLE replay_letters (
    replay        BIGINT NOT NULL,
    seq           BIGINT NOT NULL,           -- 1, 2, 3, … in the order in which they are sent
    letter_id     BLOB NOT NULL,
    state         TEXT NOT NULL,             -- pending, sent, skipped, failed
    event_id      BLOB,                     -- that replays it
    outcome       TEXT,                      -- of that event: failing, ok, dead; NULL: not known yet
    why           TEXT,                      -- it was skipped or failed
    PRIMARY KEY (replay, seq)
) WITHOUT ROWID;
CREATE INDEX replay_letters_by_letter ON replay_letters (letter_id);

CREATE TABLE audit (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms         BIGINT NOT NULL,
    who           TEXT NOT NULL,             -- the token's name
    remote        TEXT NOT NULL,             -- address it came from; '': the server itself
    action        TEXT NOT NULL,             -- letters.discard, functions.deploy, …
    target        TEXT NOT NULL,             -- what it was done to
    detail        TEXT NOT NULL,             -- JSON: what was asked for
    outcome       TEXT NOT NULL              -- '': not known (yet); ok, or the error's code and text
);
CREATE INDEX audit_by_time ON audit (at_ms);

-- For people with SQL at hand; docs/dead-letters.md describes them.
CREATE VIEW weir_letters AS
    SELECT lower(hex(id)) AS id, function, version, state, kind, attempts, printf('%016x', fingerprint) AS fingerprint, error_type, error_message,
           source_kind, source_name, source_at, ordering_key, content_type, headers,
           CASE WHEN json > 0 THEN CAST(payload AS TEXT) END AS json_payload, length(payload) AS payload_bytes,
           strftime('%Y-%m-%dT%H:%M:%fZ', accepted_ms / 1000.0, 'unixepoch') AS accepted_at, strftime('%Y-%m-%dT%H:%M:%fZ', died_ms / 1000.0, 'unixepoch') AS died_at, strftime('%Y-%m-%dT%H:%M:%fZ', changed_ms / 1000.0, 'unixepoch') AS changed_at, strftime('%Y-%m-%dT%H:%M:%fZ', due_ms / 1000.0, 'unixepoch') AS due_at,
           lower(hex(origin_id)) AS origin_id, lower(hex(replay_id)) AS replay_id, replay, why
    FROM letters;
CREATE VIEW weir_groups AS
    SELECT printf('%016x', l.fingerprint) AS fingerprint, coalesce(g.name, '') AS name, coalesce(g.note, '') AS note, coalesce(g.muted, 0) AS muted,
           count(*) AS letters, min(l.version) AS first_version, max(l.version) AS last_version,
           strftime('%Y-%m-%dT%H:%M:%fZ', min(l.died_ms) / 1000.0, 'unixepoch') AS first_died_at, strftime('%Y-%m-%dT%H:%M:%fZ', max(l.died_ms) / 1000.0, 'unixepoch') AS last_died_at
    FROM letters l LEFT JOIN letter_groups g ON g.fingerprint = l.fingerprint
    WHERE l.state = 'dead' GROUP BY l.fingerprint, g.name, g.note, g.muted;
CREATE VIEW weir_replays AS
    SELECT id, state, who, selection, target, total, reason, strftime('%Y-%m-%dT%H:%M:%fZ', created_ms / 1000.0, 'unixepoch') AS created_at, strftime('%Y-%m-%dT%H:%M:%fZ', ended_ms / 1000.0, 'unixepoch') AS ended_at,
           (SELECT count(*) FROM replay_letters l WHERE l.replay = replays.id AND l.state = 'sent') AS sent,
           (SELECT count(*) FROM replay_letters l WHERE l.replay = replays.id AND l.outcome = 'ok') AS ok,
           (SELECT count(*) FROM replay_letters l WHERE l.replay = replays.id AND l.outcome IN ('failing', 'dead')) AS failed
    FROM replays;
CREATE VIEW weir_audit AS
    SELECT id, strftime('%Y-%m-%dT%H:%M:%fZ', at_ms / 1000.0, 'unixepoch') AS at, who, remote, action, target, detail, outcome FROM audit;
