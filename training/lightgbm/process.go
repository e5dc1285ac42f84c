package lightgbm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"vaglio/files"
)

// childVariable names the folder of the child's task; a process that finds it set is a child.
const childVariable = "VAGLIO_LIGHTGBM_TASK"

// orderStop ends a child after its current round, orderEnd one that waits for orders of trials, which are JSON.
const (
	orderStop = "stop\n"
	orderEnd  = "end\n"
)

// stopGrace is how long a child may take to end after it was told to.
const stopGrace = 10 * time.Second

// elsewhere is where a task can go if its disk is full.
const elsewhere = "name another folder in TMPDIR"

// maxOutput bounds what is kept of the child's own output.
const maxOutput = 64 << 10

// The files of a task's folder. Matrices are little-endian float64 without a header.
const (
	fileTask          = "task.json"
	fileTrain         = "train.f64"
	fileTrainLabel    = "train_label.f64"
	fileTrainWeight   = "train_weight.f64"
	fileValid         = "valid.f64"
	fileValidLabel    = "valid_label.f64"
	fileValidWeight   = "valid_weight.f64"
	fileRows          = "rows.f64"
	fileModel         = "model.txt"
	fileRaw           = "raw.f64"
	fileContributions = "contributions.f64"
	fileAliases       = "aliases.json"
)

// task is what the parent asks of the child: the parameters' names, or to train when Train is there and then to predict the
// rows of fileRows, or with Trials to train as often as orders come.
type task struct {
	Train   *training `json:"train,omitzero"`
	Trials  bool      `json:"trials"`
	Aliases bool      `json:"aliases"`
	Cols    int       `json:"cols"`
	Rows    int       `json:"rows"` // of fileRows
	// Raw and Contributions say what to predict.
	Raw           bool `json:"raw"`
	Contributions bool `json:"contributions"`
}

type training struct {
	order
	Names     []string `json:"names"`
	Rows      int      `json:"rows"`
	ValidRows int      `json:"valid_rows"`
	Network   *network `json:"network,omitzero"`
}

// order is one boosting.
type order struct {
	Params        string `json:"params"`
	DatasetParams string `json:"dataset_params"` // boostings that agree in them share their data sets
	Rounds        int    `json:"rounds"`
	EarlyStopping int    `json:"early_stopping"`
	Metrics       int    `json:"metrics"` // how many were asked for
	Require       []Rung `json:"require"`
}

// network is what LightGBM needs to find the other machines.
type network struct {
	Machines       string `json:"machines"` // host:port, separated by commas
	Count          int32  `json:"count"`
	Port           int32  `json:"port"` // where this one listens
	TimeoutMinutes int32  `json:"timeout_minutes"`
}

// message is one line of JSON from the child.
type message struct {
	Round *Round `json:"round,omitzero"`
	Error string `json:"error,omitzero"`
	Done  *done  `json:"done,omitzero"`
}

type done struct {
	Best    int    `json:"best"`
	Pruned  bool   `json:"pruned"`
	Version string `json:"version"`
}

type answer struct {
	model         []byte
	best          int
	pruned        bool
	aliases       []byte
	rounds        []Round
	raw           []float64
	contributions [][]float64
	version       string
	warnings      []string
}

// folder makes the private folder of a task and writes its files.
func (t task) folder(matrices map[string][]float64, model []byte) (dir string, err error) {
	if !mainCalled {
		return "", errors.New("the program did not call lightgbm.Main first, so it can't start itself as a training child")
	}
	made, err := os.MkdirTemp("", "vaglio-lightgbm-")
	defer func() {
		if err != nil && made != "" {
			os.RemoveAll(made)
		}
		err = files.Advise(err, elsewhere)
	}()
	if err != nil {
		return "", fmt.Errorf("make a folder for the child: %w", err)
	}
	described, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("describe the task: %w", err)
	}
	if err := os.WriteFile(filepath.Join(made, fileTask), described, 0o600); err != nil {
		return "", fmt.Errorf("hand the task over: %w", err)
	}
	if model != nil {
		if err := os.WriteFile(filepath.Join(made, fileModel), model, 0o600); err != nil {
			return "", fmt.Errorf("hand the model over: %w", err)
		}
	}
	for name, values := range matrices {
		if err := writeFloats(filepath.Join(made, name), values); err != nil {
			return "", fmt.Errorf("hand the matrix over: %w", err)
		}
	}
	return made, nil
}

