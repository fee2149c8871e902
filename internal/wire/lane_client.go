package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared/recallv1"
)

const (
	// maxLaneUnsent bounds the calls that wait to be written to a plugin that does not read. Further ones wait for room,
	// each within its context.
	maxLaneUnsent = 16 << 20

	// maxLaneUnread bounds the answers that were read from the lane and not decoded yet.
	maxLaneUnread = 64 << 20
)

// laneNumbers are the numbers of laneMethods by the full name of the method.
var laneNumbers = func() map[string]byte {
	numbers := map[string]byte{}
	for n, m := range laneMethods {
		if m.name != "" {
			numbers["/"+recallv1.RecallService_ServiceDesc.ServiceName+"/"+m.name] = byte(n)
		}
	}
	return numbers
}()

// errLaneEnded says that the lane took a call no more: nothing of it was sent.
var errLaneEnded = errors.New("the lane has ended")

// callConn makes calls by the lane where there is one and they fit, else by gRPC.
type callConn struct {
	grpc.ClientConnInterface
	unary *semaphore.Weighted // calls by gRPC
	lane  atomic.Pointer[laneClient]
}

// Invoke is grpc.ClientConnInterface.
func (c *callConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	m := args.(proto.Message)
	return c.invoke(ctx, method, protoPayload(m), func() proto.Message { return m }, reply.(proto.Message), opts...)
}

// invoke makes a call whose request is payload on the lane, and request() by gRPC.
func (c *callConn) invoke(ctx context.Context, method string, payload lanePayload, request func() proto.Message,
	reply proto.Message, opts ...grpc.CallOption) error {
	number, ok := laneNumbers[method]
	if lane := c.lane.Load(); ok && lane != nil && payload.size <= maxLaneRequest {
		md, _ := metadata.FromOutgoingContext(ctx)
		if encoded, fits := encodeMetadata(md); fits {
			err := lane.invoke(ctx, number, encoded, payload, reply)
			if !errors.Is(err, errLaneEnded) {
				return err
			}
		}
	}
	weight := int64(largeUnary)
	if ok && payload.size <= smallUnary {
		weight = 1
	}
	if err := c.unary.Acquire(ctx, weight); err != nil {
		return status.FromContextError(err).Err()
	}
	defer c.unary.Release(weight)
	return c.ClientConnInterface.Invoke(ctx, method, request(), reply, opts...)
}

// laneClient is the host's end of a lane. Of the callers who wait for answers one leads: it reads for all, and hands
// over to another one when it has its own answer. So a caller who is alone is woken by the kernel and by nobody else,
// and no goroutine reads while nobody waits.
type laneClient struct {
	conn   *net.UnixConn
	in     laneReader // the leader's
	out    *laneWriter
	unsent *semaphore.Weighted // bytes of frames that are not written
	unread *semaphore.Weighted // bytes of answers that are not decoded
	lastID atomic.Uint64

	mu      sync.Mutex
	waiting map[uint64]*pendingCall
	givenUp map[uint64]struct{} // calls whose callers do not wait any more, and that are not answered
	led     bool                // one of those who wait leads
	err     error               // why the lane ended; nil: it did not
}

// pendingCall is a call that waits for its answer. The mutex of its lane guards what changes.
type pendingCall struct {
	id   uint64
	wake chan struct{} // gets one token: when it is to lead, or is answered before that

	leads   bool
	done    bool // answered
	payload []byte
	err     error
}

func newLaneClient(conn *net.UnixConn) (*laneClient, error) {
	l := &laneClient{
		conn: conn, in: laneReader{conn: conn, limit: maxLaneAnswer},
		unsent: semaphore.NewWeighted(maxLaneUnsent), unread: semaphore.NewWeighted(maxLaneUnread),
		waiting: map[uint64]*pendingCall{}, givenUp: map[uint64]struct{}{},
	}
	var err error
	l.out, err = newLaneWriter(conn, func(w laneWeight) { l.unsent.Release(w.lane) }, func() { conn.Close() })
	return l, err
}

// invoke makes one call. It returns when ctx ends, and the call may still be carried out.
func (l *laneClient) invoke(ctx context.Context, method byte, md []byte, request lanePayload,
	response proto.Message) error {
	f := laneFrame{kind: laneCall, method: method, id: l.lastID.Add(1), metadata: md}
	if deadline, ok := ctx.Deadline(); ok {
		f.timeout = max(time.Until(deadline), time.Microsecond)
	}
	frame, err := encodeFrame(f, request)
	if err != nil {
		return status.Errorf(codes.Internal, "encode the request of %s: %v", laneMethods[method].name, err)
	}
	if err := l.unsent.Acquire(ctx, int64(len(frame))); err != nil {
		return status.FromContextError(err).Err()
	}
	c, alone, err := l.begin(f.id)
	if err != nil {
		l.unsent.Release(int64(len(frame)))
		return err
	}
	l.out.add(frame, laneWeight{lane: int64(len(frame))}, alone)
	payload, err := l.await(ctx, c)
	if err != nil {
		return err
	}
	defer l.unread.Release(int64(len(payload)))
	if err = checkDecoded(response, payload); err == nil {
		err = proto.Unmarshal(payload, response)
	}
	if err != nil {
		return status.Errorf(codes.Internal, "read the answer to %s: %v", laneMethods[method].name, err)
	}
	return nil
}

