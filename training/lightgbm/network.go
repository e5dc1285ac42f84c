package lightgbm

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Network is a training that several machines share: each holds a part of the training rows and all of the validation rows,
// all find the same trees. They must be given the same parameters, columns and Machines.
type Network struct {
	Machines       []string // host:port of each, where it listens for the others
	Self           int      // which of them this one is
	Shift          int      // added to all ports: for a minute after a training LightGBM can't listen where it did
	TimeoutMinutes int      // to wait for the others; 0: 10
}

// resolve turns names into the addresses by which LightGBM recognises its own machine.
func (n *Network) resolve(ctx context.Context) (*network, error) {
	resolved := make([]string, len(n.Machines))
	seen := map[string]bool{}
	var port int
	for i, machine := range n.Machines {
		host, service, err := net.SplitHostPort(machine)
		if err != nil {
			return nil, fmt.Errorf("machine %q: want host:port: %w", machine, err)
		}
		number, err := strconv.ParseUint(service, 10, 16)
		last := uint64(1<<16 - 1 - n.Shift)
		if err != nil || number == 0 || number > last {
			return nil, fmt.Errorf("machine %q: want a port from 1 to %d", machine, last)
		}
		number += uint64(n.Shift)
		addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
		if err != nil {
			return nil, fmt.Errorf("machine %q: %w", machine, err)
		}
		resolved[i] = net.JoinHostPort(addresses[0].Unmap().String(), strconv.FormatUint(number, 10))
		if seen[resolved[i]] {
			return nil, fmt.Errorf("machine %q: %s is given twice", machine, resolved[i])
		}
		seen[resolved[i]] = true
		if i == n.Self {
			port = int(number)
		}
	}
	minutes := n.TimeoutMinutes
	if minutes <= 0 {
		minutes = 10
	}
	return &network{Machines: strings.Join(resolved, ","), Count: int32(len(resolved)), Port: int32(port), TimeoutMinutes: int32(minutes)}, nil
}
