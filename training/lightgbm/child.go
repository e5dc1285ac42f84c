package lightgbm

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/go-json-experiment/json"

	"vaglio/files"
)

// mainCalled is set once, before anything else runs.
var mainCalled bool

// Main must be the first call of a program that trains (and of its tests' TestMain). In a process that [Train] or
// [Predict] started it does the work and ends the process; in any other it returns at once.
func Main() {
	mainCalled = true
	dir := os.Getenv(childVariable)
	if dir == "" {
		return
	}
	// LightGBM keeps errors and settings by thread.
	runtime.LockOSThread()
	// A terminal sends Ctrl-C to parent and child: the parent is the one to answer.
	signal.Ignore(os.Interrupt)
	debug.SetTraceback("none")
	c := child{dir: dir, messages: os.NewFile(3, "messages"), orders: make(chan string, 1)}
	go c.followParent()
	if err := c.work(); err != nil {
		c.tell(message{Error: files.Advise(err, elsewhere).Error()})
		os.Exit(1)
	}
	os.Exit(0)
}

type child struct {
	dir      string
	messages *os.File
	orders   chan string // of trials; closed when there will be none
	stop     atomic.Bool
}

// followParent reads the parent's orders. Their end is the parent's end: nobody would read a result.
func (c *child) followParent() {
	open := true
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		switch line := orders.Text() + "\n"; {
		case line == orderStop:
			c.stop.Store(true)
			fallthrough
		case line == orderEnd:
			if open {
				close(c.orders)
			}
			open = false
		case open:
			c.orders <- line
		}
	}
	os.RemoveAll(c.dir)
	os.Exit(1)
}

