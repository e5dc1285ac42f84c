-- +goose Up
-- A request is decided once, for ever. The rows stay in order of arrival (rowid); the two unique keys find them.
CREATE TABLE decisions (
    request_id  TEXT    NOT NULL PRIMARY KEY,
    decision_id TEXT    NOT NULL UNIQUE,
    digest      BLOB    NOT NULL, -- SHA-256 of the request's content
    request     BLOB    NOT NULL, -- canonical JSON
    response    BLOB    NOT NULL, -- the answer, byte for byte
    inputs      BLOB,             -- what replay needs; NULL: nothing was kept
    customer_id TEXT    NOT NULL,
    payment_id  TEXT    NOT NULL, -- '': no payment is known
    currency    TEXT    NOT NULL,
    reserved    INTEGER NOT NULL CHECK (reserved >= 0), -- minor units
    valid_until INTEGER NOT NULL, -- Unix milliseconds, 0: never valid
    decided_at  INTEGER NOT NULL  -- Unix milliseconds
) STRICT;
