package jetstream

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/shared"
)

// The snapshots are objects of the object store <stream>_SNAPSHOTS, as NATS's tools show them. The client of NATS has
// one deadline for a whole object, so what an object consists of is written and read here, each part with a request of
// its own that is made again: its parts first, all under one subject, and last what describes it.

const (
	snapshotsSuffix = "_SNAPSHOTS"

	snapshotPartBytes = 256 << 10

	// partTimeout is how long a part is tried. It is below the time for which the servers know a part again that was
	// published twice, which is two minutes.
	partTimeout = 30 * time.Second

	// Headers of an object.
	logHeader      = "Recall-Log"
	positionHeader = "Recall-Position"
)

var _ journal.Snapshots = (*Stream)(nil)

// errNoPart says that a message of the object store is not there.
var errNoPart = errors.New("a part of the snapshot is missing")

func (s *Stream) bucket() string { return s.options.Stream + snapshotsSuffix }

func (s *Stream) partsSubject(id string) string { return "$O." + s.bucket() + ".C." + id }

func (s *Stream) aboutSubject(name string) string {
	return "$O." + s.bucket() + ".M." + base64.URLEncoding.EncodeToString([]byte(name))
}

// store is the stream below the object store; nil if there is none and create is false.
func (s *Stream) store(ctx context.Context, create bool) (stream jetstream.Stream, err error) {
	err = s.retry(ctx, "open the object store "+s.bucket(), func(ctx context.Context) (err error) {
		stream, err = s.js.Stream(ctx, "OBJ_"+s.bucket())
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
		if stream = nil; !create {
			return nil
		}
		stream, err = s.js.CreateStream(ctx, jetstream.StreamConfig{ // as nats.go creates it, but for AllowDirect
			Name: "OBJ_" + s.bucket(), Description: "snapshots of the index",
			Subjects: []string{s.partsSubject(">"), "$O." + s.bucket() + ".M.>"},
			Storage:  jetstream.FileStorage, Replicas: s.options.Replicas, Discard: jetstream.DiscardNew, AllowRollup: true,
			Compression: jetstream.S2Compression,
		})
		return err
	})
	if err != nil || stream == nil {
		return nil, err
	}
	c := stream.CachedInfo().Config
	// A direct read is answered by any server, also by one that does not have a snapshot yet: it would count as deleted.
	if c.Storage != jetstream.FileStorage || c.Replicas < s.options.Replicas || c.MaxAge > 0 || c.AllowDirect {
		return nil, fmt.Errorf("the object store %s cannot have the snapshots: it has %d replicas, storage %s, max_age %s "+
			"and allow_direct %t, and it needs %d, file, none and false; edit the stream %s", s.bucket(), c.Replicas, c.Storage,
			c.MaxAge, c.AllowDirect, s.options.Replicas, c.Name)
	}
	return stream, nil
}

// objects is what an object store has.
type objects struct {
	whole []*jetstream.ObjectInfo
	rest  []string // subjects of what is of no whole object
}

// objects lists what the object store has. An object is whole where it is described, with as many parts as that says.
func (s *Stream) objects(ctx context.Context, store jetstream.Stream) (o objects, err error) {
	var subjects map[string]uint64
	err = s.retry(ctx, "list the snapshots", func(ctx context.Context) error {
		info, err := store.Info(ctx, jetstream.WithSubjectFilter("$O."+s.bucket()+".>"))
		if err == nil {
			subjects = info.State.Subjects
		}
		return err
	})
	if err != nil {
		return o, err
	}
	used := map[string]bool{}
	for about := range subjects {
		if !strings.HasPrefix(about, "$O."+s.bucket()+".M.") {
			continue
		}
		m, err := s.message(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
			return store.GetLastMsgForSubject(ctx, about)
		})
		if errors.Is(err, errNoPart) { // it was deleted meanwhile
			continue
		}
		if err != nil {
			return o, err
		}
		info := &jetstream.ObjectInfo{}
		if err := json.Unmarshal(m.Data, info); err != nil || info.NUID == "" {
			o.rest = append(o.rest, about)
			continue
		}
		info.ModTime = m.Time
		parts := s.partsSubject(info.NUID)
		if subjects[parts] != uint64(info.Chunks) || info.Deleted {
			o.rest = append(o.rest, about)
			continue
		}
		used[parts] = true
		o.whole = append(o.whole, info)
	}
	for subject := range subjects {
		if strings.HasPrefix(subject, s.partsSubject("")) && !used[subject] {
			o.rest = append(o.rest, subject)
		}
	}
	return o, nil
}

