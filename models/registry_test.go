package models_test

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"vaglio"
	"vaglio/models"
)

// registryOf is a registry with these versions.
func registryOf(t *testing.T, versions ...string) *models.Registry {
	t.Helper()
	r, err := models.OpenRegistry(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range versions {
		dir, err := r.Dir(version)
		if err != nil {
			t.Fatal(err)
		}
		if err := models.Write(dir, contents(t, "small", version)); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func champion(t *testing.T, r *models.Registry) string {
	t.Helper()
	version, _, err := r.Current(models.Champion)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

func TestARollbackGoesBackThroughThePromotions(t *testing.T) {
	r := registryOf(t, "v1", "v2", "v3")
	at := promotedAt
	promote := func(version string) {
		t.Helper()
		at += vaglio.Hour
		if err := r.Promote(models.Champion, models.Promotion{Version: version, At: at}); err != nil {
			t.Fatal(err)
		}
	}
	back := func(want string) {
		t.Helper()
		at += vaglio.Hour
		if version, err := r.Rollback(models.Champion, at); err != nil || version != want || champion(t, r) != want {
			t.Errorf("rolled back to %q, %v, the champion is %s, want %s", version, err, champion(t, r), want)
		}
	}
	stays := func(want, says string) {
		t.Helper()
		if _, err := r.Rollback(models.Champion, at); err == nil || !strings.Contains(err.Error(), says) || champion(t, r) != want {
			t.Errorf("got %v, want an error with %q; the champion is %q, want %q", err, says, champion(t, r), want)
		}
	}
	stays("", "there was no promotion")
	promote("v1")
	stays("v1", "no promotion before that of v1")
	promote("v2")
	promote("v2") // changes nothing
	promote("v3")
	back("v2")
	promote("v1")
	back("v2")
	back("v1")
	stays("v1", "no promotion before that of v1")
	h, err := r.History(models.Champion)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range h {
		state := " taken back"
		if p.TakenBack == 0 {
			state = ""
		} else if p.TakenBack <= p.At {
			t.Errorf("%+v was taken back before", p)
		}
		got = append(got, p.Version+state)
	}
	if want := "v1 taken back|v3 taken back|v2 taken back|v1"; strings.Join(got, "|") != want {
		t.Errorf("history %q, want %q", got, want)
	}
}

func TestARollbackToAModelThatIsNotWhatItWasIsRefused(t *testing.T) {
	r := registryOf(t, "v1", "v2")
	for _, version := range []string{"v1", "v2"} {
		if err := r.Promote(models.Champion, models.Promotion{Version: version, At: promotedAt}); err != nil {
			t.Fatal(err)
		}
	}
	dir, _ := r.Dir("v1")
	if err := os.WriteFile(filepath.Join(dir, "model.txt"), []byte("tree\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Rollback(models.Champion, promotedAt); err == nil || !strings.Contains(err.Error(), "SHA-256") || champion(t, r) != "v2" {
		t.Errorf("got %v, the champion is %s", err, champion(t, r))
	}
}

// Readers in any number see one champion or the other while it changes, and what they open is whole.
func TestReadersSeeWholeModelsWhileTheyChange(t *testing.T) {
	r := registryOf(t, "v1", "v2")
	if err := r.Promote(models.Champion, models.Promotion{Version: "v1", At: promotedAt}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				version, ok, err := r.Current(models.Champion)
				if err != nil || !ok {
					t.Errorf("no champion: %v", err)
					return
				}
				if b, err := r.Open(version); err != nil || b.Manifest().Version != version {
					t.Errorf("open %s: %v", version, err)
					return
				}
			}
		})
	}
	var writers sync.WaitGroup
	for i := range 2 {
		writers.Go(func() {
			for n := range 10 {
				if err := r.Promote(models.Champion, models.Promotion{Version: []string{"v1", "v2"}[(i+n)%2], At: promotedAt}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(done)
	all.Wait()
}

// A bundle whose files are replaced one by one while it is read is refused or one of the two, never a mixture.
func TestABundleSwappedWhileItIsReadIsNeverAMixture(t *testing.T) {
	r := registryOf(t, "v1")
	dir, _ := r.Dir("v1")
	other := contents(t, "gbdt", "v1")
	second := filepath.Join(t.TempDir(), "v1")
	if err := models.Write(second, other); err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(t.TempDir(), "v1")
	if err := os.CopyFS(first, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, d := range []string{first, second} {
		b, err := models.Open(d)
		if err != nil {
			t.Fatal(err)
		}
		want[b.Identity().SHA256] = true
	}
	done := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Go(func() {
		defer close(done)
		for i := range 30 {
			from := []string{second, first}[i%2]
			for _, name := range []string{"model.txt", "calibration.json", "golden.json", "features.yaml", "manifest.json"} {
				b, err := os.ReadFile(filepath.Join(from, name))
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
				}
				if err != nil {
					t.Error(err)
				}
			}
		}
	})
	opened := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		b, err := r.Open("v1")
		if err != nil {
			continue
		}
		opened++
		if !want[b.Identity().SHA256] {
			t.Errorf("opened model %s, which is neither", b.Identity().SHA256)
		}
	}
	swapping.Wait()
	if opened == 0 {
		t.Error("nothing was opened in the end")
	}
}

const fullDisk = "VAGLIO_TEST_FULL_DISK"

// A process whose files may not grow at all stands for a full disk.
func TestAFullDiskLeavesTheChampion(t *testing.T) {
	if dir := os.Getenv(fullDisk); dir != "" {
		onAFullDisk(t, dir)
		return
	}
	r := registryOf(t, "v1", "v2")
	if err := r.Promote(models.Champion, models.Promotion{Version: "v1", At: promotedAt}); err != nil {
		t.Fatal(err)
	}
	v1, _ := r.Dir("v1")
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), fullDisk+"="+filepath.Dir(v1))
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if champion(t, r) != "v1" {
		t.Errorf("the champion is %s", champion(t, r))
	}
	left, err := os.ReadDir(filepath.Dir(v1))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if name := f.Name(); name != "v1" && name != "v2" && name != "champion" && name != ".lock" {
			t.Errorf("%s was left", name)
		}
	}
}

func onAFullDisk(t *testing.T, dir string) {
	whole := contents(t, "small", "v3") // trained before the disk is full
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 0, Max: 0}); err != nil {
		t.Fatal(err)
	}
	r, err := models.OpenRegistry(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Promote(models.Champion, models.Promotion{Version: "v2", At: promotedAt}); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("promoted on a full disk: %v", err)
	}
	if err := models.Write(filepath.Join(dir, "v3"), whole); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("written on a full disk: %v", err)
	}
}

