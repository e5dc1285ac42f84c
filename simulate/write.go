package simulate

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"

	"vaglio"
)

// TruthHeader is the first line of the ground truth that [Write] writes. labelled_at is empty when no fraud label comes
// before the end of the history.
const TruthHeader = "request_id,requested_at,pattern,fraud_type,look_alike,labelled_at,label_delay_hours\n"

// Write is [Run] as NDJSON: one event a line, in the bytes of its MarshalJSON. truth, unless nil, gets a CSV with
// the true pattern of every request, which the events themselves never tell.
func Write(ctx context.Context, c Config, w, truth io.Writer, progress func(done, total int)) (Summary, error) {
	var truths *bufio.Writer
	if truth != nil {
		truths = bufio.NewWriter(truth)
		_, _ = truths.WriteString(TruthHeader) // Flush tells
	}
	encode := func(b *block) {
		b.lines = make([]byte, 0, 448*len(b.events))
		for i := range b.events {
			b.lines = appendEvent(b.lines, &b.events[i])
		}
		if truths != nil {
			for _, t := range b.truths {
				b.truthLines = t.append(b.truthLines)
			}
		}
	}
	total, err := run(ctx, c, progress, encode, func(b *block) error {
		if _, err := w.Write(b.lines); err != nil {
			return fmt.Errorf("write events: %w", err)
		}
		if truths != nil {
			if _, err := truths.Write(b.truthLines); err != nil {
				return fmt.Errorf("write the ground truth: %w", err)
			}
		}
		return nil
	})
	if err == nil && truths != nil {
		if err = truths.Flush(); err != nil {
			err = fmt.Errorf("write the ground truth: %w", err)
		}
	}
	return total, err
}

// appendEvent appends one line. No string of ours needs JSON escapes; a test compares with MarshalJSON.
func appendEvent(b []byte, e *vaglio.Event) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, e.ID...)
	b = append(b, `","kind":"`...)
	b = append(b, e.Kind...)
	b = append(b, `","occurred_at":"`...)
	b, _ = e.OccurredAt.AppendText(b)
	b = append(b, `","observed_at":"`...)
	if e.ObservedAt == e.OccurredAt {
		const gap = len(`","observed_at":"`)
		b = append(b, b[len(b)-gap-len("2006-01-02T15:04:05.000Z"):len(b)-gap]...)
	} else {
		b, _ = e.ObservedAt.AppendText(b)
	}
	b = append(b, `","entities":`...)
	b = appendFields(b, e.Entities)
	if e.Currency != "" {
		b = append(b, `,"amount":`...)
		b = strconv.AppendInt(b, e.Amount, 10)
		b = append(b, `,"currency":"`...)
		b = append(b, e.Currency...)
		b = append(b, '"')
	}
	if len(e.Attributes) > 0 {
		b = append(b, `,"attributes":`...)
		b = appendFields(b, e.Attributes)
	}
	return append(b, '}', '\n')
}

func appendFields(b []byte, fs vaglio.Fields) []byte {
	b = append(b, '{')
	for i := range fs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, fs[i].Name...)
		b = append(b, `":"`...)
		b = append(b, fs[i].Value...)
		b = append(b, '"')
	}
	return append(b, '}')
}

// truthRow is what only the simulator knows of a request.
type truthRow struct {
	request    string
	at         vaglio.Instant
	pattern    Pattern
	lookAlike  LookAlike
	labelledAt vaglio.Instant // 0: never, or not before the end
	fraudType  string
}

func (t truthRow) append(b []byte) []byte {
	b = append(b, t.request...)
	b = append(b, ',')
	b, _ = t.at.AppendText(b)
	b = append(b, ',')
	b = append(b, t.pattern.String()...)
	b = append(b, ',')
	b = append(b, t.fraudType...)
	b = append(b, ',')
	b = append(b, t.lookAlike.String()...)
	b = append(b, ',')
	if t.labelledAt != 0 {
		b, _ = t.labelledAt.AppendText(b)
	}
	b = append(b, ',')
	if t.labelledAt != 0 {
		b = strconv.AppendFloat(b, float64(t.labelledAt-t.at)/float64(vaglio.Hour), 'f', 3, 64)
	}
	return append(b, '\n')
}