// message reads a message of the object store. It fails with errNoPart if there is none.
func (s *Stream) message(
	ctx context.Context, get func(context.Context) (*jetstream.RawStreamMsg, error),
) (m *jetstream.RawStreamMsg, err error) {
	err = s.retry(ctx, "read the object store "+s.bucket(), func(ctx context.Context) (err error) {
		m, err = get(ctx)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			m, err = nil, nil
		}
		return err
	})
	if err == nil && m == nil {
		err = errNoPart
	}
	return m, err
}

// purge removes everything of a subject of the object store.
func (s *Stream) purge(ctx context.Context, store jetstream.Stream, subject string) error {
	return s.retry(ctx, "delete from the object store "+s.bucket(), func(ctx context.Context) error {
		return store.Purge(ctx, jetstream.WithPurgeSubject(subject))
	})
}

// Snapshots is [journal.Snapshots].
func (s *Stream) Snapshots(ctx context.Context) (all []journal.Snapshot, err error) {
	store, err := s.store(ctx, false)
	if err != nil || store == nil {
		return nil, err
	}
	o, err := s.objects(ctx, store)
	if err != nil {
		return nil, err
	}
	for _, info := range o.whole {
		position, err := strconv.ParseUint(info.Headers.Get(positionHeader), 10, 64)
		if err == nil && info.Headers.Get(logHeader) == s.ID() {
			all = append(all, journal.Snapshot{Name: info.Name, Position: position, Taken: info.ModTime, Bytes: info.Size})
		}
	}
	slices.SortFunc(all, journal.Snapshot.Compare)
	return all, nil
}

// CreateSnapshot is [journal.Snapshots].
func (s *Stream) CreateSnapshot(ctx context.Context, position uint64) (journal.SnapshotWriter, error) {
	store, err := s.store(ctx, true)
	if err != nil {
		return nil, err
	}
	o, err := s.objects(ctx, store)
	if err != nil {
		return nil, err
	}
	for _, subject := range o.rest {
		if err := s.purge(ctx, store, subject); err != nil {
			return nil, err
		}
	}
	id := rand.Text()
	return &snapshotWriter{
		ctx: ctx, s: s, store: store, sum: sha256.New(), part: make([]byte, 0, snapshotPartBytes),
		info: jetstream.ObjectInfo{
			Bucket: s.bucket(), NUID: id,
			ObjectMeta: jetstream.ObjectMeta{
				Name: fmt.Sprintf("%s.%020d.%s", s.ID(), position, id),
				Headers: nats.Header{
					logHeader: {s.ID()}, positionHeader: {strconv.FormatUint(position, 10)}, "Recall-Node": {s.options.Node},
				},
				Opts: &jetstream.ObjectMetaOptions{ChunkSize: snapshotPartBytes},
			},
		},
	}, nil
}

// snapshotWriter writes an object.
type snapshotWriter struct {
	ctx   context.Context
	s     *Stream
	store jetstream.Stream
	info  jetstream.ObjectInfo
	sum   hash.Hash
	part  []byte
}

func (w *snapshotWriter) Write(data []byte) (n int, err error) {
	for len(data) > 0 {
		fits := min(len(data), cap(w.part)-len(w.part))
		w.part, data, n = append(w.part, data[:fits]...), data[fits:], n+fits
		if len(w.part) == cap(w.part) {
			if err := w.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (w *snapshotWriter) flush() error {
	w.sum.Write(w.part)
	w.info.Size += uint64(len(w.part))
	w.info.Chunks++
	m := nats.NewMsg(w.s.partsSubject(w.info.NUID))
	m.Data = w.part
	err := w.publish(m, fmt.Sprint(w.info.NUID, "-", w.info.Chunks))
	w.part = w.part[:0]
	return err
}

// publish publishes a message once. The servers know one again by its id.
func (w *snapshotWriter) publish(m *nats.Msg, id string) error {
	ctx, cancel := context.WithTimeout(w.ctx, partTimeout)
	defer cancel()
	return w.s.retry(ctx, "store a snapshot", func(ctx context.Context) error {
		_, err := w.s.js.PublishMsg(ctx, m, jetstream.WithMsgID(id), jetstream.WithRetryAttempts(0))
		return err
	})
}

// Commit is [journal.SnapshotWriter].
func (w *snapshotWriter) Commit() error {
	if len(w.part) > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.info.Digest = "SHA-256=" + base64.URLEncoding.EncodeToString(w.sum.Sum(nil))
	data, err := json.Marshal(w.info)
	if err != nil {
		return err
	}
	m := nats.NewMsg(w.s.aboutSubject(w.info.Name))
	m.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	m.Data = data
	return w.publish(m, w.info.NUID)
}

// Abort is [journal.SnapshotWriter]. What it cannot remove the next snapshot does.
func (w *snapshotWriter) Abort() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), requestTimeout)
	defer cancel()
	_ = w.s.purge(ctx, w.store, w.s.partsSubject(w.info.NUID))
}

