package native_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vaglio/native"
)

func TestAFunctionOfALibraryCanBeCalled(t *testing.T) {
	lib, err := native.Open("lib_lightgbm.so")
	if err != nil {
		t.Fatal(err)
	}
	var lastError func() string
	if err := lib.Func(&lastError, "LGBM_GetLastError"); err != nil {
		t.Fatal(err)
	}
	// "Everything is fine" is the text before the first error (LightGBM, c_api.h: LastErrorMsg).
	if got := lastError(); got != "Everything is fine" {
		t.Errorf("LGBM_GetLastError() = %q", got)
	}
}

func TestAMissingFunctionIsAnErrorThatNamesIt(t *testing.T) {
	lib, err := native.Open("lib_lightgbm.so")
	if err != nil {
		t.Fatal(err)
	}
	var nothing func()
	if err := lib.Func(&nothing, "LGBM_NoSuchThing"); err == nil || !strings.Contains(err.Error(), "LGBM_NoSuchThing") {
		t.Errorf("error = %v", err)
	}
}

func TestTheFolderOfTheVariableIsTheOnlyOneLookedAt(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("VAGLIO_LIB", dir)
	if _, err := native.Open("lib_lightgbm.so"); !errors.Is(err, native.ErrNotFound) || !strings.Contains(err.Error(), dir) {
		t.Errorf("error = %v", err)
	}
}

func TestAFileThatIsNoLibraryIsAnErrorThatNamesIt(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("VAGLIO_LIB", dir)
	path := filepath.Join(dir, "libchdb.so")
	if err := os.WriteFile(path, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := native.Open("libchdb.so"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error = %v", err)
	}
}

func TestALibraryIsFoundFromAFolderInsideTheCheckout(t *testing.T) {
	checkout := t.TempDir()
	inside := filepath.Join(checkout, "a", "b")
	lib := filepath.Join(checkout, ".deps", "lib", "libvaglio_probe.so")
	for _, dir := range []string{inside, filepath.Dir(lib)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(lib, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VAGLIO_LIB", "")
	t.Chdir(inside)
	got, err := native.Find("libvaglio_probe.so")
	if err != nil || got != lib {
		t.Errorf("Find = %q, %v; want %q", got, err, lib)
	}
}
