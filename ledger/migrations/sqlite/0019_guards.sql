-- +goose Up
-- What was decided in each minute, summed over replicas.
CREATE TABLE guard_counts (
    minute    INTEGER NOT NULL, -- Unix minutes
    segment   TEXT    NOT NULL, -- of the policy, '' outside of all
    decisions INTEGER NOT NULL,
    approvals INTEGER NOT NULL,
    approved  INTEGER NOT NULL, -- minor units of the base currency
    denials   INTEGER NOT NULL,
    PRIMARY KEY (minute, segment)
) STRICT, WITHOUT ROWID;

-- Guards that tripped. One that was not cleared, and whose time is not over, holds on every replica.
CREATE TABLE guard_trips (
    id         TEXT    NOT NULL PRIMARY KEY,
    guard      TEXT    NOT NULL,
    segment    TEXT    NOT NULL,
    detail     TEXT    NOT NULL,
    tripped_at INTEGER NOT NULL, -- Unix milliseconds
    until      INTEGER NOT NULL, -- 0: until cleared by hand
    cleared_at INTEGER NOT NULL, -- 0: not cleared
    cleared_by TEXT    NOT NULL
) STRICT;
-- Those that may still hold.
CREATE INDEX guard_trips_open ON guard_trips (tripped_at) WHERE cleared_at = 0;

-- What exploration let through in a day, against its budget.
CREATE TABLE exploration (
    day   INTEGER NOT NULL PRIMARY KEY, -- days since 1970, UTC
    spent INTEGER NOT NULL              -- minor units of the base currency
) STRICT;
