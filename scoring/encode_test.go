package scoring

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/models"
)

func TestInputsAreEncodedAsTheirFieldsSay(t *testing.T) {
	check := func(in *Inputs) {
		t.Helper()
		want, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var e vaglio.Encoder
		in.encode(&e)
		in.Concluded.encode(&e)
		if e.Raw(`}`); e.Err != nil || string(e.Bytes) != string(want) {
			t.Errorf("got  %s (%v)\nwant %s", e.Bytes, e.Err, want)
		}
	}
	check(&Inputs{})
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var in Inputs
		fill(random, reflect.ValueOf(&in).Elem())
		for i := range in.Entities {
			in.Entities[i].Name += string(rune('0' + i)) // each once
		}
		check(&in)
	}
}

// fill sets about two thirds of all that is in a value.
func fill(random *rand.Rand, v reflect.Value) {
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
	case reflect.String:
		v.SetString([]string{"", "a", `"quoted\"`, "perché no"}[random.IntN(4)])
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(random.Int64N(1 << 41))
	case reflect.Float64:
		v.SetFloat(random.NormFloat64())
		if _, missing := v.Interface().(models.Number); missing && random.IntN(4) == 0 {
			v.SetFloat(math.NaN())
		}
	default:
		panic("there is a " + v.Kind().String())
	}
}
