-- +goose Up

-- +goose StatementBegin
-- What was decided, for analytics: one row per decision, delivered by the ledger's outbox.
-- ORDER BY time: every reader asks for a period, and comparisons of models and policies want its decisions in order of time,
-- which is then the order of reading. The id ends the key, so that the replacing engine takes only repetitions of one
-- decision for one; a repetition has the same moment. Rows come in nearly in this order, so merges have little to sort.
-- A customer's rows are found through the filter (a right of access or erasure asks for them, nothing in a hurry does).
-- cluster: by decision_id
CREATE TABLE decisions (
    decided_at          Int64 CODEC(Delta, ZSTD(1)),   -- UTC milliseconds
    decision_id         String CODEC(ZSTD(1)),
    request_id          String CODEC(ZSTD(1)),
    customer            String CODEC(ZSTD(1)),
    payment             String CODEC(ZSTD(1)),
    verdict             LowCardinality(String),
    amount              Int64 CODEC(T64, ZSTD(1)),     -- minor units of currency
    currency            LowCardinality(String),
    base_amount         Int64 CODEC(T64, ZSTD(1)),     -- minor units of the base currency
    base_known          Bool,
    approved_amount     Int64 CODEC(T64, ZSTD(1)),
    probability         Float64 CODEC(ZSTD(1)),        -- NaN, as in all numbers here: nobody gave one
    log_odds            Float64 CODEC(ZSTD(1)),
    risk_score          Float64 CODEC(ZSTD(1)),
    model_version       LowCardinality(String),        -- '' without a model
    policy_version      LowCardinality(String),
    stage               LowCardinality(String),        -- of the model that decided
    explored            Bool,
    propensity          Float64 CODEC(ZSTD(1)),
    audit               Bool,                          -- an approval drawn for silent review
    degraded            Bool,
    degraded_reasons    Array(LowCardinality(String)),
    rule_names          Array(LowCardinality(String)), -- the rules that fired, in order, as are the next two
    rule_actions        Array(LowCardinality(String)),
    rule_states         Array(LowCardinality(String)),
    shadow_models       Array(LowCardinality(String)), -- versions of models that did not decide, in order, as are the next three
    shadow_stages       Array(LowCardinality(String)),
    shadow_probabilities Array(Float64),
    shadow_verdicts     Array(LowCardinality(String)),
    latency_ms          Float64 CODEC(ZSTD(1)),
    precedence          UInt64 CODEC(Delta, ZSTD(1)),  -- falls with the time of storing: the first row of a decision stays
    INDEX decisions_customer customer TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = ReplacingMergeTree(precedence)
ORDER BY (decided_at, decision_id)
SETTINGS index_granularity = 1024;
-- +goose StatementEnd
