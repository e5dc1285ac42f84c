package embedded

import "syscall"

// ownExecutable is the running program even after its file was replaced by a newer one.
func ownExecutable() (string, error) { return "/proc/self/exe", nil }

func diesWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