// tell writes one line; without a parent to read it there is nothing left to do.
func (c *child) tell(m message) {
	line, err := json.Marshal(m)
	if err == nil {
		_, err = c.messages.Write(append(line, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tell the parent:", err)
		os.Exit(1)
	}
}

func (c *child) work() error {
	described, err := os.ReadFile(filepath.Join(c.dir, fileTask))
	if err != nil {
		return err
	}
	var t task
	if err := json.Unmarshal(described, &t, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("read the task: %w", err)
	}
	api, err := openLibrary()
	if err != nil {
		return err
	}
	var end done
	if end.Version, err = api.version(); err != nil {
		return err
	}
	switch {
	case t.Aliases:
		text, err := api.aliases()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(c.dir, fileAliases), text, 0o600); err != nil {
			return err
		}
	case t.Trials:
		return c.trials(api, t.Train, end)
	case t.Train != nil:
		if end.Best, err = c.train(api, t.Train); err != nil {
			return err
		}
	}
	if t.Rows > 0 {
		if err := c.predict(api, t); err != nil {
			return err
		}
	}
	c.tell(message{Done: &end})
	return nil
}

// train boosts once and saves the best iteration.
func (c *child) train(api *library, t *training) (best int, err error) {
	if n := t.Network; n != nil {
		if err := api.check("meet the other machines", api.networkInit(n.Machines, n.Port, n.TimeoutMinutes, n.Count)); err != nil {
			if strings.Contains(err.Error(), "Binding port") {
				err = fmt.Errorf("%w: another program listens there, or connections of an earlier training are ending: wait a minute, or name other ports", err)
			}
			return 0, err
		}
		defer api.networkFree()
	}
	d, err := c.sets(api, t, t.DatasetParams)
	if err != nil {
		return 0, err
	}
	defer d.free(api)
	booster, best, _, err := c.boost(api, d, &t.order)
	if err != nil {
		return 0, err
	}
	defer api.boosterFree(booster)
	text, err := api.save(booster, best)
	if err != nil {
		return 0, err
	}
	return best, os.WriteFile(filepath.Join(c.dir, fileModel), text, 0o600)
}

// trials boosts once for each order. Data sets stay for the orders that share them.
func (c *child) trials(api *library, t *training, end done) error {
	kept := map[string]sets{}
	defer func() {
		for _, d := range kept {
			d.free(api)
		}
	}()
	for text := range c.orders {
		var o order
		if err := json.Unmarshal([]byte(text), &o, json.RejectUnknownMembers(true)); err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
		d, known := kept[o.DatasetParams]
		if !known {
			var err error
			if d, err = c.sets(api, t, o.DatasetParams); err != nil {
				return err
			}
			kept[o.DatasetParams] = d
		}
		booster, best, pruned, err := c.boost(api, d, &o)
		if err != nil {
			return err
		}
		api.boosterFree(booster)
		end.Best, end.Pruned = best, pruned
		c.tell(message{Done: &end})
	}
	return nil
}

// sets are the binned data of a boosting; valid is 0 if there is none.
type sets struct{ train, valid uintptr }

func (d sets) free(api *library) {
	if d.valid != 0 {
		api.datasetFree(d.valid)
	}
	api.datasetFree(d.train)
}

func (c *child) sets(api *library, t *training, params string) (d sets, err error) {
	if d.train, err = c.dataset(api, t, params, fileTrain, t.Rows, 0); err != nil {
		return d, fmt.Errorf("training rows: %w", err)
	}
	if t.ValidRows == 0 {
		return d, nil
	}
	if d.valid, err = c.dataset(api, t, params, fileValid, t.ValidRows, d.train); err != nil {
		api.datasetFree(d.train)
		return d, fmt.Errorf("validation rows: %w", err)
	}
	return d, nil
}

// boost goes on until the rounds are over, the metric stops improving, a rung is missed, nothing is left to split or the
// parent says stop. The booster is the caller's to free.
func (c *child) boost(api *library, d sets, t *order) (booster uintptr, best int, pruned bool, err error) {
	if err := api.check("create the booster", api.boosterCreate(d.train, t.Params, &booster)); err != nil {
		return 0, 0, false, err
	}
	defer func() {
		if err != nil {
			api.boosterFree(booster)
		}
	}()
	var metrics []string
	if d.valid != 0 {
		if err := api.check("add the validation rows", api.boosterAddValid(booster, d.valid)); err != nil {
			return 0, 0, false, err
		}
		if metrics, err = api.evalNames(booster); err != nil {
			return 0, 0, false, err
		}
		if len(metrics) != t.Metrics {
			return 0, 0, false, fmt.Errorf("%d metrics were asked for, LightGBM knows of them: %s", t.Metrics, strings.Join(metrics, ", "))
		}
	}
	values := make([]float64, len(metrics))
	bestValue, require := math.Inf(1), newLadder(t.Require)
	for i := 1; i <= t.Rounds && !pruned && !c.stop.Load(); i++ {
		var finished int32
		if err := api.check(fmt.Sprintf("round %d", i), api.boosterUpdate(booster, &finished)); err != nil {
			return 0, 0, false, err
		}
		if finished != 0 {
			break
		}
		round := Round{Iteration: i, Best: i}
		if len(metrics) > 0 {
			if err := api.eval(booster, values); err != nil {
				return 0, 0, false, err
			}
			round.Metrics = make(map[string]float64, len(metrics))
			for k, name := range metrics {
				if math.IsNaN(values[k]) || math.IsInf(values[k], 0) {
					return 0, 0, false, fmt.Errorf("round %d: %s is %v", i, name, values[k])
				}
				round.Metrics[name] = values[k]
			}
			if value := loss(metrics[0], values[0]); value < bestValue {
				best, bestValue = i, value
			}
			round.Best = best
		}
		c.tell(message{Round: &round})
		if t.EarlyStopping > 0 && i-best >= t.EarlyStopping {
			break
		}
		pruned = require.missed(&round)
	}
	var kept int32
	if err := api.check("count the rounds", api.boosterIteration(booster, &kept)); err != nil {
		return 0, 0, false, err
	}
	if t.EarlyStopping == 0 || best == 0 {
		best = int(kept)
	}
	if best == 0 {
		return 0, 0, false, errors.New("stopped before the first round was over")
	}
	return booster, best, pruned, nil
}

// ladder follows the best of a metric along the rungs.
type ladder struct {
	rungs []Rung
	best  float64
}

func newLadder(rungs []Rung) *ladder { return &ladder{rungs, math.Inf(-1)} }

// missed tells whether a round is a rung whose value was not reached by then.
func (l *ladder) missed(r *Round) bool {
	l.best = math.Max(l.best, r.Metrics[RungMetric])
	for _, rung := range l.rungs {
		if rung.Iteration == r.Iteration && l.best < rung.AtLeast {
			return true
		}
	}
	return false
}

// loss makes smaller better.
func loss(metric string, value float64) float64 {
	if metric == "auc" || metric == "average_precision" || strings.HasPrefix(metric, "ndcg") || strings.HasPrefix(metric, "map") {
		return -value
	}
	return value
}

// dataset reads one matrix of the task. The values themselves are mapped, not copied, and released once binned.
func (c *child) dataset(api *library, t *training, params, file string, rows int, reference uintptr) (uintptr, error) {
	x, err := mapFile(filepath.Join(c.dir, file), 8*rows*len(t.Names))
	if err != nil {
		return 0, err
	}
	defer syscall.Munmap(x)
	base := strings.TrimSuffix(file, ".f64")
	label, err := readFloats(filepath.Join(c.dir, base+"_label.f64"), rows)
	if err != nil {
		return 0, err
	}
	weight, err := readFloats(filepath.Join(c.dir, base+"_weight.f64"), -1)
	if err != nil {
		return 0, err
	}
	return api.dataset(x, rows, t.Names, label, weight, params, reference)
}

// predict lets LightGBM read the model's text anew: what it answers is what any other reader must answer.
func (c *child) predict(api *library, t task) error {
	text, err := os.ReadFile(filepath.Join(c.dir, fileModel))
	if err != nil {
		return err
	}
	booster, features, err := api.load(text)
	if err != nil {
		return err
	}
	defer api.boosterFree(booster)
	if features != t.Cols {
		return fmt.Errorf("the model has %d features, the rows %d columns", features, t.Cols)
	}
	x, err := mapFile(filepath.Join(c.dir, fileRows), 8*t.Rows*t.Cols)
	if err != nil {
		return err
	}
	defer syscall.Munmap(x)
	for _, wanted := range []struct {
		asked bool
		kind  int32
		width int
		file  string
	}{{t.Raw, predictRaw, 1, fileRaw}, {t.Contributions, predictContribution, t.Cols + 1, fileContributions}} {
		if !wanted.asked {
			continue
		}
		out := make([]float64, t.Rows*wanted.width)
		if err := api.predict(booster, x, t.Rows, t.Cols, wanted.kind, out); err != nil {
			return err
		}
		if err := writeFloats(filepath.Join(c.dir, wanted.file), out); err != nil {
			return err
		}
	}
	return nil
}

// mapFile maps a file of exactly so many bytes.
func mapFile(path string, size int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() != int64(size) {
		return nil, fmt.Errorf("%s has %d bytes instead of %d", filepath.Base(path), info.Size(), size)
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", filepath.Base(path), err)
	}
	return b, nil
}
