-- +goose Up
-- What analysts, counters and states ask of a decision. The row itself never changes.
ALTER TABLE decisions
    ADD COLUMN verdict       TEXT   NOT NULL,
    ADD COLUMN amount        BIGINT NOT NULL, -- requested, minor units; reserved is what was approved of it
    ADD COLUMN base_amount   BIGINT NOT NULL, -- approved, minor units of the base currency
    ADD COLUMN review_due_at BIGINT NOT NULL, -- Unix milliseconds, 0: no review
    ADD COLUMN case_id       TEXT   NOT NULL,
    ADD COLUMN duplicate_of  TEXT   NOT NULL; -- the request that came first

-- The counters of a customer, from the index alone.
CREATE INDEX decisions_customer ON decisions (customer_id, decided_at, verdict, base_amount);

-- Requests that are not over: what waits for a reviewer, and what approvals hold back of payments. The key is the way
-- exposure and the search for duplicates read it: all of one payment. A request leaves the table when it is over.
CREATE TABLE open_requests (
    payment_id  TEXT COLLATE "C" NOT NULL, -- '': no payment is known
    request_id  TEXT COLLATE "C" NOT NULL,
    currency    TEXT   NOT NULL,
    amount      BIGINT NOT NULL, -- requested, minor units
    approved    BIGINT NOT NULL CHECK (approved >= 0), -- minor units that it holds; 0: it waits for a reviewer
    submitted   BIGINT NOT NULL, -- 1: the money is on its way, and the approval does not expire
    valid_until BIGINT NOT NULL, -- Unix milliseconds; an approval holds money while this is ahead
    decided_at  BIGINT NOT NULL, -- Unix milliseconds
    case_id     TEXT   NOT NULL,
    event       BYTEA  NOT NULL, -- JSON of the request as a fact
    PRIMARY KEY (payment_id, request_id)
);
-- The sweep finds what has expired.
CREATE INDEX open_requests_expiry ON open_requests (valid_until) WHERE approved > 0 AND submitted = 0;

DROP TABLE reservations;
