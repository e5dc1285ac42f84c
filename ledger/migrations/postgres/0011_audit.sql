-- +goose Up
-- What was done by whom: policies published, keys made, customers forgotten.
CREATE TABLE audit_log (
    seq     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id      TEXT COLLATE "C" NOT NULL UNIQUE,
    at      BIGINT NOT NULL, -- Unix milliseconds
    actor   TEXT COLLATE "C" NOT NULL,
    action  TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    detail  BYTEA  NOT NULL  -- JSON, '' for none
);

-- The chain that shows tampering: each transaction that decided or changed something makes one block, whose hash covers the
-- block before and the root of a Merkle tree over its leaves (audit.go).
CREATE TABLE audit_blocks (
    seq    BIGINT NOT NULL PRIMARY KEY, -- from 1, without gaps
    id     BYTEA  NOT NULL UNIQUE,      -- known before seq is
    prev   BYTEA  NOT NULL,             -- hash of the block before, 32 zeros before the first
    root   BYTEA  NOT NULL,
    leaves BIGINT NOT NULL,
    at     BIGINT NOT NULL,             -- Unix milliseconds
    hash   BYTEA  NOT NULL
);

-- What a block vouches for: one state of one row of another table.
CREATE TABLE audit_leaves (
    block    BYTEA  NOT NULL, -- id of the block
    n        BIGINT NOT NULL, -- from 0, without gaps
    kind     TEXT COLLATE "C" NOT NULL, -- of row
    id       TEXT COLLATE "C" NOT NULL, -- of row
    state    BIGINT NOT NULL, -- 0: as it was made, 1: rewritten, 2: removed
    content  BYTEA  NOT NULL, -- hash of the row; removed: zeros
    salt     BYTEA,             -- NULL: the personal part was rewritten or removed since
    personal BYTEA,             -- then: the hash of what it was, unless the row is gone
    PRIMARY KEY (block, n)
);
CREATE INDEX audit_leaves_id ON audit_leaves (id, kind);

-- The end of the chain, so that two writers never continue it from the same block. Every transaction updates it: half of the
-- page stays free, for the update to find room there.
CREATE TABLE audit_head (
    one  BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    seq  BIGINT NOT NULL,
    hash BYTEA  NOT NULL
) WITH (fillfactor = 50);
INSERT INTO audit_head (one, seq, hash) VALUES (1, 0, '\x0000000000000000000000000000000000000000000000000000000000000000');
