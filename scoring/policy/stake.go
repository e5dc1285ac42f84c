package policy

// Segment is the name of the segment that the request is in, "" for none.
func (ev *Evaluation) Segment() string { return ev.segment }

// Stake is what is at risk in the request.
func (ev *Evaluation) Stake() Stake { return ev.stake }
