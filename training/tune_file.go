package training

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/go-json-experiment/json"

	"vaglio/files"
)

// maxTrialsFile bounds a file of trials: ten thousand of them with room to spare.
const maxTrialsFile = 64 << 20

// trialFile is a file of trials, one line of JSON each, behind a first line that says what is tuned.
type trialFile struct{ file *os.File }

type trialHeader struct {
	Tuning string `json:"tuning"`
	Seed   uint64 `json:"seed"`
}

// openTrials opens or begins the file of a tuning and reads its trials. A last line that was cut off is removed.
func openTrials(path, identity string, t *tuner) (_ *trialFile, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.New("another training is at work on it")
	}
	file := &trialFile{f}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a device has no trials
		return file, file.append(trialHeader{identity, t.seed})
	}
	text, err := io.ReadAll(io.LimitReader(f, maxTrialsFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxTrialsFile {
		return nil, fmt.Errorf("more than %d bytes", maxTrialsFile)
	}
	whole := bytes.LastIndexByte(text, '\n') + 1
	if err := f.Truncate(int64(whole)); err != nil {
		return nil, err
	}
	if _, err := f.Seek(int64(whole), io.SeekStart); err != nil {
		return nil, err
	}
	if whole == 0 {
		return file, file.append(trialHeader{identity, t.seed})
	}
	n := 0
	for line := range bytes.Lines(text[:whole]) {
		if n++; n == 1 {
			var h trialHeader
			if err := json.Unmarshal(line, &h, json.RejectUnknownMembers(true)); err != nil {
				return nil, fmt.Errorf("line 1: it is no file of trials: %w", err)
			}
			if h != (trialHeader{identity, t.seed}) {
				return nil, errors.New("it belongs to a tuning of other rows, parameters or seed: name another file, or remove it")
			}
			continue
		}
		r := trialRecord{}
		if err := json.Unmarshal(line, &r, json.RejectUnknownMembers(true)); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if want := t.next(); r.Trial != want.Trial || len(r.Places) != len(want.Places) {
			return nil, fmt.Errorf("line %d: it has trial %d where trial %d belongs", n, r.Trial, want.Trial)
		}
		t.done = append(t.done, r)
	}
	return file, nil
}

// append writes one line at once and to the disk.
func (f *trialFile) append(record any) error {
	line, err := json.Marshal(record, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("record a trial: %w", err)
	}
	_, err = f.file.Write(append(line, '\n'))
	if err == nil {
		if err = f.file.Sync(); errors.Is(err, syscall.EINVAL) { // no file that can be synced
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("record a trial: %w", files.Advise(err, "name another file, and run the same again"))
	}
	return nil
}

func (f *trialFile) Close() error { return f.file.Close() }
