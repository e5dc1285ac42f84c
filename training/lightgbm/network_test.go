package lightgbm_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	"vaglio/training/lightgbm"
)

// nextPort begins anywhere: another run of these tests may have used its ports a minute ago, and LightGBM can't have them yet.
var nextPort = 20_000 + rand.IntN(5_000)

// freeAddresses are some of this machine where nobody listens, on ports that the system gives to no connection by itself, that
// no other package's tests use, and each of them once.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	var addresses []string
	for len(addresses) < n {
		nextPort++
		l, err := net.Listen("tcp4", fmt.Sprint("127.0.0.1:", nextPort))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}

// part keeps every n-th row.
func part(d lightgbm.Dataset, which, n int) lightgbm.Dataset {
	out := d
	out.Rows, out.X, out.Label, out.Weight = 0, nil, nil, nil
	for i := which; i < d.Rows; i += n {
		out.Rows++
		out.X = append(out.X, d.X[i*len(d.Names):(i+1)*len(d.Names)]...)
		out.Label, out.Weight = append(out.Label, d.Label[i]), append(out.Weight, d.Weight[i])
	}
	return out
}

func TestTwoMachinesFindTheSameModelTogether(t *testing.T) {
	machines := freeAddresses(t, 2)
	results, errs := make([]lightgbm.Result, 2), make([]error, 2)
	var both sync.WaitGroup
	for self := range machines {
		job := smallJob()
		job.Train = part(job.Train, self, 2)
		job.Network = &lightgbm.Network{Machines: machines, Self: self}
		both.Go(func() { results[self], errs[self] = lightgbm.Train(t.Context(), job, nil) })
	}
	both.Wait()
	for self, err := range errs {
		if err != nil {
			t.Fatalf("machine %d: %v", self, err)
		}
	}
	trees := func(model []byte) []byte { before, _, _ := bytes.Cut(model, []byte("\nparameters:")); return before }
	if !bytes.Equal(trees(results[0].Model), trees(results[1].Model)) {
		t.Error("the machines have different models")
	}
	single := smallJob()
	whole, err := lightgbm.Train(t.Context(), single, nil)
	if err != nil {
		t.Fatal(err)
	}
	half := smallJob()
	half.Train = part(half.Train, 0, 2)
	alone, err := lightgbm.Train(t.Context(), half, nil)
	if err != nil {
		t.Fatal(err)
	}
	auc := func(r lightgbm.Result) float64 { return r.Rounds[r.BestIteration-1].Metrics["auc"] }
	t.Logf("AUC %.4f together, %.4f on one machine with all rows, %.4f with half of them", auc(results[0]), auc(whole), auc(alone))
	if auc(results[0]) < auc(whole)-0.01 {
		t.Errorf("AUC %.4f together, %.4f on one machine", auc(results[0]), auc(whole))
	}
	// The trees count the rows that they have seen: those of both machines.
	if want := []byte("internal_count=4000 "); !bytes.Contains(results[0].Model, want) {
		t.Errorf("no tree was grown on the rows of both machines")
	}
}

func TestAWrongListOfMachinesIsSaid(t *testing.T) {
	refused := func(want string, n lightgbm.Network) {
		t.Helper()
		job := smallJob()
		job.Network = &n
		if _, err := lightgbm.Train(t.Context(), job, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	refused("machine 0 of 1", lightgbm.Network{Machines: []string{"127.0.0.1:1"}})
	refused("machine 2 of 2", lightgbm.Network{Machines: []string{"127.0.0.1:1", "127.0.0.1:2"}, Self: 2})
	refused("want host:port", lightgbm.Network{Machines: []string{"127.0.0.1", "127.0.0.1:2"}})
	refused("want a port", lightgbm.Network{Machines: []string{"127.0.0.1:0", "127.0.0.1:2"}})
	refused("given twice", lightgbm.Network{Machines: []string{"127.0.0.1:9", "127.0.0.1:9"}})
}

func TestAMachineThatIsNotThereIsSaid(t *testing.T) {
	machines := freeAddresses(t, 2)
	machines[0] = "192.0.2.1:9" // RFC 5737: nobody's
	job := smallJob()
	job.Network = &lightgbm.Network{Machines: machines, Self: 0} // this machine has no such address
	if _, err := lightgbm.Train(t.Context(), job, nil); err == nil || !strings.Contains(err.Error(), "LightGBM: ") {
		t.Errorf("got %v", err)
	}
}
