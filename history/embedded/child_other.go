//go:build !linux

package embedded

import (
	"os"
	"syscall"
)

func ownExecutable() (string, error) { return os.Executable() }

func diesWithParent() *syscall.SysProcAttr { return nil }
