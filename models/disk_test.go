package models_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"vaglio/files/filestest"
	"vaglio/models"
)

func TestOnAFullDiskThereIsNoBundle(t *testing.T) {
	if !filestest.Alone(t) {
		return
	}
	registry := t.TempDir()
	c := contents(t, "plain", "v1")
	whole, half := filepath.Join(registry, "v1"), filepath.Join(registry, "v2")
	if err := models.Write(whole, c); err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func() error{
		"write": func() error { return models.Write(half, c) },
		"copy":  func() error { return models.Copy(half, whole) },
	} {
		usual := filestest.Limit(t, 1000)
		err := write()
		usual()
		if !errors.Is(err, syscall.EFBIG) || !strings.Contains(err.Error(), "name another folder") || !strings.Contains(err.Error(), half) {
			t.Errorf("%s on a full disk: %v", name, err)
		}
		if entries, err := os.ReadDir(registry); err != nil || len(entries) != 1 {
			t.Errorf("%s left %v, %v", name, entries, err)
		}
		if err := write(); err != nil {
			t.Errorf("%s with room again: %v", name, err)
		}
		if _, err := models.Open(half); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.RemoveAll(half); err != nil {
			t.Fatal(err)
		}
	}
	if err := models.Copy(whole, whole); !errors.Is(err, os.ErrExist) {
		t.Errorf("copied over another bundle: %v", err)
	}
	if err := models.Copy(half, t.TempDir()); err == nil {
		t.Error("an empty folder was copied as a bundle")
	}
}
