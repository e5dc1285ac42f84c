package history

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"vaglio"
)

// maxRateAge is how long a reference rate stands in for days without one: weekends and holidays.
const maxRateAge = 7 * vaglio.Day

// rateTable holds the reference rates in memory, by currency, sorted by day.
type rateTable struct {
	mu         sync.RWMutex
	byCurrency map[string][]rate
}

type rate struct {
	day     vaglio.Instant // midnight UTC
	perEuro *big.Rat
}

// convert brings an amount from minor units of one currency to those of another, at the newest rate published on or
// before the day, rounded half away from zero; false without a rate.
func (t *rateTable) convert(amountMinor int64, from, to string, at vaglio.Instant) (int64, bool) {
	if from == to {
		return amountMinor, true
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	source, ok1 := t.at(from, at)
	target, ok2 := t.at(to, at)
	fromDigits, ok3 := vaglio.CurrencyDigits(from)
	toDigits, ok4 := vaglio.CurrencyDigits(to)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return 0, false
	}
	v := new(big.Rat).SetInt64(amountMinor)
	v.Mul(v, target).Quo(v, source)
	ten := big.NewInt(10)
	v.Mul(v, new(big.Rat).SetFrac(new(big.Int).Exp(ten, big.NewInt(int64(toDigits)), nil), new(big.Int).Exp(ten, big.NewInt(int64(fromDigits)), nil)))
	half := big.NewRat(1, 2)
	if v.Sign() < 0 {
		half.Neg(half)
	}
	v.Add(v, half)
	whole := new(big.Int).Quo(v.Num(), v.Denom())
	if !whole.IsInt64() || whole.CmpAbs(big.NewInt(vaglio.MaxAmount)) > 0 {
		return 0, false
	}
	return whole.Int64(), true
}

var one = big.NewRat(1, 1)

func (t *rateTable) at(currency string, at vaglio.Instant) (*big.Rat, bool) {
	if currency == "EUR" {
		return one, true
	}
	rates := t.byCurrency[currency]
	i, found := slices.BinarySearchFunc(rates, at, func(r rate, at vaglio.Instant) int { return int(r.day - at) })
	if !found {
		i--
	}
	if i < 0 || at-rates[i].day >= maxRateAge+vaglio.Day {
		return nil, false
	}
	return rates[i].perEuro, true
}

// ImportRates reads reference rates in the ECB's daily layout: a header "Date,USD,JPY,…", then a row per day with units of
// each currency for one euro, N/A where there is none. It returns the number of rates. Nothing is stored of a file with
// an error. Events that are stored already keep their conversion.
func (s *Store) ImportRates(ctx context.Context, r io.Reader) (int, error) {
	rows := csv.NewReader(io.LimitReader(r, 64<<20))
	rows.FieldsPerRecord = -1
	header, err := rows.Read()
	if err != nil || len(header) < 2 || strings.TrimSpace(header[0]) != "Date" {
		return 0, errors.New("line 1: want a header that begins with Date, then currencies")
	}
	batch, err := s.conn.PrepareBatch(ctx, "INSERT INTO rates (day, currency, per_euro)")
	if err != nil {
		return 0, fmt.Errorf("store rates: %w", err)
	}
	defer batch.Close()
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("read rates: %w", err)
		}
		line, _ := rows.FieldPos(0)
		day, err := parseDay(strings.TrimSpace(row[0]))
		if err != nil {
			return 0, fmt.Errorf("line %d: %w", line, err)
		}
		for i, cell := range row[1:] {
			cell = strings.TrimSpace(cell)
			if cell == "" || cell == "N/A" {
				continue
			}
			if i+1 >= len(header) {
				return 0, fmt.Errorf("line %d: has more columns than the header", line)
			}
			currency := strings.TrimSpace(header[i+1])
			if value, ok := parseRate(cell); !ok || value.Sign() <= 0 {
				return 0, fmt.Errorf("line %d: column %s: %q is not a rate", line, currency, cell)
			}
			if err := batch.Append(day, currency, cell); err != nil {
				return 0, fmt.Errorf("store rates: %w", err)
			}
		}
	}
	n := batch.Rows()
	if err := batch.Send(); err != nil {
		return 0, fmt.Errorf("store rates: %w", err)
	}
	return n, s.loadRates(ctx)
}

// parseDay reads the layouts of the ECB's history ("2026-11-20") and of its daily file ("20 November 2026").
func parseDay(s string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, "2 January 2006"} {
		if day, err := time.Parse(layout, s); err == nil {
			return day, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a day", s)
}

func parseRate(s string) (*big.Rat, bool) {
	if len(s) > 32 || strings.Trim(s, "0123456789.") != "" {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

func (s *Store) loadRates(ctx context.Context) error {
	rows, err := s.conn.Query(ctx, "SELECT day, currency, per_euro FROM rates FINAL ORDER BY currency, day")
	if err != nil {
		return fmt.Errorf("load rates: %w", err)
	}
	defer rows.Close()
	loaded := map[string][]rate{}
	for rows.Next() {
		var day time.Time
		var currency, text string
		if err := rows.Scan(&day, &currency, &text); err != nil {
			return fmt.Errorf("load rates: %w", err)
		}
		value, ok := parseRate(text)
		if !ok {
			return fmt.Errorf("load rates: %q of %s on %s is not a rate", text, currency, day.Format(time.DateOnly))
		}
		loaded[currency] = append(loaded[currency], rate{vaglio.InstantOf(day), value})
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("load rates: %w", err)
	}
	s.rates.mu.Lock()
	defer s.rates.mu.Unlock()
	s.rates.byCurrency = loaded
	return nil
}