// DeleteSnapshot is [journal.Snapshots].
func (s *Stream) DeleteSnapshot(ctx context.Context, old journal.Snapshot) error {
	store, err := s.store(ctx, false)
	if err != nil || store == nil {
		return err
	}
	info, err := s.about(ctx, store, old.Name)
	if errors.Is(err, errNoPart) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.purge(ctx, store, s.aboutSubject(old.Name)); err != nil { // first: it is no snapshot without it
		return err
	}
	return s.purge(ctx, store, s.partsSubject(info.NUID))
}

// about reads what describes an object.
func (s *Stream) about(ctx context.Context, store jetstream.Stream, name string) (*jetstream.ObjectInfo, error) {
	m, err := s.message(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return store.GetLastMsgForSubject(ctx, s.aboutSubject(name))
	})
	if err != nil {
		return nil, err
	}
	info := &jetstream.ObjectInfo{}
	if err := json.Unmarshal(m.Data, info); err != nil || info.NUID == "" {
		return nil, fmt.Errorf("the description of the snapshot %s is damaged: %w", name, err)
	}
	return info, nil
}

// OpenSnapshot is [journal.Snapshots].
func (s *Stream) OpenSnapshot(ctx context.Context, at journal.Snapshot) (io.ReadCloser, error) {
	store, err := s.store(ctx, false)
	if err != nil {
		return nil, err
	}
	if store == nil {
		return nil, fmt.Errorf("%w: the object store %s is gone", shared.ErrUnavailable, s.bucket())
	}
	info, err := s.about(ctx, store, at.Name)
	if err != nil {
		return nil, err
	}
	return &snapshotReader{ctx: ctx, s: s, store: store, info: info, sum: sha256.New(), next: 1}, nil
}

// snapshotReader reads an object part by part.
type snapshotReader struct {
	ctx   context.Context
	s     *Stream
	store jetstream.Stream
	info  *jetstream.ObjectInfo
	sum   hash.Hash
	next  uint64 // position of the next part in the object store, at least
	parts uint32 // read so far
	part  bytes.Reader
	err   error
}

func (r *snapshotReader) Read(data []byte) (int, error) {
	for r.err == nil && r.part.Len() == 0 {
		r.err = r.read()
	}
	if r.err != nil {
		return 0, r.err
	}
	return r.part.Read(data)
}

// read reads the next part, or fails with io.EOF behind the last one.
func (r *snapshotReader) read() error {
	if r.parts == r.info.Chunks {
		if "SHA-256="+base64.URLEncoding.EncodeToString(r.sum.Sum(nil)) != r.info.Digest {
			return fmt.Errorf("the snapshot %s is damaged: its checksum is wrong", r.info.Name)
		}
		return io.EOF
	}
	ctx, cancel := context.WithTimeout(r.ctx, partTimeout)
	defer cancel()
	m, err := r.s.message(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return r.store.GetMsg(ctx, r.next, jetstream.WithGetMsgSubject(r.s.partsSubject(r.info.NUID)))
	})
	if err != nil {
		return fmt.Errorf("read part %d of %d of the snapshot %s: %w", r.parts+1, r.info.Chunks, r.info.Name, err)
	}
	r.parts++
	r.next = m.Sequence + 1
	r.sum.Write(m.Data)
	r.part.Reset(m.Data)
	return nil
}

func (r *snapshotReader) Close() error {
	r.err = errors.Join(r.err, io.ErrClosedPipe)
	return nil
}

// Trim is [journal.Snapshots].
func (s *Stream) Trim(ctx context.Context, upTo uint64) error {
	return s.retry(ctx, "trim the stream "+s.options.Stream, func(ctx context.Context) error {
		stream, err := s.js.Stream(ctx, s.options.Stream)
		if err == nil {
			err = stream.Purge(ctx, jetstream.WithPurgeSequence(upTo+1))
		}
		return err
	})
}
