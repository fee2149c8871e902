package convert

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal"
)

// heard are the names of nodes that run; it has room for one.
type heard chan string

// listen hears the nodes of the cluster until stop.
func (c *Cluster) listen() (h heard, stop func(), err error) {
	h = make(heard, 1)
	stop, err = c.Log.Receive(func(data []byte) {
		var b journal.Beat
		if json.Unmarshal(data, &b) == nil && b.Node != "" {
			select {
			case h <- b.Node:
			default:
			}
		}
	})
	return h, stop, err
}

// check refuses if a node was heard.
func (h heard) check() error {
	select {
	case node := <-h:
		return isRunning(node)
	default:
		return nil
	}
}

func isRunning(node string) error {
	return fmt.Errorf("the node %s runs: what it writes would be lost; stop the chat servers of all nodes first", node)
}

// catchUp applies what the index lacks of the log, and waits until it is sure that no node runs. One that left runs no
// longer; others are waited for as long as they would be by a node.
func (c *Cluster) catchUp(ctx context.Context, x *index.Index, h heard, say Say) error {
	if err := x.Follow(ctx, c.Log.ID(), c.Node); err != nil {
		return err
	}
	if err := journal.CatchUp(ctx, x, c.Log, c.Node); err != nil {
		return fmt.Errorf("read what the index lacks of the log: %w", err)
	}
	members, err := x.Members()
	if err != nil {
		return err
	}
	var silent []string
	for node, m := range members {
		if node != c.Node && !m.Gone {
			silent = append(silent, node)
		}
	}
	if len(silent) == 0 {
		return h.check()
	}
	slices.Sort(silent)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for end := time.After(c.Lease); ; {
		say("waiting up to %s: %s did not leave the cluster, and may run", c.Lease, strings.Join(silent, ", "))
		select {
		case node := <-h:
			return isRunning(node)
		case <-tick.C:
		case <-end:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
