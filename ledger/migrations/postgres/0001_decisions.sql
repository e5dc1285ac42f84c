-- +goose Up
-- A request is decided once, for ever. Identifiers compare by their bytes: nobody reads them in a language's order.
CREATE TABLE decisions (
    request_id  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    decision_id TEXT COLLATE "C" NOT NULL UNIQUE,
    digest      BYTEA  NOT NULL, -- SHA-256 of the request's content
    request     BYTEA  NOT NULL, -- canonical JSON
    response    BYTEA  NOT NULL, -- the answer, byte for byte
    inputs      BYTEA,           -- what replay needs; NULL: nothing was kept
    customer_id TEXT COLLATE "C" NOT NULL,
    payment_id  TEXT COLLATE "C" NOT NULL, -- '': no payment is known
    currency    TEXT COLLATE "C" NOT NULL,
    reserved    BIGINT NOT NULL CHECK (reserved >= 0), -- minor units
    valid_until BIGINT NOT NULL, -- Unix milliseconds, 0: never valid
    decided_at  BIGINT NOT NULL  -- Unix milliseconds
);
