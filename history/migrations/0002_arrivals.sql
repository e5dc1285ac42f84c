-- +goose Up

-- +goose StatementBegin
-- What has come in lately, in the order of coming: running servers follow it to keep their memory up to date. The moment
-- is the start of the insert by ClickHouse's own clock, so the clocks of writers don't matter; rows of a slow insert appear
-- behind newer ones, which is why readers look back (tail.go).
-- cluster: by id
CREATE TABLE arrivals (
    arrived_at Int64,      -- UTC milliseconds
    id         String,
    payload    String CODEC(ZSTD(1)),
    day        Date
) ENGINE = MergeTree
ORDER BY arrived_at
PARTITION BY day
TTL day + INTERVAL 2 DAY
SETTINGS ttl_only_drop_parts = 1, index_granularity = 1024;
-- +goose StatementEnd

-- +goose StatementBegin
-- cluster: of events
CREATE MATERIALIZED VIEW arrivals_feed TO arrivals AS
SELECT toUnixTimestamp64Milli(now64(3)) AS arrived_at, id, payload, today() AS day FROM events;
-- +goose StatementEnd
