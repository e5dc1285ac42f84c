-- +goose Up
-- Lists of values that rules ask for. A row's revision is the number of the list's change that wrote it last: who follows
-- a list reads what is above the revision that he has.
CREATE TABLE lists (
    name       TEXT    NOT NULL PRIMARY KEY,
    salt       BLOB    NOT NULL, -- empty: values are kept as they are; otherwise only SHA-256(salt, value) is kept
    revision   INTEGER NOT NULL,
    created_at INTEGER NOT NULL  -- Unix milliseconds
) STRICT;

-- A value's stay on a list: [added_at, the earlier of expires_at and removed_at).
CREATE TABLE list_entries (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    list       TEXT    NOT NULL REFERENCES lists (name),
    digest     BLOB    NOT NULL, -- SHA-256(salt, value)
    value      TEXT    NOT NULL, -- '' on a hashed list
    reason     TEXT    NOT NULL,
    author     TEXT    NOT NULL,
    added_at   INTEGER NOT NULL, -- Unix milliseconds
    expires_at INTEGER NOT NULL, -- 0: never
    removed_at INTEGER NOT NULL, -- 0: not removed
    removed_by TEXT    NOT NULL,
    revision   INTEGER NOT NULL
) STRICT;

-- At most one stay of a value is open.
CREATE UNIQUE INDEX list_entries_open ON list_entries (list, digest) WHERE removed_at = 0;
-- Following a list: what changed since a revision, in order.
CREATE INDEX list_entries_changed ON list_entries (list, revision, id);
