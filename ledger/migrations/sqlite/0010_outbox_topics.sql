-- +goose Up
-- What leaves the ledger, each topic in the order of seq. A row waits while delivered_at is 0. Rows that decisions read stay
-- a while after their delivery. AUTOINCREMENT never gives a number twice: what is deleted by its number is never a later row.
ALTER TABLE outbox RENAME TO outbox_before;
CREATE TABLE outbox (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    topic        TEXT    NOT NULL,
    id           BLOB    NOT NULL, -- of the event or decision, UTF-8
    customer     BLOB    NOT NULL, -- whose order is kept
    body         BLOB    NOT NULL, -- JSON
    known_at     INTEGER NOT NULL, -- Unix milliseconds
    delivered_at INTEGER NOT NULL  -- Unix milliseconds, 0: it waits
) STRICT;
INSERT INTO outbox (seq, topic, id, customer, body, known_at, delivered_at)
    SELECT seq, 'history', CAST(json_extract(CAST(fact AS TEXT), '$.id') AS BLOB),
        CAST(COALESCE(json_extract(CAST(fact AS TEXT), '$.entities.customer'), '') AS BLOB), fact, known_at, 0 FROM outbox_before;
-- The relay reads what waits, a sweep what has stayed long enough.
CREATE INDEX outbox_waiting ON outbox (topic, seq) WHERE delivered_at = 0;
CREATE INDEX outbox_delivered ON outbox (delivered_at) WHERE delivered_at > 0;

-- The timelines that a fact of the outbox enters, as kind:id. The key is the way a decision reads them: of one entity the
-- newest of each kind. They are deleted by seq.
ALTER TABLE outbox_timelines RENAME TO outbox_timelines_before;
CREATE TABLE outbox_timelines (
    entity      BLOB    NOT NULL, -- UTF-8
    kind        BLOB    NOT NULL, -- of the event, UTF-8
    occurred_at INTEGER NOT NULL, -- Unix milliseconds
    seq         INTEGER NOT NULL,
    known_at    INTEGER NOT NULL, -- Unix milliseconds
    PRIMARY KEY (entity, kind, occurred_at, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO outbox_timelines (entity, kind, occurred_at, seq, known_at)
    SELECT CAST(t.entity AS BLOB), CAST(json_extract(CAST(o.fact AS TEXT), '$.kind') AS BLOB),
        json_extract(CAST(o.fact AS TEXT), '$.occurred_at'), o.seq, o.known_at
    FROM outbox_timelines_before t JOIN outbox_before o ON o.seq = t.seq;
CREATE INDEX outbox_timelines_seq ON outbox_timelines (seq);
DROP TABLE outbox_timelines_before;
DROP TABLE outbox_before;

-- How many rows of a topic wait: counting 100,000 would cost every decision milliseconds.
CREATE TABLE outbox_topics (
    topic   TEXT    NOT NULL PRIMARY KEY,
    waiting INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO outbox_topics (topic, waiting) SELECT 'history', COUNT(*) FROM outbox;
