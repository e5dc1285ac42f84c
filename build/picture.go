//go:build ignore

// Picture turns the demo's output, colours included, into docs/demo.svg:
//
//	script -qec 'stty cols 152; bin/vaglio demo --once 2>/dev/null' /dev/null | go run build/picture.go > docs/demo.svg
package main

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"
)

const (
	charWidth  = 8.0 // pixels; every run of text is stretched to it, whatever font there is
	lineHeight = 20.0
	margin     = 20.0
)

// styles are what the colours of cmd/vaglio/terminal.go become.
var styles = map[string]string{"0": "", "1": ` font-weight="bold" fill="#ffffff"`, "32": ` fill="#7ee787"`, "33": ` fill="#f2cc60"`, "31": ` fill="#ff7b72"`}

var escape = regexp.MustCompile("\x1b\\[([0-9]*)m")

func main() {
	lines := []string{"$ make demo"}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		line := strings.TrimRight(in.Text(), "\r ")
		if line == "Next:" {
			break
		}
		lines = append(lines, line)
	}
	for lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	columns := 0
	for _, line := range lines {
		columns = max(columns, utf8.RuneCountInString(escape.ReplaceAllString(line, "")))
	}
	width, height := 2*margin+float64(columns)*charWidth, 2*margin+float64(len(lines))*lineHeight
	fmt.Printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace" `+
		`font-size="13" fill="#c9d1d9" role="img" aria-label="Output of the demo: six requests with verdict, probability and reasons">`+"\n", width, height)
	fmt.Printf(`<rect width="100%%" height="100%%" rx="8" fill="#0d1117"/>` + "\n")
	for i, line := range lines {
		write(line, margin+float64(i)*lineHeight+14)
	}
	fmt.Println("</svg>")
}

// write places each run of one colour, without the spaces around it, at its own column.
func write(line string, y float64) {
	column, style := 0, ""
	for line != "" {
		run := line
		at := escape.FindStringSubmatchIndex(line)
		if at != nil {
			run = line[:at[0]]
		}
		for _, word := range regexp.MustCompile(` {2,}|.+?(?:  +|$)`).FindAllString(run, -1) {
			text := strings.TrimSpace(word)
			if n := utf8.RuneCountInString(text); n > 0 {
				indent := len(word) - len(strings.TrimLeft(word, " "))
				fmt.Printf(`<text x="%.0f" y="%.0f" textLength="%.0f" lengthAdjust="spacingAndGlyphs"%s>`, margin+float64(column+indent)*charWidth, y, float64(n)*charWidth, style)
				_ = xml.EscapeText(os.Stdout, []byte(text))
				fmt.Println("</text>")
			}
			column += utf8.RuneCountInString(word)
		}
		if at == nil {
			return
		}
		style, line = styles[line[at[2]:at[3]]], line[at[1]:]
	}
}
