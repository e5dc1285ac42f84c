-- +goose Up
-- What was done by whom: policies published, keys made, customers forgotten.
CREATE TABLE audit_log (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    id      TEXT    NOT NULL UNIQUE,
    at      INTEGER NOT NULL, -- Unix milliseconds
    actor   TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    detail  BLOB    NOT NULL  -- JSON, '' for none
) STRICT;

-- The chain that shows tampering: each transaction that decided or changed something makes one block, whose hash covers the
-- block before and the root of a Merkle tree over its leaves (audit.go).
CREATE TABLE audit_blocks (
    seq    INTEGER NOT NULL PRIMARY KEY, -- from 1, without gaps
    id     BLOB    NOT NULL UNIQUE,      -- known before seq is
    prev   BLOB    NOT NULL,             -- hash of the block before, 32 zeros before the first
    root   BLOB    NOT NULL,
    leaves INTEGER NOT NULL,
    at     INTEGER NOT NULL,             -- Unix milliseconds
    hash   BLOB    NOT NULL
) STRICT;

-- What a block vouches for: one state of one row of another table.
CREATE TABLE audit_leaves (
    block    BLOB    NOT NULL, -- id of the block
    n        INTEGER NOT NULL, -- from 0, without gaps
    kind     TEXT    NOT NULL, -- of row
    id       TEXT    NOT NULL, -- of row
    state    INTEGER NOT NULL, -- 0: as it was made, 1: rewritten, 2: removed
    content  BLOB    NOT NULL, -- hash of the row; removed: zeros
    salt     BLOB,             -- NULL: the personal part was rewritten or removed since
    personal BLOB,             -- then: the hash of what it was, unless the row is gone
    PRIMARY KEY (block, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_leaves_id ON audit_leaves (id, kind);

-- The end of the chain, so that two writers never continue it from the same block.
CREATE TABLE audit_head (
    one  INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    seq  INTEGER NOT NULL,
    hash BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO audit_head (one, seq, hash) VALUES (1, 0, X'0000000000000000000000000000000000000000000000000000000000000000');
