-- +goose Up
-- The queue of reviewers: how long it is.
CREATE INDEX open_requests_reviews ON open_requests (decided_at) WHERE approved = 0;
