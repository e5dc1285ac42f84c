-- +goose Up
-- How many customers were forgotten everywhere: whoever keeps facts in memory drops them when it grows.
CREATE TABLE forgettings (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    n   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO forgettings (one, n) VALUES (1, 0);
