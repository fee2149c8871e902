package host

import (
	"fmt"
	"net"
	"os"

	"github.com/chat-recall/recall/internal/wire"
)

// newLane makes both ends of the lane of a plugin process; nil where the environment turns lanes off.
func newLane() (ours *net.UnixConn, theirs *os.File, err error) {
	switch value := os.Getenv(wire.LaneEnv); value {
	case "off":
		return nil, nil, nil
	case "", "on":
		return socketPair("lane")
	default:
		return nil, nil, fmt.Errorf("the environment variable %s is %q; set it to on or off", wire.LaneEnv, value)
	}
}
