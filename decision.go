package vaglio

// Verdict is what is to happen with the money.
type Verdict string

// The three verdicts. The zero value is none of them and must never be answered.
const (
	Approve Verdict = "approve"
	Review  Verdict = "review"
	Deny    Verdict = "deny"
)

// Risk levels of a decision.
const (
	RiskLow         = "low"
	RiskElevated    = "elevated"     // risk score from 80
	RiskHigh        = "high"         // risk score from 95
	RiskNotAssessed = "not_assessed" // no model answered
)

// Decision is the answer to a request. It never changes: the same request gets the same bytes for ever.
type Decision struct {
	ID               string         `json:"id"`
	RequestID        string         `json:"request_id"`
	Verdict          Verdict        `json:"decision"`
	FraudProbability *float64       `json:"fraud_probability"` // calibrated, 0..1; nil without a model
	RiskScore        *float64       `json:"risk_score"`        // percentile 0..100 among the requests of calibration
	RiskLevel        string         `json:"risk_level"`
	ApprovedAmount   int64          `json:"approved_amount"`   // minor units of the request's currency
	RefundableAmount *int64         `json:"refundable_amount"` // what was left of the payment before this decision; nil: unknown
	ValidUntil       Instant        `json:"valid_until,omitzero"`
	ReviewDueAt      Instant        `json:"review_due_at,omitzero"`
	ExpectedLoss     *Money         `json:"expected_loss"`
	Reversibility    string         `json:"reversibility"`
	Reasons          []Reason       `json:"reasons"`
	Rules            []RuleHit      `json:"rules"`
	RequiredActions  []string       `json:"required_actions"`
	Counterfactual   *Change        `json:"counterfactual"`
	Model            *ModelIdentity `json:"model"`
	PolicyVersion    string         `json:"policy_version"`
	FeaturesAsOf     Instant        `json:"features_as_of"`
	Warnings         []string       `json:"warnings"`
	Degraded         bool           `json:"degraded"`
	DegradedReasons  []string       `json:"degraded_reasons"`
	CaseID           string         `json:"case_id,omitzero"`
	DuplicateOf      string         `json:"duplicate_of,omitzero"` // the open request on the same payment and amount that came first
	DryRun           bool           `json:"dry_run,omitzero"`      // nothing was recorded, no money may move on it
	DecidedAt        Instant        `json:"decided_at"`
	LatencyMS        Latency        `json:"latency_ms"`
}

// Money is an amount in minor units of a currency.
type Money struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

// Reason is one argument for or against, in log-odds of fraud.
type Reason struct {
	Code         string          `json:"code"`
	Direction    string          `json:"direction"`    // raises or lowers
	Contribution float64         `json:"contribution"` // log-odds, the exact sum of its features' contributions
	Features     []ReasonFeature `json:"features"`
	Text         string          `json:"text"`
	CustomerText string          `json:"customer_text,omitzero"`
	// EarlierContactText is what the customer may be told instead, only through a contact older than the account's changes.
	EarlierContactText string   `json:"earlier_contact_text,omitzero"`
	Evidence           []string `json:"evidence,omitempty"` // ids of the events behind it
}

// ReasonFeature is a feature's value beside what is usual. Numbers, category names, or nil for a missing value.
type ReasonFeature struct {
	Name          string `json:"name"`
	Value         any    `json:"value"`
	Usual         any    `json:"usual"`                    // the median of the population at training time
	CustomerUsual any    `json:"customer_usual,omitempty"` // the customer's own usual, where the catalogue can tell it
}

// RuleHit is a rule of the policy that fired.
type RuleHit struct {
	Name   string `json:"name"`
	Action string `json:"action"`
	State  string `json:"state"`
}

// Change tells what would have led to an approval. Without such a change, Verdict is that of the decision itself and
// Changes is empty.
type Change struct {
	Verdict Verdict         `json:"decision"`
	Changes []FeatureChange `json:"changes"`
	Text    string          `json:"text"`
	Trials  int             `json:"trials"` // changed requests that were scored and put through the policy
}

// FeatureChange is one thing that would have to differ.
type FeatureChange struct {
	Feature string `json:"feature"`
	From    any    `json:"from"`
	To      any    `json:"to"`
}

// ModelIdentity names the exact model that scored.
type ModelIdentity struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"` // of model.txt
}

// Latency is where the time of a decision went, in milliseconds.
type Latency struct {
	History  float64 `json:"history"`
	Features float64 `json:"features"`
	Model    float64 `json:"model"`
	Explain  float64 `json:"explain"`
	Store    float64 `json:"store"`
	Total    float64 `json:"total"`
}

// Taken is a decision as analysts find it in history: what was decided, by what, and what else would have been said.
// Numbers that nobody gave are NaN.
type Taken struct {
	DecisionID, RequestID string
	Customer, Payment     string
	DecidedAt             Instant
	Verdict               Verdict
	Amount                int64 // minor units of Currency
	Currency              string
	BaseAmount            int64 // minor units of the base currency
	BaseKnown             bool
	ApprovedAmount        int64
	Probability, LogOdds  float64
	RiskScore             float64
	ModelVersion          string // "" without a model
	PolicyVersion         string
	Stage                 string // of the model that decided: champion or challenger; "" without
	Explored              bool   // let through although the policy would not have
	// Propensity is 1 unless exploration could have let the request through: then the chance with which it was let through, or
	// was not; 0 if it could not be, since the day's budget had no room for it.
	Propensity      float64
	Audit           bool // an approval drawn for silent review
	Degraded        bool
	DegradedReasons []string
	Rules           []RuleHit
	Shadows         []Shadow
	LatencyMS       float64
}

// Shadow is what a model that does not decide said of a request.
type Shadow struct {
	ModelVersion string  `json:"model_version"`
	Stage        string  `json:"stage"`
	Probability  float64 `json:"probability"`
	Verdict      Verdict `json:"decision"`
}
