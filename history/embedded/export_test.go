package embedded

import "time"

// RestartDelays replaces the pauses before restarts.
func RestartDelays(delays []time.Duration) (restore func()) {
	before := restartDelays
	restartDelays = delays
	return func() { restartDelays = before }
}
