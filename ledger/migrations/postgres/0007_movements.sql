-- +goose Up
-- Money of payments that the ledger was told of. What came as an event goes once history surely shows it; what the ledger
-- told history itself stays. The key is the way exposure reads it: all of one payment.
CREATE TABLE movements (
    payment_id  TEXT COLLATE "C" NOT NULL,
    event_id    TEXT COLLATE "C" NOT NULL,
    kind        TEXT NOT NULL,
    request_id  TEXT NOT NULL, -- '': the event names none
    customer_id TEXT NOT NULL, -- '': likewise
    amount      BIGINT NOT NULL, -- minor units
    currency    TEXT NOT NULL,
    occurred_at BIGINT NOT NULL, -- Unix milliseconds, as all times here
    known_at    BIGINT NOT NULL,
    told_at     BIGINT NOT NULL,
    own         BIGINT NOT NULL, -- 1: by the ledger itself
    PRIMARY KEY (payment_id, event_id)
);
CREATE INDEX movements_told ON movements (told_at) WHERE own = 0;
