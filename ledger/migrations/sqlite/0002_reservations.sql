-- +goose Up
-- What approvals hold back of a payment. The key is the way exposure reads it: all of one payment in one currency.
CREATE TABLE reservations (
    payment_id  TEXT    NOT NULL,
    currency    TEXT    NOT NULL,
    request_id  TEXT    NOT NULL REFERENCES decisions (request_id),
    amount      INTEGER NOT NULL CHECK (amount > 0), -- minor units
    valid_until INTEGER NOT NULL,                    -- Unix milliseconds; counts while this is ahead
    PRIMARY KEY (payment_id, currency, request_id)
) STRICT, WITHOUT ROWID;
