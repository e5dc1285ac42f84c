package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestATextIsReadAsItWasStored(t *testing.T) {
	check := func(t rapid.TB, text []byte) {
		b := appendText([]byte("before"), text)
		got, err := readText(b[len("before"):])
		if err != nil || !bytes.Equal(got, text) || !bytes.HasPrefix(b, []byte("before")) {
			t.Fatalf("%q is stored as %q and read as %q: %v", text, b, got, err)
		}
		if one := storedText(text); !bytes.Equal(one, b[len("before"):]) {
			t.Fatalf("%q, by itself %q", b, one)
		}
	}
	for _, example := range bytes.Split(examples1, []byte("\n")) {
		check(t, example)
		check(t, bytes.ReplaceAll(example, []byte("a"), []byte("b")))
	}
	check(t, bytes.Repeat([]byte{1}, 100_000))
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOf(rapid.Byte()).Draw(t, "text")
		if rapid.Bool().Draw(t, "likely") {
			from := rapid.IntRange(0, len(examples1)-1).Draw(t, "from")
			text = append(text, examples1[from:min(len(examples1), from+rapid.IntRange(0, 5000).Draw(t, "length"))]...)
		}
		check(t, text)
	})
}

func TestATextThatAnEarlierVersionStoredIsReadAsItIs(t *testing.T) {
	for _, text := range []string{`{}`, `{"id":"dec_1","reasons":[]}`, ""} {
		if got, err := readText([]byte(text)); err != nil || string(got) != text {
			t.Errorf("%q is read as %q: %v", text, got, err)
		}
	}
}

func TestADecisionTakesAThirdOfItsText(t *testing.T) {
	text := []byte(strings.Replace(string(bytes.Split(examples1, []byte("\n"))[3]), "ACCOUNT_CHANGED", "ACCOUNT_RENEWED", 1))
	if n := len(storedText(text)); n > len(text)/3 {
		t.Errorf("%d of %d bytes", n, len(text))
	}
}

func TestADamagedTextIsAnError(t *testing.T) {
	whole := storedText(bytes.Split(examples1, []byte("\n"))[2])
	damaged := [][]byte{whole[:len(whole)-1], whole[:1], {0x02, 'x'}, {0x01, 0xff, 0xff, 0xff, 0xff, 0x7f, 0}, {0x01, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 'a'}}
	for _, b := range damaged {
		if text, err := readText(b); err == nil {
			t.Errorf("%.20q is read as %.50q", b, text)
		}
	}
	rapid.Check(t, func(t *rapid.T) { // no panic, whatever it says
		_, _ = readText(append([]byte{textPacked1}, rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")...))
	})
}

func TestWhatIsStoredTodayIsReadForEver(t *testing.T) {
	if sum := sha256.Sum256(examples1); hex.EncodeToString(sum[:]) != "ba375111c322425c0ac1ce2f565650c93838f762eb1ae32eff2a14ea178fc8e9" {
		t.Errorf("the examples have changed: %x", sum)
	}
	const text = `{"id":"rr_1","type":"refund","entities":{"customer":"c_1","payment":"p_1"},"amount":1999,"currency":"EUR","reason":"not_received"}`
	stored, err := hex.DecodeString("01820115000200317aa64c71201c223a22635f31222cd1fb14223a22705f312ecf4b0c31393939425c0d1e3d0d40223a226e6f745f7265636569766564227d")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readText(stored); err != nil || string(got) != text {
		t.Errorf("%q, %v", got, err)
	}
}
