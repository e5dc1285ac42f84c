-- +goose Up
ALTER TABLE api_keys ADD COLUMN rate_limit REAL NOT NULL DEFAULT 0; -- calls a second; 0: the server's, below 0: none
