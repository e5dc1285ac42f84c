-- +goose Up
CREATE TABLE api_keys (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL,
    hash       BYTEA  NOT NULL UNIQUE, -- SHA-256 of the secret
    scopes     TEXT   NOT NULL,        -- separated by blanks
    created_at BIGINT NOT NULL,        -- Unix milliseconds
    expires_at BIGINT NOT NULL,        -- 0: never
    revoked_at BIGINT NOT NULL         -- 0: not revoked
);
