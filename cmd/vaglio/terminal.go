package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// progress shows long work on standard error: a bar with rate and time left on a terminal, elsewhere a plain line every
// few seconds. Not safe for concurrent use.
type progress struct {
	out     *os.File
	bar     *progressbar.ProgressBar
	step    string
	started time.Time
	shown   time.Time
}

const plainEvery = 5 * time.Second

func newProgress() *progress { return &progress{out: os.Stderr} }

// show says that a step is at done of total (0: unknown) units; another step's name begins a new bar.
func (p *progress) show(step string, done, total int64, unit, note string) {
	if step != p.step {
		p.end()
		p.step, p.started, p.shown = step, time.Now(), time.Now()
		if isTerminal(p.out) {
			limit := total
			if limit <= 0 {
				limit = -1
			}
			p.bar = progressbar.NewOptions64(limit, progressbar.OptionSetWriter(p.out), progressbar.OptionSetDescription(step),
				progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString(unit),
				progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(24), progressbar.OptionClearOnFinish())
		}
	}
	if p.bar != nil {
		if total > 0 {
			p.bar.ChangeMax64(total)
		}
		description := step
		if note != "" {
			description += " (" + note + ")"
		}
		p.bar.Describe(description)
		_ = p.bar.Set64(done) // only the terminal may fail, and then nobody looks
		return
	}
	if now := time.Now(); now.Sub(p.shown) >= plainEvery {
		p.shown = now
		p.line(done, total, unit, note)
	}
}

func (p *progress) line(done, total int64, unit, note string) {
	elapsed := time.Since(p.started)
	rate := float64(done) / max(elapsed.Seconds(), 1e-3)
	text := fmt.Sprintf("%s: %d", p.step, done)
	if total > 0 {
		left := time.Duration(float64(total-done) / max(rate, 1e-3) * float64(time.Second))
		text += fmt.Sprintf(" of %d %s, %.0f/s, %s left", total, unit, rate, left.Round(time.Second))
	} else {
		text += fmt.Sprintf(" %s, %.0f/s", unit, rate)
	}
	if note != "" {
		text += ", " + note
	}
	fmt.Fprintln(p.out, text)
}

// end clears the bar of the last step.
func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Finish()
		p.bar = nil
	}
	p.step = ""
}

// colours of a terminal; plain text elsewhere and under NO_COLOR.
const (
	green  = "32"
	yellow = "33"
	red    = "31"
	bold   = "1"
	dim    = "2"
)

func paint(w io.Writer, colour, text string) string {
	if !isTerminal(w) || os.Getenv("NO_COLOR") != "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// table prints aligned columns; colour may pick a colour by column and cell.
func table(w io.Writer, header []string, rows [][]string, colour func(column int, cell string) string) {
	widths := make([]int, len(header))
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	write := func(row []string, paintCell func(int, string) string) {
		var line strings.Builder
		for i, cell := range row {
			pad := widths[i] - utf8.RuneCountInString(cell)
			if i == len(row)-1 {
				pad = 0
			}
			line.WriteString(paintCell(i, cell) + strings.Repeat(" ", pad+2))
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
	write(header, func(_ int, cell string) string { return paint(w, bold, cell) })
	for _, row := range rows {
		write(row, func(i int, cell string) string {
			if colour != nil {
				if c := colour(i, cell); c != "" {
					return paint(w, c, cell)
				}
			}
			return cell
		})
	}
}
