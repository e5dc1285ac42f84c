-- +goose Up
-- The number from which on all facts of the outbox have their timelines; 0: new ones get none, because decisions read them from
-- memory, 1: all have them.
ALTER TABLE outbox_topics ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0;
UPDATE outbox_topics SET indexed = 1 WHERE topic = 'history' AND EXISTS (SELECT 1 FROM outbox);
