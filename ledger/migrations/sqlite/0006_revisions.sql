-- +goose Up
-- What became of a request after its decision. Rows are appended and never change; seq counts from 1 within a request.
CREATE TABLE revisions (
    id         TEXT NOT NULL PRIMARY KEY,
    request_id TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    at         INTEGER NOT NULL, -- Unix milliseconds
    actor      TEXT NOT NULL,
    kind       TEXT NOT NULL,
    detail     BLOB NOT NULL, -- JSON
    UNIQUE (request_id, seq)
) STRICT;
