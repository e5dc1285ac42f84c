-- +goose Up
-- What retention looks for, oldest first: inputs that are still kept, and decisions whose texts are. The row itself, with the
-- request's id and digest, stays for ever: an id is never decided twice.
CREATE INDEX decisions_inputs ON decisions (decided_at) WHERE inputs IS NOT NULL;
CREATE INDEX decisions_texts ON decisions (decided_at) WHERE length(response) > 0;
-- A customer's movements, and those that are to lose their customer.
CREATE INDEX movements_customer ON movements (customer_id) WHERE customer_id <> '';
CREATE INDEX movements_customers ON movements (told_at) WHERE customer_id <> '';
CREATE INDEX audit_log_subject ON audit_log (subject);

-- Customers that are being forgotten, until ledger and history are both done: a run that was cut off goes on under the same
-- pseudonyms. No row stays.
CREATE TABLE forgetting (
    customer   TEXT NOT NULL PRIMARY KEY,
    pseudonyms BLOB NOT NULL, -- JSON: kind and id of an entity → its pseudonym
    begun_at   INTEGER NOT NULL  -- Unix milliseconds
) STRICT;
