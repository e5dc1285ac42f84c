-- +goose Up
ALTER TABLE api_keys ADD COLUMN last_used_at INTEGER NOT NULL DEFAULT 0; -- Unix milliseconds, about a minute exact; 0: never
ALTER TABLE api_keys ADD COLUMN replaces TEXT NOT NULL DEFAULT ''; -- the key that this one rotated