// run lets a child do the task in a private folder and reads what it left.
func (t task) run(ctx context.Context, progress func(Round), matrices map[string][]float64, model []byte) (answer, error) {
	if err := ctx.Err(); err != nil {
		return answer{}, err
	}
	dir, err := t.folder(matrices, model)
	if err != nil {
		return answer{}, err
	}
	defer os.RemoveAll(dir)
	p, err := start(ctx, dir)
	if err != nil {
		return answer{}, err
	}
	defer p.close()
	out, err := p.follow(progress)
	if err == nil {
		err = p.wait()
	} else if ended := p.wait(); errors.Is(err, errSilent) || p.ctx.Err() != nil {
		err = ended
	}
	out.warnings = p.output.warnings()
	if out.best == 0 && err != nil {
		return out, err
	}
	if readErr := t.read(dir, &out); readErr != nil {
		return out, errors.Join(err, fmt.Errorf("read the child's results: %w", readErr))
	}
	return out, err
}

// process is a child at work.
type process struct {
	ctx      context.Context // the caller's, and ended when LightGBM only warned of what is an error
	refuse   context.CancelCauseFunc
	child    *exec.Cmd
	orders   io.WriteCloser
	messages *os.File
	lines    *bufio.Scanner
	output   *output
	finished bool // it said done to the last order
}

// start starts the child of a folder. The end of the context tells it to stop, and kills it when it does not.
func start(ctx context.Context, dir string) (*process, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	messages, childEnd, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe to the child: %w", err)
	}
	defer childEnd.Close()
	p := &process{messages: messages}
	p.ctx, p.refuse = context.WithCancelCause(ctx)
	p.output = &output{refuse: p.refuse}
	p.child = exec.CommandContext(p.ctx, executable)
	p.child.Args = []string{"vaglio-lightgbm"}
	// OpenMP's threads spin between rounds; beside another busy process that made training ten times slower.
	p.child.Env = slices.Concat([]string{"OMP_WAIT_POLICY=passive"}, os.Environ(), []string{childVariable + "=" + dir})
	p.child.Stdout, p.child.Stderr = p.output, p.output
	p.child.ExtraFiles = []*os.File{childEnd}
	if p.orders, err = p.child.StdinPipe(); err != nil {
		p.close()
		return nil, fmt.Errorf("make a pipe to the child: %w", err)
	}
	p.child.Cancel = func() error {
		_, err := p.orders.Write([]byte(orderStop))
		return err
	}
	p.child.WaitDelay = stopGrace
	if err := p.child.Start(); err != nil {
		p.close()
		return nil, fmt.Errorf("start a child of this program: %w", err)
	}
	p.lines = bufio.NewScanner(messages)
	p.lines.Buffer(nil, 1<<20)
	return p, nil
}

func (p *process) close() {
	p.refuse(nil)
	p.messages.Close()
}

// errSilent is what follow says of a child that ended without an answer.
var errSilent = errors.New("the child process ended without a result")

// follow hears the child until it is done with an order.
func (p *process) follow(progress func(Round)) (out answer, err error) {
	p.finished = false
	for p.lines.Scan() {
		var m message
		if err := json.Unmarshal(p.lines.Bytes(), &m, json.RejectUnknownMembers(true)); err != nil {
			p.refuse(fmt.Errorf("an unreadable message of the child: %w", err))
			return out, errSilent
		}
		switch {
		case m.Round != nil:
			out.rounds = append(out.rounds, *m.Round)
			if progress != nil {
				progress(*m.Round)
			}
		case m.Done != nil:
			p.finished, out.best, out.pruned, out.version = true, m.Done.Best, m.Done.Pruned, m.Done.Version
			return out, nil
		default:
			return out, errors.New(m.Error)
		}
	}
	return out, errSilent
}

