package training_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"vaglio"
	"vaglio/parquet"
	"vaglio/training"
)

func dataset(t *testing.T, yaml string, p training.Period, path string) {
	t.Helper()
	var file bytes.Buffer
	_, err := training.WriteDataset(t.Context(), training.DatasetOptions{History: plantedHistory(t), Period: p, LabelsUntil: p.Until, Maturity: vaglio.Day,
		Catalogue: parse(t, yaml), Progress: func(training.Progress) {}}, training.Parquet, &file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAMatrixInPartsMakesTheModelThatTheReplayMakes(t *testing.T) {
	both := training.Period{From: trainPeriod.From, Until: testPeriod.Until}
	dir := t.TempDir()
	var parts []string
	for i := range 3 {
		parts = append(parts, filepath.Join(dir, fmt.Sprint(i, ".parquet")))
		dataset(t, smallYAML, training.Shard{Which: i + 1, Of: 3}.Part(both), parts[i])
	}
	o := options(t, plantedHistory(t))
	replayed, _, err := training.Train(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(want string, files ...string) {
		t.Helper()
		o := options(t, plantedHistory(t))
		o.Catalogue, o.Matrix = nil, files
		if _, _, err := training.Train(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	o.Dir, o.Catalogue, o.Matrix = o.Dir+"2", nil, []string{parts[2], parts[0], parts[1]}
	read, _, err := training.Train(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if read.Identity() != replayed.Identity() {
		t.Errorf("from the matrix %v, from the replay %v", read.Identity(), replayed.Identity())
	}
	refused("no file of the matrix has the requests from "+(t0+60*vaglio.Day).String(), parts[0], parts[2])
	refused("in the matrix twice", parts[0], parts[1], parts[1], parts[2])
	refused("no such file", filepath.Join(dir, "none.parquet"))
	other := filepath.Join(dir, "other.parquet")
	dataset(t, strings.Replace(smallYAML, "24h}", "48h}", 1), both, other)
	refused("has other features than", parts[0], other)
	foreign := filepath.Join(dir, "foreign.parquet")
	var file bytes.Buffer
	w := parquet.NewWriter(&file, []parquet.Column{{Name: "x", Type: parquet.Number}})
	if err := errors.Join(w.Close(), os.WriteFile(foreign, file.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	refused("was not written by vaglio dataset", foreign)
	o = options(t, plantedHistory(t))
	o.Matrix, o.Catalogue = []string{other}, parse(t, smallYAML)
	if _, _, err := training.Train(t.Context(), o); err == nil || !strings.Contains(err.Error(), "than the catalogue that was asked for") {
		t.Errorf("got %v", err)
	}
}

func TestShardsMeetAndCoverThePeriod(t *testing.T) {
	p := training.Period{From: t0, Until: t0 + 100*vaglio.Day + 7}
	for _, n := range []int{1, 3, 7, 64} {
		at := p.From
		for i := range n {
			shard, err := training.ParseShard(fmt.Sprint(i+1, "/", n))
			if err != nil {
				t.Fatal(err)
			}
			part := shard.Part(p)
			if part.From != at || part.Until < part.From {
				t.Errorf("shard %d of %d begins at %v, the one before ends at %v", i+1, n, part.From, at)
			}
			at = part.Until
		}
		if at != p.Until {
			t.Errorf("%d shards end at %v, not at %v", n, at, p.Until)
		}
	}
	for _, text := range []string{"", "1", "0/3", "4/3", "1/0", "-1/3", "1/3x", "1/100000", "a/b", "01/3"} {
		if shard, err := training.ParseShard(text); err == nil {
			t.Errorf("%q is %v", text, shard)
		}
	}
}

func TestADiskThatIsFullLeavesNoDataset(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, format := range []training.DatasetFormat{training.Parquet, training.CSV} {
		_, err := training.WriteDataset(t.Context(), training.DatasetOptions{History: plantedHistory(t), Period: everything, LabelsUntil: everything.Until,
			Catalogue: parse(t, smallYAML), Progress: func(training.Progress) {}}, format, full)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("format %v: %v", format, err)
		}
	}
}
