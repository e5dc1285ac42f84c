-- +goose Up
-- Facts that history does not have yet, in the order in which they were stored. AUTOINCREMENT never gives a number
-- twice: a relay that deletes what it delivered can't delete a later row.
CREATE TABLE outbox (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    known_at INTEGER NOT NULL, -- Unix milliseconds
    fact     BLOB    NOT NULL  -- JSON
) STRICT;

-- The timelines that a fact of the outbox enters, as kind:id. No foreign key: deleting from outbox would search this
-- table by seq, which its key can't do; the relay deletes both in one transaction.
CREATE TABLE outbox_timelines (
    entity TEXT    NOT NULL,
    seq    INTEGER NOT NULL,
    PRIMARY KEY (entity, seq)
) STRICT, WITHOUT ROWID;