// wait is for a child that has nothing left to do, and says why it ended otherwise.
func (p *process) wait() error {
	ended := p.child.Wait()
	switch {
	case p.ctx.Err() != nil:
		return context.Cause(p.ctx)
	case p.finished:
		return nil
	case ended != nil:
		return fmt.Errorf("the child process died (%w)%s", ended, p.output.saying())
	default:
		return fmt.Errorf("%w%s", errSilent, p.output.saying())
	}
}

// read collects the files that the child left.
func (t task) read(dir string, out *answer) (err error) {
	if t.Train != nil {
		if out.model, err = os.ReadFile(filepath.Join(dir, fileModel)); err != nil {
			return err
		}
	}
	if t.Aliases {
		if out.aliases, err = os.ReadFile(filepath.Join(dir, fileAliases)); err != nil {
			return err
		}
	}
	if t.Rows == 0 {
		return nil
	}
	if t.Raw {
		if out.raw, err = readFloats(filepath.Join(dir, fileRaw), t.Rows); err != nil {
			return err
		}
	}
	if !t.Contributions {
		return nil
	}
	width := t.Cols + 1
	flat, err := readFloats(filepath.Join(dir, fileContributions), t.Rows*width)
	if err != nil {
		return err
	}
	out.contributions = make([][]float64, t.Rows)
	for i := range out.contributions {
		out.contributions[i] = flat[i*width : (i+1)*width : (i+1)*width]
	}
	return nil
}

// output keeps the beginning of what the child printed and acts on what LightGBM only warns of.
type output struct {
	refuse context.CancelCauseFunc
	mu     sync.Mutex
	kept   bytes.Buffer
}

const (
	unknownParameter = "Unknown parameter"
	// negativeCategory is what LightGBM says of code -1, which is how features write an unknown category.
	negativeCategory = "Met negative value in categorical features, will convert it to NaN"
)

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept.Write(b[:min(len(b), maxOutput-o.kept.Len())])
	for line := range strings.Lines(o.kept.String()) {
		if at := strings.Index(line, unknownParameter); at >= 0 && strings.HasSuffix(line, "\n") {
			o.refuse(fmt.Errorf("LightGBM: %s", strings.TrimSpace(line[at:])))
		}
	}
	return len(b), nil
}

// warnings are LightGBM's own lines of that level, each once.
func (o *output) warnings() []string {
	var all []string
	seen := map[string]bool{}
	for line := range strings.Lines(o.text()) {
		if _, text, ok := strings.Cut(strings.TrimSpace(line), "[Warning] "); ok && !seen[text] && text != negativeCategory {
			seen[text] = true
			all = append(all, text)
		}
	}
	return all
}

// saying is the last of what the child said, to end an error with. Of a crash it is what happened, without where.
func (o *output) saying() string {
	text, _, _ := strings.Cut(o.text(), "\n\ngoroutine ")
	if text == "" {
		return ""
	}
	return ": " + text[max(0, len(text)-800):]
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.TrimSpace(o.kept.String())
}

// writeFloats writes a matrix through a small buffer; nil writes no file.
func writeFloats(path string, values []float64) (err error) {
	if values == nil {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	const chunk = 1 << 17
	buffer := make([]byte, 0, 8*chunk)
	for len(values) > 0 {
		n := min(len(values), chunk)
		buffer, err = binary.Append(buffer[:0], binary.LittleEndian, values[:n])
		if err != nil {
			return err
		}
		if _, err := f.Write(buffer); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

// readFloats reads a matrix of n values; n < 0 takes what there is, a missing file then being none.
func readFloats(path string, n int) ([]float64, error) {
	b, err := os.ReadFile(path)
	switch {
	case n < 0 && errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case n >= 0 && len(b) != 8*n || len(b)%8 != 0:
		return nil, fmt.Errorf("%s has %d bytes for %d values", filepath.Base(path), len(b), n)
	}
	values := make([]float64, len(b)/8)
	_, err = binary.Decode(b, binary.LittleEndian, values)
	return values, err
}
