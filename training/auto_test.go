package training_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"vaglio"
	"vaglio/features"
	"vaglio/training"
)

// devices is a history in which requests come from devices with a busy or a quiet past: logins at all times, on the device, of
// whatever customer. With a signal a request is fraud if its device had more than five logins in the six hours before it.
func devices(signal bool) []vaglio.Event {
	random := rand.New(rand.NewPCG(7, 8))
	var events []vaglio.Event
	add := func(id, kind string, at vaglio.Instant, i int) {
		events = append(events, event(id, kind, at, "customer", fmt.Sprint("c", random.IntN(900)), "device", fmt.Sprint("d", i)))
	}
	for i := range 120 * 24 {
		at := t0 + vaglio.Instant(i)*vaglio.Hour
		recent := random.IntN(9)
		for j := range recent {
			add(fmt.Sprint("near", i, ".", j), "login", at-1-vaglio.Instant(random.Int64N(int64(6*vaglio.Hour)-1)), i)
		}
		for j := range 2 + random.IntN(9) {
			add(fmt.Sprint("far", i, ".", j), "login", at-6*vaglio.Hour-vaglio.Instant(random.Int64N(int64(10*vaglio.Day))), i)
		}
		r := event(fmt.Sprint("r", i), vaglio.KindRefundRequested, at, "customer", fmt.Sprint("c", i%900), "device", fmt.Sprint("d", i))
		r.Amount, r.Currency, r.Attributes = 1000+random.Int64N(9000), "EUR", vaglio.FieldsOf("channel", []string{"app", "web"}[random.IntN(2)])
		events = append(events, r)
		if fraud := recent > 5 && random.IntN(20) > 0; signal && fraud || !signal && random.IntN(4) == 0 {
			events = append(events, label(i, vaglio.KindFraudConfirmed, at+10*vaglio.Day))
		}
	}
	return events
}

func propose(t *testing.T, signal bool) (training.Proposal, *features.Catalogue) {
	t.Helper()
	steps := map[string]int{}
	p, err := training.Propose(t.Context(), training.ProposeOptions{History: newHistory(t, devices(signal)...), Catalogue: []byte(smallYAML), Period: trainPeriod,
		Rounds: 30, Tries: 8, Seed: 1, Progress: func(p training.Progress) { steps[p.Step]++ }})
	if err != nil {
		t.Fatal(err)
	}
	if steps["replay"] == 0 || steps["compare with shadows"] == 0 {
		t.Errorf("progress %v", steps)
	}
	return p, parse(t, string(p.YAML))
}

func TestAPlantedSignalIsProposed(t *testing.T) {
	p, catalogue := propose(t, true)
	if len(p.Kept) == 0 || p.Kept[0].Name != "device_login_count_6h" || p.Kept[0].Interval.Low <= 0 || p.Extended < p.Base+0.3 {
		t.Fatalf("kept %+v of %d survivors, %v to %v", p.Kept, p.Surviving, p.Base, p.Extended)
	}
	if len(p.Kept) > 3 {
		t.Errorf("%d rows are kept", len(p.Kept))
	}
	names := catalogue.Names()
	if !slices.Equal(names[:3], []string{"login_failed_24h", "hour", "channel"}) || names[3] != "device_login_count_6h" {
		t.Errorf("features %v", names)
	}
	if row := catalogue.Features()[3]; row.Reason != "SHARED_IDENTIFIERS" {
		t.Errorf("the reason is %q", row.Reason)
	}
	text := string(p.YAML)
	if !strings.Contains(text, "  # average precision +") || !strings.Contains(text, "\n  - {name: device_login_count_6h, entity: device, events: [login], aggregate: count, window: 6h, reason: SHARED_IDENTIFIERS}\n") {
		t.Errorf("the text is\n%s", text)
	}
}

func TestNothingIsProposedOfNoise(t *testing.T) {
	p, catalogue := propose(t, false)
	if len(p.Kept) != 0 || len(catalogue.Names()) != 3 || string(p.YAML) != smallYAML {
		t.Errorf("kept %+v: %s", p.Kept, p.YAML)
	}
	if p.Looked < 20 {
		t.Errorf("only %d candidates", p.Looked)
	}
}

func TestProposingWithoutLabelsSaysWhatIsMissing(t *testing.T) {
	h := newHistory(t, refund(1, t0))
	_, err := training.Propose(t.Context(), training.ProposeOptions{History: h, Catalogue: []byte(smallYAML), Period: trainPeriod})
	if err == nil || !strings.Contains(err.Error(), "both classes are needed") {
		t.Errorf("%v", err)
	}
	_, err = training.Propose(t.Context(), training.ProposeOptions{History: h, Period: training.Period{From: t0 + vaglio.Day, Until: t0 + 2*vaglio.Day}})
	if err == nil || !strings.Contains(err.Error(), "no refund request") {
		t.Errorf("%v", err)
	}
	_, err = training.Propose(t.Context(), training.ProposeOptions{History: h, Catalogue: []byte("name: x\nfeatures: 3\n"), Period: trainPeriod})
	if err == nil {
		t.Error("a broken catalogue is taken")
	}
}