// begin counts a call in. alone tells that no other is under way.
func (l *laneClient) begin(id uint64) (c *pendingCall, alone bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, false, errLaneEnded
	}
	c = &pendingCall{id: id, wake: make(chan struct{}, 1)}
	if !l.led {
		l.led = true
		c.lead()
	}
	alone = len(l.waiting)+len(l.givenUp) == 0
	l.waiting[id] = c
	return c, alone, nil
}

// await returns the payload of the answer to c, which then counts as unread.
func (l *laneClient) await(ctx context.Context, c *pendingCall) ([]byte, error) {
	select {
	case <-c.wake:
		if c.leads {
			l.lead(ctx, func() bool { return c.done })
		}
	case <-ctx.Done():
	}
	l.mu.Lock()
	givenUp := !c.done
	if givenUp {
		c.err = ctx.Err()
		delete(l.waiting, c.id)
		l.givenUp[c.id] = struct{}{}
	}
	if c.leads {
		l.passOn()
	}
	l.mu.Unlock()
	if givenUp {
		frame, _ := encodeFrame(laneFrame{kind: laneCancel, id: c.id}, lanePayload{}) // without a payload that could fail
		l.out.add(frame, laneWeight{}, false)
	}
	return c.payload, c.err
}

// lead is called with the mutex of the lane held.
func (c *pendingCall) lead() {
	c.leads = true
	c.wake <- struct{}{}
}

// passOn makes another caller lead. It is called with mu held.
func (l *laneClient) passOn() {
	for _, next := range l.waiting {
		next.lead()
		return
	}
	if len(l.givenUp) > 0 {
		go l.drain() // ends with the lane, if not before
		return
	}
	l.led = false
}

// drain leads while calls are left that nobody waits for: as long as their answers are unread they hold memory of the
// plugin that calls by gRPC need.
func (l *laneClient) drain() {
	l.lead(context.Background(), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.givenUp) == 0
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passOn()
}

// longAgo is a deadline that interrupts a read.
var longAgo = time.Unix(1, 0)

// lead reads until enough is answered, ctx ends or the lane does. A frame that is read in part stays for the next
// leader.
func (l *laneClient) lead(ctx context.Context, enough func() bool) {
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, func() { _ = l.conn.SetReadDeadline(longAgo) })()
	}
	for {
		f, size, err := l.in.frame()
		switch {
		case err != nil:
		case size > 0:
			if err = l.handOut(ctx, f); err == nil {
				l.in.skip(size)
				continue
			}
		case enough():
			return
		default:
			err = l.in.fill()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) { // set by this leader, or late by one before
			_ = l.conn.SetReadDeadline(time.Time{}) // before ctx is looked at, so that its end is not missed
			err = nil
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			l.end(err)
			return
		}
	}
}

// handOut gives an answer to its call. It waits until there is room for the answer, or ctx ends.
func (l *laneClient) handOut(ctx context.Context, f laneFrame) error {
	var answer error
	size := int64(len(f.payload))
	switch f.kind {
	case laneAnswer:
		if err := l.unread.Acquire(ctx, size); err != nil {
			return err
		}
	case laneError:
		answer, size = laneStatus(f.payload), 0
	default:
		return &laneFrameError{fmt.Sprintf("kind %d from the plugin", f.kind)}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.waiting[f.id]
	if c == nil {
		l.unread.Release(size)
		if _, ok := l.givenUp[f.id]; !ok {
			return &laneFrameError{"answers more calls than it was asked"}
		}
		delete(l.givenUp, f.id)
		return nil
	}
	delete(l.waiting, f.id)
	if answer == nil {
		c.payload = slices.Clone(f.payload)
	}
	c.finish(answer)
	return nil
}

// finish is called with the mutex of the lane held.
func (c *pendingCall) finish(err error) {
	c.done, c.err = true, err
	if !c.leads {
		c.wake <- struct{}{}
	}
}

// laneStatus reads the payload of an error.
func laneStatus(payload []byte) error {
	var st spb.Status
	err := checkDecoded(&st, payload)
	if err == nil {
		err = proto.Unmarshal(payload, &st)
	}
	if err == nil && st.GetCode() == int32(codes.OK) {
		err = errors.New("it is none")
	}
	if err != nil {
		return status.Errorf(codes.Internal, "read an error of the plugin: %v", err)
	}
	return status.FromProto(&st).Err()
}

// end fails the calls under way. Later ones go by gRPC.
func (l *laneClient) end(cause error) {
	l.conn.Close()
	code := codes.Unavailable
	if wrong := (*laneFrameError)(nil); errors.As(cause, &wrong) {
		code = codes.Unknown
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = status.Errorf(code, "the lane to the plugin ended: %v", cause)
	for _, c := range l.waiting {
		c.finish(l.err)
	}
	clear(l.waiting)
	clear(l.givenUp)
}
