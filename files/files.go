// Package files writes files that are there whole or not at all, and says what to do when the disk is full.
package files

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// Write makes or replaces a file: it is written under its name with .partial and then renamed. An error leaves the file as it was. It
// does not wait for the disk: after a power cut the file may be there without its content.
func Write(path string, write func(io.Writer) error) (err error) {
	file, err := os.Create(path + ".partial")
	if err != nil {
		return Advise(err, elsewhere)
	}
	defer func() {
		if err != nil {
			err = Advise(errors.Join(err, file.Close(), os.Remove(file.Name())), elsewhere)
		}
	}()
	buffered := bufio.NewWriterSize(file, 1<<20)
	if err := write(buffered); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

const elsewhere = "write it elsewhere"

// Advise adds what to do to an error of a disk, quota or size of file that is used up, and leaves other errors alone.
func Advise(err error, instead string) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: make room, or %s", err, instead)
	case errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%w: raise the limit on the size of files (ulimit -f), or %s", err, instead)
	default:
		return err
	}
}
