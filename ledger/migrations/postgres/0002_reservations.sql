-- +goose Up
-- What approvals hold back of a payment. The key is the way exposure reads it: all of one payment in one currency.
CREATE TABLE reservations (
    payment_id  TEXT COLLATE "C" NOT NULL,
    currency    TEXT COLLATE "C" NOT NULL,
    request_id  TEXT COLLATE "C" NOT NULL REFERENCES decisions (request_id),
    amount      BIGINT NOT NULL CHECK (amount > 0), -- minor units
    valid_until BIGINT NOT NULL,                    -- Unix milliseconds; counts while this is ahead
    PRIMARY KEY (payment_id, currency, request_id)
);
