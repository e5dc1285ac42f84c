package ingest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
)

// input is one file to import. It can be opened once, or, if it is seekable, again and again.
type input struct {
	name string // for people: the path as given, or "stdin"
	path string // "" if it has none
	format
	size int64 // bytes as stored, 0: not known
	file *os.File
	once io.Reader // instead of file: can't be read twice
}

// format of a file.
type format uint8

const (
	formatNDJSON format = iota
	formatCSV
	formatParquet
)

// openInputs opens all files, so that a wrong name is noticed before anything happens. What can't be read twice is
// copied to a temporary file if it has to be.
func (im *importer) openInputs(paths []string) (inputs []input, err error) {
	if len(paths) == 0 {
		return nil, errors.New("no file to import")
	}
	for i, path := range paths {
		in := input{name: path, path: path}
		switch {
		case path == "-" && slices.Contains(paths[:i], "-"):
			return inputs, errors.New("the standard input (-) is given twice")
		case path == "-":
			in = input{name: "stdin", once: im.Stdin}
			if im.Mapping != nil {
				in.format = im.Mapping.format
			}
		default:
			if in.format, err = formatOf(path); err != nil {
				return inputs, err
			}
			if in.format == formatCSV && im.Mapping == nil {
				return inputs, fmt.Errorf("%s is CSV: which of its columns mean what has to be said by a mapping", path)
			}
			if in.file, err = os.Open(path); err != nil {
				return inputs, err
			}
			inputs = append(inputs, in) // so that it gets closed
			info, err := in.file.Stat()
			if err != nil {
				return inputs, err
			}
			inputs = inputs[:i]
			switch {
			case info.IsDir():
				inputs = append(inputs, in)
				return inputs, fmt.Errorf("%s is a directory", path)
			case info.Mode().IsRegular():
				in.size = info.Size()
			default:
				in.once = in.file
			}
		}
		inputs = append(inputs, in)
		if in.once != nil && (im.OnError == Stop || in.format == formatParquet) {
			if err := im.spoolInput(&inputs[i]); err != nil {
				return inputs, err
			}
		}
	}
	if im.Mapping != nil && !slices.ContainsFunc(inputs, func(in input) bool { return in.format != formatNDJSON }) {
		return inputs, errors.New("a mapping is given, but none of the files is CSV or Parquet")
	}
	return inputs, nil
}

func formatOf(path string) (format, error) {
	lower := strings.ToLower(path)
	if strings.HasSuffix(lower, ".parquet") {
		return formatParquet, nil
	}
	name := strings.TrimSuffix(lower, ".gz")
	for _, suffix := range []string{".ndjson", ".jsonl", ".json"} {
		if strings.HasSuffix(name, suffix) {
			return formatNDJSON, nil
		}
	}
	if strings.HasSuffix(name, ".csv") {
		return formatCSV, nil
	}
	return 0, fmt.Errorf("the name of %s does not tell its format: want .ndjson, .jsonl, .json or .csv, with .gz or without, or .parquet", path)
}

func (im *importer) spoolInput(in *input) error {
	file, err := tempFile(im.TempDir)
	if err != nil {
		return err
	}
	im.begin(Reading)
	counted := &countingReader{r: in.once}
	buffer := make([]byte, 1<<20)
	for err == nil {
		_, err = io.CopyN(file, counted, int64(len(buffer)))
		im.meter.done = counted.n.Load()
		im.tell()
	}
	if !errors.Is(err, io.EOF) {
		return errors.Join(fmt.Errorf("read %s: %w", in.name, err), file.Close())
	}
	if in.file != nil {
		err = in.file.Close()
	} else {
		err = nil
	}
	in.file, in.once, in.size = file, nil, counted.n.Load()
	return err
}

func closeInputs(inputs []input) error {
	var errs []error
	for i := range inputs {
		if inputs[i].file != nil {
			errs = append(errs, inputs[i].file.Close())
		}
	}
	return errors.Join(errs...)
}

const readBuffer = 256 << 10

var (
	gzipMagic = []byte{0x1f, 0x8b}
	byteOrder = []byte("\xef\xbb\xbf")
)

// open starts reading at the beginning: unpacked, and without a byte order mark. position tells the bytes taken from
// the file so far.
func (in *input) open() (lines *lineReader, position func() int64, err error) {
	source := in.once
	if source == nil {
		if _, err := in.file.Seek(0, io.SeekStart); err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", in.name, err)
		}
		source = in.file
	}
	counted := &countingReader{r: source}
	r := bufio.NewReaderSize(counted, readBuffer)
	if magic, err := r.Peek(len(gzipMagic)); err == nil && string(magic) == string(gzipMagic) {
		unpacked, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", in.name, err)
		}
		r = bufio.NewReaderSize(unpacked, readBuffer)
	}
	if mark, err := r.Peek(len(byteOrder)); err == nil && string(mark) == string(byteOrder) {
		if _, err := r.Discard(len(byteOrder)); err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", in.name, err)
		}
	}
	return &lineReader{r: r}, counted.n.Load, nil
}

type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// maxLine bounds a line of NDJSON and a record of CSV, in bytes.
const maxLine = 1 << 20

// lineReader cuts a stream into lines.
type lineReader struct {
	r    *bufio.Reader
	line int // number of the last line read, from 1
	long []byte
}

// next returns a line without its end. The bytes are valid until the next call. Of a line above maxLine only the first
// maxLine bytes come, with tooLong. The error is io.EOF at the end, else what reading failed of.
func (l *lineReader) next() (line []byte, tooLong bool, err error) {
	line, err = l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		l.long = append(l.long[:0], line...)
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = l.r.ReadSlice('\n')
			l.long = append(l.long, line[:min(len(line), maxLine+1-min(len(l.long), maxLine+1))]...)
		}
		line = l.long
	}
	if err != nil && !errors.Is(err, io.EOF) || len(line) == 0 {
		return nil, false, err
	}
	l.line++
	if line[len(line)-1] == '\n' {
		line = line[:len(line)-1]
	}
	if len(line) > maxLine {
		return line[:maxLine], true, nil
	}
	return line, false, nil
}
