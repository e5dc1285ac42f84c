package vaglio_test

import (
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"vaglio"
)

func TestDecisionsAndRequestsAreEncodedAsTheirFieldsSay(t *testing.T) {
	check := func(v interface{ AppendJSON([]byte) ([]byte, error) }) {
		t.Helper()
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.AppendJSON([]byte("before")); err != nil || string(got) != "before"+string(want) {
			t.Errorf("got  %s (%v)\nwant %s", got, err, want)
		}
	}
	check(&vaglio.Decision{})
	check(&vaglio.Request{})
	check(&vaglio.Request{Payment: &vaglio.PaymentState{}})
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var d vaglio.Decision
		fill(random, reflect.ValueOf(&d).Elem())
		check(&d)
		var r vaglio.Request
		fill(random, reflect.ValueOf(&r).Elem())
		for _, fs := range []vaglio.Fields{r.Entities, r.Attributes} {
			for i := range fs {
				fs[i].Name += string(rune('0' + i)) // each once
			}
		}
		check(&r)
	}
}

func TestEveryCharacterIsEncodedAsJSONHasIt(t *testing.T) {
	for c := range rune(0x180) {
		for before := range 17 {
			text := strings.Repeat("a", before) + string(c) + strings.Repeat("b", 16-before)
			want, err := json.Marshal(text)
			if err != nil {
				t.Fatal(err)
			}
			var e vaglio.Encoder
			if e.Text("", text); e.Err != nil || string(e.Bytes) != string(want) {
				t.Errorf("got %s (%v), want %s", e.Bytes, e.Err, want)
			}
		}
	}
}

// fill sets about two thirds of all that is in a value.
func fill(random *rand.Rand, v reflect.Value) {
	texts := []string{"", "a", `"quoted\" <&>`, "perché no 🙂", "\u2028\x00\n", "EUR"}
	if random.IntN(3) == 0 {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(random, v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(random, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), random.IntN(4), 4))
		for i := range v.Len() {
			fill(random, v.Index(i))
		}
	case reflect.Interface:
		values := []any{nil, 1.5, 0.0, -0.25, int64(7), "", "text", true, false}
		if value := values[random.IntN(len(values))]; value != nil {
			v.Set(reflect.ValueOf(value))
		}
	case reflect.String:
		v.SetString(texts[random.IntN(len(texts))])
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(random.Int64N(1 << 41))
	case reflect.Float64:
		v.SetFloat(random.NormFloat64())
	default:
		panic("there is a " + v.Kind().String())
	}
}

func TestNumbersAreEncodedAsJSONHasThem(t *testing.T) {
	values := []float64{0, math.Copysign(0, -1), 1e-6, 9.99e-7, 1e-7, 1.5e-10, -1e-9, 1e20, 1e21, -1e21, 1.25e100, 5e-324, math.MaxFloat64, 1e-100}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		values = append(values, math.Float64frombits(random.Uint64()), random.NormFloat64(), float64(random.IntN(1e6)))
	}
	for _, v := range values {
		want, err := json.Marshal(v)
		if err != nil {
			continue // not a number
		}
		if got := vaglio.AppendNumber(nil, v); string(got) != string(want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestADecisionThatJSONCannotHoldIsNotEncoded(t *testing.T) {
	for _, d := range []vaglio.Decision{{ID: "\xff"}, {LatencyMS: vaglio.Latency{Total: math.NaN()}},
		{Reasons: []vaglio.Reason{{Contribution: math.Inf(1)}}}} {
		if text, err := d.AppendJSON(nil); err == nil {
			t.Errorf("%s", text)
		}
	}
}
