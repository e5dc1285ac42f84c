package features_test

import (
	"slices"
	"strings"
	"testing"

	"vaglio/features"
)

func TestRowsAreAddedBehindTheFeatures(t *testing.T) {
	rows := []features.Row{
		{Name: "device_login_count_6h", Entity: "device", Events: []string{"login"}, Aggregate: "count", Window: "6h", Comment: "why\nand how"},
		{Name: "customer_payment_mean_30d", Entity: "customer", Events: []string{"payment"}, Aggregate: "mean", Of: "amount", Window: "30d"},
	}
	check := func(source, want string) {
		t.Helper()
		got, err := features.Extend([]byte(source), rows)
		if err != nil {
			t.Fatal(err)
		}
		if want != "" && string(got) != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		base, err := features.Parse([]byte(source))
		if err != nil {
			t.Fatal(err)
		}
		extended, err := features.Parse(got)
		if err != nil {
			t.Fatal(err)
		}
		if want := append(base.Names(), "device_login_count_6h", "customer_payment_mean_30d"); !slices.Equal(extended.Names(), want) {
			t.Errorf("features %v, want %v", extended.Names(), want)
		}
	}
	const one = "{name: hour, expr: request.hour}"
	added := `  # why
  # and how
  - {name: device_login_count_6h, entity: device, events: [login], aggregate: count, window: 6h}
  - {name: customer_payment_mean_30d, entity: customer, events: [payment], aggregate: mean, of: amount, window: 30d}
`
	check("name: x\nfeatures:\n  # mine\n  - "+one, "name: x\nfeatures:\n  # mine\n  - "+one+"\n"+added)
	check("features:\n  - "+one+"\n\n# about the name\nname: x\n", "features:\n  - "+one+"\n"+added+"\n# about the name\nname: x\n")
	check("features:\n  - name: hour\n    # its formula\n    expr: request.hour\n\nname: x\n",
		"features:\n  - name: hour\n    # its formula\n    expr: request.hour\n"+added+"\nname: x\n")
	check("name: x\nfeatures:\n- name: hour\n  expr: request.hour\n", "name: x\nfeatures:\n- name: hour\n  expr: request.hour\n"+strings.ReplaceAll(strings.ReplaceAll(added, "  - ", "- "), "  # ", "# "))
	check("{name: x, features: ["+one+"]}", "")
	check(string(features.DefaultYAML()), "")
}

func TestWhatIsBehindAFeature(t *testing.T) {
	c := features.Default()
	check := func(feature string, want ...string) {
		t.Helper()
		if got := c.KindsBehind(slices.Index(c.Names(), feature)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", feature, got, want)
		}
	}
	check("customer_denied_90d", "refund_denied")
	check("customer_refund_share_180d", "payment", "refund_paid")
	check("claim_reason")
}

func TestACatalogueKnowsItsRows(t *testing.T) {
	check := func(want bool, r features.Row) {
		t.Helper()
		if got := features.Default().Has(&r); got != want {
			t.Errorf("%s: %v", r.YAML(), got)
		}
	}
	check(true, features.Row{Entity: "customer", Events: []string{"payment", "login", "account_opened"}, Aggregate: "since_first", Window: "all"})
	check(true, features.Row{Entity: "customer", Events: []string{"refund_requested"}, Aggregate: "count", Window: "168h"})
	check(false, features.Row{Entity: "customer", Events: []string{"refund_requested"}, Aggregate: "count", Window: "8d"})
	check(false, features.Row{Entity: "device", Events: []string{"refund_requested"}, Aggregate: "count", Window: "7d"})
}
