package history

import (
	"errors"
	"io"
	"net"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// passing are the codes of ClickHouse's errors that say nothing against what was asked: timeouts, too many queries, parts or
// bytes at once, a full disk, a table that is read-only for a while, replicas and keepers that are away.
// https://github.com/ClickHouse/ClickHouse/blob/v26.7.1.1-stable/src/Common/ErrorCodes.cpp
var passing = []int32{159, 164, 198, 202, 203, 209, 210, 225, 236, 241, 242, 243, 252, 279, 285, 286, 289, 319, 394, 425, 439, 735, 999}

// Unavailable reports whether an error says that ClickHouse can't be had or has no room now: the same again may work later.
// Whether events that were being stored are stored is then unknown; sent again they are, once.
func Unavailable(err error) bool {
	var said *clickhouse.Exception
	if errors.As(err, &said) {
		return slices.Contains(passing, said.Code)
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, clickhouse.ErrAcquireConnTimeout) || errors.Is(err, clickhouse.ErrConnectionClosed) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
