package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lockFolder takes the folder's lock and writes our process id into its file. The child inherits the open file, and with
// it the lock: the folder stays locked until both are gone. (The flock library does not give its file away.)
func lockFolder(ctx context.Context, dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := waitForLock(ctx, file, dir); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if err := errors.Join(file.Truncate(0), writeAtStart(file, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), file.Close())
	}
	return file, nil
}

// waitForLock gives up at once when the process that wrote its id lives. Otherwise what holds the lock is a child whose
// parent was killed; it ends by itself within lingerTimeout.
func waitForLock(ctx context.Context, file *os.File, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", dir, err)
		}
		content := make([]byte, 20)
		n, _ := file.ReadAt(content, 0)
		holder, _ := strconv.Atoi(strings.TrimSpace(string(content[:n])))
		if holder > 0 && !errors.Is(syscall.Kill(holder, 0), syscall.ESRCH) {
			return fmt.Errorf("%w: %s is held by process %d", ErrInUse, dir, holder)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s is held by the clickhouse of process %d, which is gone", ErrInUse, dir, holder)
		case <-retry.C:
		}
	}
}

func writeAtStart(file *os.File, content string) error {
	_, err := file.WriteAt([]byte(content), 0)
	return err
}
