package vaglio_test

import (
	"testing"

	"vaglio"
)

func BenchmarkDecodeEvent(b *testing.B) {
	bench := func(name, line string) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := vaglio.DecodeEvent([]byte(line)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	const rest = `"kind":"payment","occurred_at":"2026-11-22T10:00:00.123Z","entities":{"customer":"c_1","payment":"p_1","device":"d_9"},` +
		`"amount":1999,"currency":"EUR","attributes":{"channel":"app","country":"IT"}}`
	bench("usual", `{"id":"evt_1",`+rest)
	bench("escaped", `{"\u0069d":"evt_1",`+rest)
}

func BenchmarkDecodeRequest(b *testing.B) {
	bench := func(name, text string) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := vaglio.DecodeRequest([]byte(text)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	const rest = `"type":"refund","entities":{"customer":"c_1","payment":"p_1","device":"d_9","payout_instrument":"iban_7"},"amount":1999,` +
		`"currency":"EUR","reason":"changed_mind","requested_by":"customer","authentication":"password","payment":{"rail":"card","state":"settled"},` +
		`"attributes":{"channel":"app"}}`
	bench("usual", `{"id":"rr_1",`+rest)
	bench("escaped", `{"\u0069d":"rr_1",`+rest)
}
