-- +goose Up
-- A topic is delivered in the order of seq, in which SQLite commits: one number says how far. Rows that decisions read stay a
-- while after that.
ALTER TABLE outbox_topics ADD COLUMN delivered INTEGER NOT NULL DEFAULT 0;    -- all up to this seq
ALTER TABLE outbox_topics ADD COLUMN delivered_at INTEGER NOT NULL DEFAULT 0; -- Unix milliseconds
UPDATE outbox_topics SET (delivered, delivered_at) = (SELECT COALESCE(MAX(seq), 0), COALESCE(MAX(o.delivered_at), 0) FROM outbox o
    WHERE o.topic = outbox_topics.topic AND o.delivered_at > 0);
DROP INDEX outbox_waiting;
DROP INDEX outbox_delivered;
ALTER TABLE outbox DROP COLUMN delivered_at;
