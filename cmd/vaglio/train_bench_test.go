package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"vaglio"
	"vaglio/history"
	"vaglio/history/embedded"
)

var benchRequests = flag.Int("requests", 20_000, "requests that BenchmarkTrain trains on")

// asks is how many requests of a customer are trained on, one a month; one more is tested on.
const asks = 10

// askingHistory is what customers did: for every request a login, a payment, its settlement, and of frauds the label. Frauds ask soon
// after a payment, for more, and more of them at night, so that there is something to learn for hundreds of rounds.
func askingHistory(begin vaglio.Instant, customers, from int) (events []vaglio.Event) {
	random := rand.New(rand.NewPCG(uint64(from), 7))
	for c := from; c < from+customers; c++ {
		for i := range asks + 1 {
			at := begin + vaglio.Instant(i)*36*vaglio.Day + vaglio.Instant(random.IntN(30*24*3600))*vaglio.Second
			amount, waited := int64(500+random.ExpFloat64()*6000), 2+min(100, random.ExpFloat64()*60)
			fraud := random.Float64() < 0.005*(1+float64(amount)/3000)*(1+40/(1+waited))
			add := func(kind string, at vaglio.Instant) *vaglio.Event {
				events = append(events, vaglio.Event{ID: fmt.Sprintf("%s_%d_%d", kind, c, i), Kind: kind, OccurredAt: at})
				e := &events[len(events)-1]
				if kind != vaglio.KindFraudConfirmed {
					e.Entities = vaglio.FieldsOf("customer", fmt.Sprint("c_", c), "device", fmt.Sprint("d_", c/2), "payment", fmt.Sprintf("p_%d_%d", c, i))
				}
				if kind != "login" && kind != vaglio.KindFraudConfirmed {
					e.Amount, e.Currency = amount, "EUR"
				}
				return e
			}
			asked := at + vaglio.Instant(waited*float64(vaglio.Hour))
			add("login", at)
			add("payment", at+vaglio.Minute)
			add("payment_settled", at+vaglio.Hour)
			request := add(vaglio.KindRefundRequested, asked)
			request.Attributes = vaglio.FieldsOf("reason", []string{"other", "not_received"}[random.IntN(2)], "rail", "wallet")
			if id := request.ID; fraud {
				add(vaglio.KindFraudConfirmed, asked+10*vaglio.Day).Entities = vaglio.FieldsOf("request", id)
			}
		}
	}
	return events
}

// BenchmarkTrain is `vaglio train`, from ClickHouse to the bundle with its report, on -requests of thirty features, 500 rounds at 512
// bins. It tells the seconds of each step, the CPU time of each kind of process, and the most memory that they held, alone and vaglio
// with LightGBM's child at one moment. At full size it needs a quarter of an hour of two cores:
//
//	go test -run '^$' -bench Train -benchtime 1x -timeout 1h ./cmd/vaglio -requests 1750000
func BenchmarkTrain(b *testing.B) {
	const begin = vaglio.Instant(1_700_000_000_000)
	data := b.TempDir()
	fillHistory(b, filepath.Join(data, "clickhouse"), begin)
	params := filepath.Join(data, "params.yaml")
	if err := os.WriteFile(params, []byte("learning_rate: 0.01\nmax_bin: 512\n"), 0o600); err != nil { // slowly, so that all rounds are used
		b.Fatal(err)
	}
	at := func(days vaglio.Instant) string { return (begin + days*vaglio.Day).String() }
	for i := 0; b.Loop(); i++ {
		cmd := vaglioCommand(b.Context(), "train", "--data", data, "--features", "../../training/testdata/thirty.yaml", "--params", params,
			"--from", at(0), "--until", at(360), "--test-from", at(360), "--test-until", at(400), "--labels-until", at(450), "--rounds", "500",
			"--report", "--version", fmt.Sprint("v", i))
		var said strings.Builder
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		watched := watch(cmd)
		if err := cmd.Wait(); err != nil {
			b.Fatalf("%v: %s", err, said.String())
		}
		bytes, seconds := watched()
		for name, held := range bytes {
			b.ReportMetric(held/(1<<30), "GiB-"+name)
		}
		for name, used := range seconds {
			b.ReportMetric(used, "cpu-s-"+name)
		}
		took := regexp.MustCompile(`took (.*)`).FindStringSubmatch(said.String())
		rows := regexp.MustCompile(`(\d+) of \d+ requests have a settled label`).FindStringSubmatch(said.String())
		if took == nil || rows == nil || rows[1] != strconv.Itoa(*benchRequests/asks*asks) {
			b.Fatalf("it said %s", said.String())
		}
		for step := range strings.SplitSeq(took[1], ", ") {
			if name, text, ok := strings.Cut(step, " "); ok {
				if d, err := time.ParseDuration(text); err == nil {
					b.ReportMetric(d.Seconds(), "s-"+name)
				}
			}
		}
		b.Log(said.String())
	}
}

func fillHistory(b *testing.B, dir string, begin vaglio.Instant) {
	b.Helper()
	server, err := embedded.Start(b.Context(), embedded.Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	h, err := history.Open(b.Context(), server.DSN(), history.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(2)
	const batch = 1000
	for from := 0; from < *benchRequests/asks; from += batch {
		group.Go(func() error {
			_, err := h.Import(ctx, askingHistory(begin, min(batch, *benchRequests/asks-from), from))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}

// watch looks at a process and its children ten times a second. What it returns ends that, and tells by kind of process the bytes that
// one held at most, those that "vaglio" and "lightgbm" held together, and the seconds of CPU of all. Mapped files count as long as they
// are in memory.
func watch(cmd *exec.Cmd) (peaks func() (bytes, seconds map[string]float64)) {
	bytes, used := map[string]float64{}, map[int]float64{}
	names := map[int]string{}
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			together := 0.0
			for _, pid := range append(childrenOf(cmd.Process.Pid), cmd.Process.Pid) {
				line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // empty, like the others, of one that has ended
				first, _, _ := strings.Cut(string(line), "\x00")
				name, isChild := strings.CutPrefix(filepath.Base(first), "vaglio-")
				if !isChild {
					name = "vaglio"
				}
				status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
				bytes[name] = max(bytes[name], inStatus(status, "VmHWM"))
				if name != "clickhouse" {
					together += inStatus(status, "VmRSS")
				}
				stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
				if _, rest, ok := strings.Cut(string(stat), ") "); ok {
					user, _ := strconv.ParseFloat(strings.Fields(rest)[11], 64)
					system, _ := strconv.ParseFloat(strings.Fields(rest)[12], 64)
					names[pid], used[pid] = name, (user+system)/100 // Linux tells hundredths of a second
				}
			}
			bytes["vaglio+lightgbm"] = max(bytes["vaglio+lightgbm"], together)
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	return func() (map[string]float64, map[string]float64) {
		close(done)
		watching.Wait()
		seconds := map[string]float64{}
		for pid, name := range names {
			seconds[name] += used[pid]
		}
		return bytes, seconds
	}
}

// inStatus is a size in bytes of a process's status, 0 if it has none.
func inStatus(status []byte, name string) float64 {
	found := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		return 0
	}
	kB, _ := strconv.ParseFloat(string(found[1]), 64)
	return 1024 * kB
}

// childrenOf are the processes that one has started, by Linux.
func childrenOf(pid int) (children []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(task) // a thread that has ended has none
		for _, child := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(child); err == nil {
				children = append(children, n)
			}
		}
	}
	return children
}
