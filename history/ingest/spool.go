package ingest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/go-json-experiment/json"

	"vaglio"
)

// spool keeps events for later: in memory up to spoolMemory, beyond that in a temporary file that only its owner can
// read and that has no name any more, so nothing is left behind whatever happens.
type spool struct {
	dir    string
	size   int64
	buffer bytes.Buffer
	file   *os.File
}

const spoolMemory = 16 << 20

// add appends one event, as its place and its JSON on a line.
func (s *spool) add(at place, ev *vaglio.Event) error {
	line, err := json.Marshal(ev)
	if err != nil {
		return fmt.Errorf("spool event %s: %w", ev.ID, err)
	}
	before := s.buffer.Len()
	fmt.Fprintf(&s.buffer, "%d %d ", at.input, at.line)
	s.buffer.Write(line)
	s.buffer.WriteByte('\n')
	s.size += int64(s.buffer.Len() - before)
	if s.buffer.Len() < spoolMemory {
		return nil
	}
	if s.file == nil {
		if s.file, err = tempFile(s.dir); err != nil {
			return err
		}
	}
	if _, err := s.buffer.WriteTo(s.file); err != nil {
		return fmt.Errorf("spool events: %w", err)
	}
	return nil
}

// each reads the events back in order; size is the bytes that one took in the spool.
func (s *spool) each(f func(at place, ev vaglio.Event, size int) error) error {
	var spooled io.Reader = &s.buffer
	if s.file != nil {
		if _, err := s.file.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("read spooled events: %w", err)
		}
		spooled = io.MultiReader(s.file, &s.buffer)
	}
	lines := lineReader{r: bufio.NewReaderSize(spooled, readBuffer)}
	for {
		line, _, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read spooled events: %w", err)
		}
		input, rest, _ := bytes.Cut(line, []byte(" "))
		number, event, _ := bytes.Cut(rest, []byte(" "))
		var at place
		var errs [3]error
		var ev vaglio.Event
		at.input, errs[0] = strconv.Atoi(string(input))
		at.line, errs[1] = strconv.Atoi(string(number))
		ev, errs[2] = vaglio.DecodeEvent(event)
		if err := errors.Join(errs[:]...); err != nil {
			return fmt.Errorf("read spooled event %d: %w", lines.line, err)
		}
		if err := f(at, ev, len(line)+1); err != nil {
			return err
		}
	}
}

func (s *spool) close() error {
	s.buffer = bytes.Buffer{}
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

func tempFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "vaglio-import-*")
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("spool: %w", err), f.Close())
	}
	return f, nil
}
