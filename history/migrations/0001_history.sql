-- +goose Up

-- No table is partitioned. Reads go by id or entity over all of time, so every partition would be one more part to look
-- into, an import of years would write one part per partition and batch, and a replacing engine never merges two rows of
-- one id that lie in different partitions. Old events are not dropped: the horizon leaves them out of decisions, and
-- training wants them.

-- +goose StatementBegin
-- Every event once, by id: it finds what is stored already, and a label's request.
-- ORDER BY id: all reads are by id, but for the offline scans of one kind, which read that column alone first.
-- precedence falls with the time of storing, so of two rows of one id the replacing engine keeps the first, and readers,
-- who may come before the merge, order by it. Granules of 1,024 rows: ids are looked up by the thousand before each
-- insert, spread over the whole table. ZSTD, for the payload here is read rarely; Delta, for ids mostly grow with time.
-- A digest looks random and would only cost a compressor's time.
-- cluster: by id
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
-- (kind:id), since a pair of columns in an IN costs more than the rows, then the kind, since the newest N count per kind,
-- then the order of time. The key ends with the id, so the replacing engine takes only repetitions of one event for one.
-- Small granules and blocks: a timeline is tens of rows, and a granule is the least that can be read.
-- LZ4: three rows per event are written, merged several times and read by every decision; against ZSTD(1) that is 38 % less
-- work on a write and 1.6 times the room (60 bytes a row).
-- cluster: by entity
CREATE TABLE timelines (
    entity      String CODEC(LZ4),
    kind        LowCardinality(String) CODEC(LZ4),
    occurred_at Int64 CODEC(Delta, LZ4),
    id          String CODEC(LZ4),
    known_at    Int64 CODEC(Delta, LZ4),
    precedence  UInt64 CODEC(Delta, LZ4),
    payload     String CODEC(LZ4)
) ENGINE = ReplacingMergeTree(precedence)
ORDER BY (entity, kind, occurred_at, id)
SETTINGS index_granularity = 256, min_compress_block_size = 8192, max_compress_block_size = 16384;
-- +goose StatementEnd

-- +goose StatementBegin
-- Reference rates: units of the currency for one euro, as the ECB publishes them, kept as written. All are read at the start.
-- cluster: everywhere
CREATE TABLE rates (
    day      Date32,
    currency LowCardinality(String),
    per_euro String
) ENGINE = ReplacingMergeTree
ORDER BY (currency, day);
-- +goose StatementEnd

-- +goose StatementBegin
-- What holds for the whole history, such as its base currency.
-- cluster: everywhere
CREATE TABLE settings (
    name  String,
    value String
) ENGINE = ReplacingMergeTree
ORDER BY name;
-- +goose StatementEnd
