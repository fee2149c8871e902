// Package convert takes the index of a single machine into a new cluster, and makes that of a single machine of a
// node's. Both may be killed and done again, and read what they wrote.
package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/badgerdir"
	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal"
)

// Log is the log of a cluster.
type Log interface {
	journal.Stream
	journal.Beats
	journal.Snapshots

	ID() string
}

// Say tells how far the work is.
type Say func(format string, args ...any)

// Imported says what ToCluster took into a cluster.
type Imported struct {
	Index    index.Identity `json:"index"` // of the single machine
	Log      string         `json:"log"`   // of the cluster
	Position uint64         `json:"position"`
	Nodes    []string       `json:"nodes"`
	index.Content
	Stored bool `json:"stored"` // by this call, and not by an earlier one
}

// Claim names an import, which a stream is created for: of an index as it is, for these nodes.
func Claim(id index.Identity, nodes []string) string {
	return fmt.Sprintf("the index %s of epoch %s at commit %d for the nodes %s", id.ID, id.Epoch, id.Version,
		strings.Join(nodes, ", "))
}

// ToCluster stores the index of a single machine as the first snapshot of a cluster, whose log was created for it: with
// its Claim, and so that it begins behind its last commit. No node begins without that snapshot, because no entry of
// the log has what is in it. A snapshot that an earlier call stored is not stored again; one that was cut short is.
func ToCluster(ctx context.Context, x *index.Index, log Log, nodes []string, say Say) (Imported, error) {
	id := x.Identity()
	done := Imported{Index: id, Log: log.ID(), Position: id.Version, Nodes: nodes}
	stored, err := first(ctx, log, id.Version)
	if err != nil {
		return Imported{}, err
	}
	if done.Stored = stored == nil; done.Stored {
		done.Content, err = store(ctx, x, log, nodes, say)
		if err == nil {
			stored, err = first(ctx, log, id.Version)
		}
		if err == nil && stored == nil {
			err = errors.New("the snapshot is not there; was it removed by another import of this index? " +
				"run this again")
		}
	} else {
		done.Content, err = x.SnapshotForCluster(ctx, log.ID(), nodes, io.Discard, func(keys uint64) { say("%d keys", keys) })
	}
	if err != nil {
		return Imported{}, err
	}
	if err := verifyStored(ctx, log, stored, &done, say); err != nil {
		return Imported{}, fmt.Errorf("verify the snapshot: %w", err)
	}
	return done, nil
}

// first is the snapshot with which the log begins; nil if there is none. It is an error if the cluster has taken others
// since, and removed that one.
func first(ctx context.Context, log Log, position uint64) (*journal.Snapshot, error) {
	all, err := log.Snapshots(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the snapshots: %w", err)
	}
	for _, s := range all {
		if s.Position == position {
			return &s, nil
		}
	}
	if len(all) > 0 {
		return nil, fmt.Errorf("the index was imported before, and the cluster is in use: its log has come to entry %d",
			all[0].Position)
	}
	return nil, nil
}

func store(ctx context.Context, x *index.Index, log Log, nodes []string, say Say) (index.Content, error) {
	w, err := log.CreateSnapshot(ctx, x.Identity().Version)
	if err != nil {
		return index.Content{}, fmt.Errorf("store the snapshot: %w", err)
	}
	content, err := x.SnapshotForCluster(ctx, log.ID(), nodes, w, func(keys uint64) { say("%d keys stored", keys) })
	if err != nil {
		w.Abort()
		return index.Content{}, err
	}
	if err := w.Commit(); err != nil {
		return index.Content{}, fmt.Errorf("store the snapshot: %w", err)
	}
	return content, nil
}

// verifyStored compares a snapshot, as the servers have it, with what was to be stored.
func verifyStored(ctx context.Context, log Log, s *journal.Snapshot, want *Imported, say Say) error {
	r, err := log.OpenSnapshot(ctx, *s)
	if err != nil {
		return err
	}
	defer r.Close()
	is, at, err := index.SnapshotContent(ctx, r, func(keys uint64) { say("%d keys verified", keys) })
	if err == nil && (is != want.Content || at != index.Log{ID: want.Log, Position: want.Position}) {
		err = fmt.Errorf("it has %d messages and %d recalls at entry %d of the log %s, and not %d and %d at entry %d of %s; "+
			"delete it from the object store (%s), and run this again", is.Messages, is.Recalls, at.Position, at.ID,
			want.Messages, want.Recalls, want.Position, want.Log, s.Name)
	}
	return err
}

// Exported says what ToSingle made.
type Exported struct {
	Path     string `json:"path"`
	Log      string `json:"log"` // of the cluster
	Position uint64 `json:"position"`
	CaughtUp bool   `json:"caught_up"` // the log has nothing that is not in it
	index.Converted
}

// Cluster is where ToSingle finds what the index of a node lacks.
type Cluster struct {
	Log   Log
	Node  string        // whose index it is
	Lease time.Duration // a node that is silent for longer does not run
}

// ToSingle makes the index of a single machine of that of a node, in a folder that does not exist or is empty, or has
// what an earlier call made of it. The index of the node first gets what it lacks of the log. If the cluster is nil it
// stays as it is. No node of the cluster may run: what it wrote later would be lost.
func ToSingle(ctx context.Context, x *index.Index, of *Cluster, folder string, say Say) (Exported, error) {
	if of == nil {
		return export(ctx, x, folder, say)
	}
	heard, stop, err := of.listen()
	if err != nil {
		return Exported{}, err
	}
	defer stop()
	if err := of.catchUp(ctx, x, heard, say); err != nil {
		return Exported{}, err
	}
	done, err := export(ctx, x, folder, say)
	done.CaughtUp = true
	return done, errors.Join(err, heard.check())
}

func export(ctx context.Context, x *index.Index, folder string, say Say) (done Exported, err error) {
	done = Exported{Path: folder, Log: x.Log().ID, Position: x.Log().Position}
	if files, err := os.ReadDir(folder); err == nil && len(files) > 0 {
		done.Content, err = x.ContentAsSingle(ctx, func(keys uint64) { say("%d keys", keys) })
		if err != nil {
			return done, err
		}
	} else {
		done.Converted, err = x.ToSingle(ctx, folder, hclog.NewNullLogger(), func(keys uint64) { say("%d keys", keys) })
		if err != nil {
			return done, err
		}
	}
	done.Index, err = verifySingle(ctx, folder, done.Content, say)
	return done, err
}

// verifySingle reads every file of an index, and compares what it holds with what was to be written.
func verifySingle(ctx context.Context, folder string, want index.Content, say Say) (index.Identity, error) {
	r, err := badgerdir.Verify(ctx, folder, func(done, total int64) { say("%d of %d MiB verified", done>>20, total>>20) })
	if err == nil && !r.OK {
		err = &badgerdir.DamageError{Found: r.Damage}
	}
	if err != nil {
		return index.Identity{}, fmt.Errorf("verify %s: %w", folder, err)
	}
	x, err := index.Open(ctx, index.Options{Path: folder})
	if err != nil {
		return index.Identity{}, err
	}
	is, err := x.Content(ctx, func(keys uint64) { say("%d keys verified", keys) })
	if err == nil && is != want {
		err = fmt.Errorf("%s has something else than this command makes: %d messages and %d recalls, and not %d and %d; "+
			"name another folder", folder, is.Messages, is.Recalls, want.Messages, want.Recalls)
	}
	return x.Identity(), errors.Join(err, x.Close())
}
