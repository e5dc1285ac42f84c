-- +goose Up
-- Facts that history does not have yet, in the order in which they were stored. A transaction takes its numbers while it
-- holds the locks of its customers, so the numbers of one customer grow as its transactions commit; across customers a
-- lower number may appear after a higher one, and numbers may be missing.
CREATE TABLE outbox (
    seq      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    known_at BIGINT NOT NULL, -- Unix milliseconds
    fact     BYTEA  NOT NULL  -- JSON
);

-- The timelines that a fact of the outbox enters, as kind:id. No foreign key: deleting from outbox would search this
-- table by seq, which its key can't do; the relay deletes both in one transaction.
CREATE TABLE outbox_timelines (
    entity TEXT COLLATE "C" NOT NULL,
    seq    BIGINT NOT NULL,
    PRIMARY KEY (entity, seq)
);
