-- +goose Up
-- Texts of policies, each once, for ever: a decision names the version that it was taken by.
CREATE TABLE policies (
    version TEXT NOT NULL PRIMARY KEY,
    name    TEXT NOT NULL,
    source  BLOB NOT NULL -- YAML
) STRICT;

-- What was to be in force from when. The published one with the highest turn is.
CREATE TABLE policy_publications (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    version     TEXT    NOT NULL REFERENCES policies (version),
    author      TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    proposed_at INTEGER NOT NULL, -- Unix milliseconds
    turn        INTEGER UNIQUE,   -- NULL: it waits for a second person
    approver    TEXT    NOT NULL, -- '': none was asked for
    turned_at   INTEGER NOT NULL  -- Unix milliseconds, 0 while it waits
) STRICT;
