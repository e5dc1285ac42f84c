package features_test

import (
	"testing"

	"vaglio/features"
)

// Whatever a file holds, Parse answers with a catalogue that computes and survives its own YAML, or with an error.
func FuzzParse(f *testing.F) {
	f.Add(features.DefaultYAML())
	for _, row := range []string{
		"{name: x, entity: customer, events: [payment], aggregate: share, part: amount > request.amount, where: 'missing(attributes.a)'}",
		"{name: x, entity: customer+device, events: [a, b], aggregate: same, of: device, which: usual, window: 7d, offset: 1h}",
		"{name: x, entity: payment, events: [a], aggregate: stddev, of: amount, window: all}",
		"{name: x, entity: customer, events: [fraud_confirmed], aggregate: linked, of: [device, instrument]}",
		"{name: x, entity: ip, events: [a], aggregate: habit, within: 2h, reason: Y, unit: share}",
		"{name: x, expr: 'request.hour in [1] ? max(1, 2) : -(1 / 0)'}",
		"{name: x, categorical: request.reason, categories: [a, b]}",
	} {
		f.Add([]byte("name: t\nfeatures:\n  - " + row + "\n"))
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		c, err := features.Parse(source)
		if err != nil {
			return
		}
		request := fact("r", "refund_requested", t0, 250, "customer", "c", "device", "d", "instrument", "i", "payment", "p")
		newTimelines(c).add(fact("e", "payment", t0-1, 100, "customer", "c", "device", "d", "instrument", "i", "payment", "p")).vector(request)
		written, err := c.YAML()
		if err != nil {
			t.Fatalf("%q does not write: %v", source, err)
		}
		if _, err := features.Parse(written); err != nil {
			t.Fatalf("%q writes %q, which does not read: %v", source, written, err)
		}
	})
}
