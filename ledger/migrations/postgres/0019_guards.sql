-- +goose Up
-- What was decided in each minute, summed over replicas.
CREATE TABLE guard_counts (
    minute    BIGINT NOT NULL, -- Unix minutes
    segment   TEXT    NOT NULL, -- of the policy, '' outside of all
    decisions BIGINT NOT NULL,
    approvals BIGINT NOT NULL,
    approved  BIGINT NOT NULL, -- minor units of the base currency
    denials   BIGINT NOT NULL,
    PRIMARY KEY (minute, segment)
);

-- Guards that tripped. One that was not cleared, and whose time is not over, holds on every replica.
CREATE TABLE guard_trips (
    id         TEXT    NOT NULL PRIMARY KEY,
    guard      TEXT    NOT NULL,
    segment    TEXT    NOT NULL,
    detail     TEXT    NOT NULL,
    tripped_at BIGINT NOT NULL, -- Unix milliseconds
    until      BIGINT NOT NULL, -- 0: until cleared by hand
    cleared_at BIGINT NOT NULL, -- 0: not cleared
    cleared_by TEXT    NOT NULL
);
-- Those that may still hold.
CREATE INDEX guard_trips_open ON guard_trips (tripped_at) WHERE cleared_at = 0;

-- What exploration let through in a day, against its budget.
CREATE TABLE exploration (
    day   BIGINT NOT NULL PRIMARY KEY, -- days since 1970, UTC
    spent BIGINT NOT NULL              -- minor units of the base currency
);
