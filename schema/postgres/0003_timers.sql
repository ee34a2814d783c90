-- Timers: how far each trigger's schedule is decided, and what became of each scheduled time.

CREATE TABLE fire_cursors (
    trigger      TEXT PRIMARY KEY REFERENCES triggers (name) ON DELETE CASCADE,
    cursor_ms    BIGINT NOT NULL             -- every scheduled time up to it is decided; so is what is before triggers.changed_ms
);

CREATE TABLE fires (
    trigger      TEXT NOT NULL REFERENCES triggers (name) ON DELETE CASCADE,
    scheduled_ms BIGINT NOT NULL,
    event_id     BYTEA,                      -- 16 bytes; NULL: it never runs
    cause        TEXT NOT NULL,              -- schedule, catchup, backfill, manual
    outcome      TEXT NOT NULL,              -- open: running, waiting; else ok, dead, skipped, cancelled, discarded, missed, unknown
    fired_ms     BIGINT NOT NULL,            -- when it was decided, or let go after it had waited
    ended_ms     BIGINT,                     -- NULL while it is open
    lasts_ms     BIGINT NOT NULL,            -- how long it may run
    stale_at_ms  BIGINT NOT NULL,            -- an open one is not heard of any more after
    attempts     BIGINT NOT NULL DEFAULT 0,  -- outcome ok: how many it took
    missed       BIGINT NOT NULL,            -- scheduled times right before it that have no row
    PRIMARY KEY (trigger, scheduled_ms)
);
CREATE INDEX fires_open ON fires (trigger) WHERE ended_ms IS NULL;
CREATE INDEX fires_stale ON fires (stale_at_ms) WHERE ended_ms IS NULL AND stale_at_ms > 0; -- so that none uses it but who says so
CREATE INDEX fires_waiting ON fires (trigger) WHERE outcome = 'waiting';
CREATE INDEX fires_ended ON fires (ended_ms) WHERE ended_ms IS NOT NULL;
CREATE INDEX fires_cancelled ON fires (ended_ms) WHERE outcome = 'cancelled';

-- The number of `revision` at a trigger's last change: what a node that knows an older one has to read.
ALTER TABLE triggers ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
CREATE INDEX triggers_by_revision ON triggers (revision);
