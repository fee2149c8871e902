package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

// ErrElsewhere says that the name of a node is that of another machine.
var ErrElsewhere = fmt.Errorf("%w: the cluster has a node of this name on another machine: name this one otherwise",
	shared.ErrUnavailable)

// Join has this process be a member of the cluster, and returns the member that it is: the node is that of the log, and
// its epoch is set. It first waits until everything is applied here that was in the log. It fails with [ErrElsewhere]
// if the name of the node is that of another machine, which is not gone.
func (r *Replicated) Join(ctx context.Context, m index.Member) (index.Member, error) {
	err := r.readLastFormat(ctx)
	if err == nil {
		err = r.readAll(ctx)
	}
	if err != nil {
		return index.Member{}, fmt.Errorf("read the log up to now: %w", err)
	}
	m.Node = r.node
	r.joining.Store(true)
	for {
		was, err := r.member()
		if err != nil {
			return index.Member{}, err
		}
		results, err := r.Append(ctx, []index.Op{{Join: &index.Join{Member: m, After: was.Epoch}}})
		if err != nil {
			return index.Member{}, fmt.Errorf("join the cluster: %w", err)
		}
		switch now := results[0].Member; {
		case results[0].New && !results[0].More:
			r.joining.Store(false)
			return *now, nil
		case results[0].New:
		case now == nil && was.Epoch == 0:
			return index.Member{}, fmt.Errorf("%w: the cluster has %d nodes, and no more may join; those that are gone count "+
				"until they are forgotten", shared.ErrUnavailable, shared.MaxNodes)
		case now != nil && !now.Gone && now.Instance != m.Instance:
			return *now, ErrElsewhere
		}
	}
}

// readAll is Barrier for a node that may be far behind: it waits for as long as entries are applied.
func (r *Replicated) readAll(ctx context.Context) error {
	for before := r.entries.Load(); ; {
		err := r.Barrier(ctx)
		applied := r.entries.Load()
		if !errors.Is(err, errBehind) || applied == before {
			return err
		}
		before = applied
	}
}

// member is this node as the index has it; zero if it is none.
func (r *Replicated) member() (index.Member, error) {
	members, err := r.index.Members()
	if err != nil || members[r.node] == nil {
		return index.Member{}, err
	}
	return *members[r.node], nil
}

// Leave ends the membership of a node, which is gone since a moment or, if it is to be forgotten, gone for good. It
// changes nothing if the node has joined again.
func (r *Replicated) Leave(ctx context.Context, m index.Member, at time.Time, forget bool) error {
	for {
		leave := &index.Leave{Node: m.Node, Epoch: m.Epoch, At: at, Forget: forget}
		results, err := r.Append(ctx, []index.Op{{Leave: leave}})
		if err != nil {
			return fmt.Errorf("end the membership of node %s: %w", m.Node, err)
		}
		if !results[0].More {
			return nil
		}
	}
}
