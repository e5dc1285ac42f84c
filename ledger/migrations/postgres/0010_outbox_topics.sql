-- +goose Up
-- What leaves the ledger, each topic in the order of seq. A row waits while delivered_at is 0. Rows that decisions read stay
-- a while after their delivery. Numbers have gaps, and a smaller one may become visible after a larger one.
DROP TABLE IF EXISTS outbox;
CREATE TABLE outbox (
    seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic        TEXT   NOT NULL,
    id           BYTEA  NOT NULL, -- of the event or decision, UTF-8
    customer     BYTEA  NOT NULL, -- whose order is kept
    body         BYTEA  NOT NULL, -- JSON
    known_at     BIGINT NOT NULL, -- Unix milliseconds
    delivered_at BIGINT NOT NULL  -- Unix milliseconds, 0: it waits
);
-- The relay reads what waits, a sweep what has stayed long enough.
CREATE INDEX outbox_waiting ON outbox (topic, seq) WHERE delivered_at = 0;
CREATE INDEX outbox_delivered ON outbox (delivered_at) WHERE delivered_at > 0;

-- The timelines that a fact of the outbox enters, as kind:id. The key is the way a decision reads them: of one entity the
-- newest of each kind. They are deleted by seq.
DROP TABLE IF EXISTS outbox_timelines;
CREATE TABLE outbox_timelines (
    entity      BYTEA  NOT NULL, -- UTF-8
    kind        BYTEA  NOT NULL, -- of the event, UTF-8
    occurred_at BIGINT NOT NULL, -- Unix milliseconds
    seq         BIGINT NOT NULL,
    known_at    BIGINT NOT NULL, -- Unix milliseconds
    PRIMARY KEY (entity, kind, occurred_at, seq)
);
CREATE INDEX outbox_timelines_seq ON outbox_timelines (seq);

-- How many rows of a topic wait: counting 100,000 would cost every decision milliseconds. Half of each page stays free, so
-- that an update, of which there is one per transaction, finds room in the same page.
CREATE TABLE outbox_topics (
    topic   TEXT   NOT NULL PRIMARY KEY,
    waiting BIGINT NOT NULL
) WITH (fillfactor = 50);
