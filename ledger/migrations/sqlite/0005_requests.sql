-- +goose Up
-- What analysts, counters and states ask of a decision. The row itself never changes.
ALTER TABLE decisions ADD COLUMN verdict TEXT NOT NULL DEFAULT 'review';
ALTER TABLE decisions ADD COLUMN amount INTEGER NOT NULL DEFAULT 0; -- requested, minor units; reserved is what was approved of it
ALTER TABLE decisions ADD COLUMN base_amount INTEGER NOT NULL DEFAULT 0; -- approved, minor units of the base currency
ALTER TABLE decisions ADD COLUMN review_due_at INTEGER NOT NULL DEFAULT 0; -- Unix milliseconds, 0: no review
ALTER TABLE decisions ADD COLUMN case_id TEXT NOT NULL DEFAULT '';
ALTER TABLE decisions ADD COLUMN duplicate_of TEXT NOT NULL DEFAULT ''; -- the request that came first
UPDATE decisions SET
    verdict = COALESCE(json_extract(CAST(response AS TEXT), '$.decision'), 'review'),
    reserved = COALESCE(json_extract(CAST(response AS TEXT), '$.approved_amount'), reserved),
    amount = COALESCE(json_extract(CAST(request AS TEXT), '$.amount'), 0)
    WHERE json_valid(CAST(response AS TEXT)) AND json_valid(CAST(request AS TEXT));

-- The counters of a customer, from the index alone.
CREATE INDEX decisions_customer ON decisions (customer_id, decided_at, verdict, base_amount);

-- Requests that are not over: what waits for a reviewer, and what approvals hold back of payments. The key is the way
-- exposure and the search for duplicates read it: all of one payment. A request leaves the table when it is over.
CREATE TABLE open_requests (
    payment_id  TEXT    NOT NULL, -- '': no payment is known
    request_id  TEXT    NOT NULL,
    currency    TEXT    NOT NULL,
    amount      INTEGER NOT NULL, -- requested, minor units
    approved    INTEGER NOT NULL CHECK (approved >= 0), -- minor units that it holds; 0: it waits for a reviewer
    submitted   INTEGER NOT NULL, -- 1: the money is on its way, and the approval does not expire
    valid_until INTEGER NOT NULL, -- Unix milliseconds; an approval holds money while this is ahead
    decided_at  INTEGER NOT NULL, -- Unix milliseconds
    case_id     TEXT    NOT NULL,
    event       BLOB    NOT NULL, -- JSON of the request as a fact
    PRIMARY KEY (payment_id, request_id)
) STRICT, WITHOUT ROWID;
-- The sweep finds what has expired.
CREATE INDEX open_requests_expiry ON open_requests (valid_until) WHERE approved > 0 AND submitted = 0;

INSERT INTO open_requests (payment_id, request_id, currency, amount, approved, submitted, valid_until, decided_at, case_id, event)
    SELECT payment_id, request_id, currency, amount, reserved, 0, valid_until, decided_at, '',
        CAST(json_object('id', request_id, 'kind', 'refund_requested', 'occurred_at', decided_at, 'observed_at', decided_at,
            'entities', json(json_extract(CAST(request AS TEXT), '$.entities')), 'amount', amount, 'currency', currency,
            'known_at', decided_at + 1, 'base_amount', 0, 'base_known', json('false')) AS BLOB)
    FROM decisions WHERE (verdict = 'review' OR verdict = 'approve') AND json_valid(CAST(request AS TEXT));
DROP TABLE reservations;
