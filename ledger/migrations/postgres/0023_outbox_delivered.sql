-- +goose Up
ALTER TABLE outbox ALTER COLUMN delivered_at SET DEFAULT 0;
