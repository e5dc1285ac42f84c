-- +goose Up
CREATE TABLE api_keys (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    hash       BLOB    NOT NULL UNIQUE, -- SHA-256 of the secret
    scopes     TEXT    NOT NULL,        -- separated by blanks
    created_at INTEGER NOT NULL,        -- Unix milliseconds
    expires_at INTEGER NOT NULL,        -- 0: never
    revoked_at INTEGER NOT NULL         -- 0: not revoked
) STRICT;
