-- +goose Up
-- What became of a request after its decision. Rows are appended and never change; seq counts from 1 within a request.
CREATE TABLE revisions (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    request_id TEXT COLLATE "C" NOT NULL,
    seq        BIGINT NOT NULL,
    at         BIGINT NOT NULL, -- Unix milliseconds
    actor      TEXT NOT NULL,
    kind       TEXT NOT NULL,
    detail     BYTEA NOT NULL, -- JSON
    UNIQUE (request_id, seq)
);
