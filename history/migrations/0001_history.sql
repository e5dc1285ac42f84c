-- +goose Up

-- +goose StatementBegin
-- Every event once, by id: it finds what is stored already, and a label's request.
-- ORDER BY id: all reads are by id, but for the offline scans of one kind, which read that column alone first.
-- precedence falls with the time of storing, so of two rows of one id the replacing engine keeps the first.
CREATE TABLE events (
    id          String CODEC(ZSTD(1)),
    kind        LowCardinality(String),
    occurred_at Int64 CODEC(Delta, ZSTD(1)),   -- UTC milliseconds, as all times here
    known_at    Int64 CODEC(Delta, ZSTD(1)),
    amount      Int64 CODEC(T64, ZSTD(1)),     -- minor units of currency; 0 without one
    currency    LowCardinality(String),
    digest      FixedString(32) CODEC(NONE),   -- SHA-256 of the event as it was sent
    precedence  UInt64 CODEC(Delta, ZSTD(1)),
    payload     String CODEC(ZSTD(1))          -- the whole fact, by codec.go
) ENGINE = ReplacingMergeTree(precedence)
ORDER BY id
SETTINGS index_granularity = 1024;
-- +goose StatementEnd

-- +goose StatementBegin
-- One row per event and entity. Decisions read whole timelines of a few entities: the entity comes first, as one string
-- (kind:id), then the kind, since the newest N count per kind, then the order of time. Small granules and blocks: a
-- timeline is tens of rows, and a granule is the least that can be read.
CREATE TABLE timelines (
    entity      String CODEC(ZSTD(1)),
    kind        LowCardinality(String),
    occurred_at Int64 CODEC(Delta, ZSTD(1)),
    id          String CODEC(ZSTD(1)),
    known_at    Int64 CODEC(Delta, ZSTD(1)),
    precedence  UInt64 CODEC(Delta, ZSTD(1)),
    payload     String CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree(precedence)
ORDER BY (entity, kind, occurred_at, id)
SETTINGS index_granularity = 256, min_compress_block_size = 8192, max_compress_block_size = 16384;
-- +goose StatementEnd

-- +goose StatementBegin
-- Reference rates: units of the currency for one euro, as the ECB publishes them, kept as written.
CREATE TABLE rates (
    day      Date32,
    currency LowCardinality(String),
    per_euro String
) ENGINE = ReplacingMergeTree
ORDER BY (currency, day);
-- +goose StatementEnd

-- +goose StatementBegin
-- What holds for the whole history, such as its base currency.
CREATE TABLE settings (
    name  String,
    value String
) ENGINE = ReplacingMergeTree
ORDER BY name;
-- +goose StatementEnd