func TestAChallengerHasAShareAndCanBeWithdrawn(t *testing.T) {
	r := registryOf(t, "v1", "v2")
	promote := func(stage models.Stage, p models.Promotion) error {
		p.At = promotedAt
		return r.Promote(stage, p)
	}
	for _, err := range []error{promote(models.Champion, models.Promotion{Version: "v1"}),
		promote(models.Challenger, models.Promotion{Version: "v2", Share: 0.05}),
		promote(models.Challenger, models.Promotion{Version: "v2", Share: 0.1, Reason: "it is winter, and \"quotes\" are fine"}),
		promote(models.Shadow, models.Promotion{Version: "v2"})} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, wrong := range []error{promote(models.Champion, models.Promotion{Version: "v2", Share: 0.5}),
		promote(models.Challenger, models.Promotion{Version: "v2", Share: 1.5}),
		promote(models.Challenger, models.Promotion{Version: "v2", Reason: "two\nlines"}), r.Withdraw(models.Champion, promotedAt)} {
		if wrong == nil {
			t.Error("taken")
		}
	}
	if p, ok, err := r.InForce(models.Challenger); err != nil || !ok || p.Share != 0.1 || !strings.Contains(p.Reason, "winter") {
		t.Errorf("challenger %+v, %v", p, err)
	}
	if err := r.Withdraw(models.Challenger, promotedAt+1); err != nil {
		t.Fatal(err)
	}
	if p, ok, err := r.InForce(models.Challenger); ok || err != nil {
		t.Errorf("after it was withdrawn: %+v, %v", p, err)
	}
	if h, err := r.History(models.Challenger); err != nil || len(h) != 2 || h[0].TakenBack != promotedAt+1 {
		t.Errorf("history %+v, %v", h, err)
	}
}
