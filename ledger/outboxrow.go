package ledger

import (
	"math"

	"github.com/go-json-experiment/json"

	"vaglio"
)

// factBody is a fact in the outbox. It has its own form, in plain milliseconds, because the wire form of an event leaves
// out what history adds and refuses what a request's event may carry.
type factBody struct {
	ID         string        `json:"id"`
	Kind       string        `json:"kind"`
	OccurredAt int64         `json:"occurred_at"`
	ObservedAt int64         `json:"observed_at"`
	Entities   vaglio.Fields `json:"entities,omitempty"`
	Attributes vaglio.Fields `json:"attributes,omitempty"`
	Amount     int64         `json:"amount"`
	Currency   string        `json:"currency"`
	KnownAt    int64         `json:"known_at"`
	BaseAmount int64         `json:"base_amount"`
	BaseKnown  bool          `json:"base_known"`
	Completed  bool          `json:"completed,omitzero"`
}

func encodeFact(f vaglio.Fact) ([]byte, error) {
	return json.Marshal(&factBody{ID: f.ID, Kind: f.Kind, OccurredAt: int64(f.OccurredAt), ObservedAt: int64(f.ObservedAt),
		Entities: f.Entities, Attributes: f.Attributes, Amount: f.Amount, Currency: f.Currency, KnownAt: int64(f.KnownAt),
		BaseAmount: f.BaseAmount, BaseKnown: f.BaseKnown, Completed: f.Completed})
}

func decodeFact(b []byte) (vaglio.Fact, error) {
	var r factBody
	if err := json.Unmarshal(b, &r); err != nil {
		return vaglio.Fact{}, err
	}
	return vaglio.Fact{
		Event: vaglio.Event{ID: r.ID, Kind: r.Kind, OccurredAt: vaglio.Instant(r.OccurredAt), ObservedAt: vaglio.Instant(r.ObservedAt),
			Entities: r.Entities, Attributes: r.Attributes, Amount: r.Amount, Currency: r.Currency},
		KnownAt: vaglio.Instant(r.KnownAt), BaseAmount: r.BaseAmount, BaseKnown: r.BaseKnown, Completed: r.Completed,
	}, nil
}

// takenBody is a decision in the outbox. JSON has no NaN: a number that nobody gave is null.
type takenBody struct {
	vaglio.Taken
	DecidedAt                                  int64
	Probability, LogOdds, RiskScore, LatencyMS *float64
	Propensity                                 *float64
	Shadows                                    []shadowBody `json:",omitempty"`
}

type shadowBody struct {
	vaglio.Shadow
	Probability *float64 `json:"probability"`
}

func encodeTaken(t *vaglio.Taken) ([]byte, error) {
	body := takenBody{Taken: *t, DecidedAt: int64(t.DecidedAt), Probability: given(t.Probability), LogOdds: given(t.LogOdds),
		RiskScore: given(t.RiskScore), LatencyMS: given(t.LatencyMS), Propensity: given(t.Propensity)}
	for _, s := range t.Shadows {
		body.Shadows = append(body.Shadows, shadowBody{s, given(s.Probability)})
	}
	return json.Marshal(&body)
}

func decodeTaken(b []byte) (vaglio.Taken, error) {
	var body takenBody
	if err := json.Unmarshal(b, &body); err != nil {
		return vaglio.Taken{}, err
	}
	t := body.Taken
	t.DecidedAt = vaglio.Instant(body.DecidedAt)
	t.Probability, t.LogOdds, t.RiskScore = number(body.Probability), number(body.LogOdds), number(body.RiskScore)
	t.LatencyMS, t.Propensity = number(body.LatencyMS), number(body.Propensity)
	for _, s := range body.Shadows {
		s.Shadow.Probability = number(s.Probability)
		t.Shadows = append(t.Shadows, s.Shadow)
	}
	return t, nil
}

// given is nil for what JSON can't write.
func given(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}

func number(x *float64) float64 {
	if x == nil {
		return math.NaN()
	}
	return *x
}
