package wire

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	// maxLaneBytes bounds the calls of a lane until their answers are written: their frames, and laneCallBytes for each.
	// Further ones are not read.
	maxLaneBytes  = 64 << 20
	laneCallBytes = 4 << 10 // a goroutine, and a short answer
	lanePairBytes = 128     // a pair of metadata, besides its bytes

	// maxInlineBytes bounds the requests that the reader of the lane carries out itself: others wait behind them.
	maxInlineBytes = 64 << 10
)

// callHandlers are the handlers of the calls of RecallService, as gRPC has them.
var callHandlers = func() map[string]grpc.MethodHandler {
	all := map[string]grpc.MethodHandler{}
	for _, m := range serviceDesc.Methods {
		all[m.MethodName] = m.Handler
	}
	return all
}()

// laneServer is the plugin's end of a lane.
type laneServer struct {
	plugin *recallServer
	conn   *net.UnixConn
	in     laneReader
	out    *laneWriter
	raw    syscall.RawConn     // of conn
	room   *semaphore.Weighted // of maxLaneBytes

	gathering gathering
	workers   *laneWorkers

	ctx      context.Context // ends with the lane
	cancel   context.CancelFunc
	underWay atomic.Int64   // calls
	calls    sync.WaitGroup // likewise

	mu      sync.Mutex
	cancels map[uint64]context.CancelFunc // of the calls under way, by id
}

// serveLane answers the calls that come by conn, each as if it had come by gRPC, until either side ends the lane. The
// error says what was wrong with what the host sent.
func (s *recallServer) serveLane(conn *net.UnixConn) error {
	l, err := newLaneServer(s, conn)
	if err != nil {
		return err
	}
	err = l.read()
	l.end()
	l.calls.Wait()
	l.workers.all.Wait()
	l.out.writers.Wait()
	if wrong := (*laneFrameError)(nil); errors.As(err, &wrong) {
		return wrong
	}
	return nil
}

func newLaneServer(s *recallServer, conn *net.UnixConn) (*laneServer, error) {
	l := &laneServer{
		plugin: s, conn: conn, in: laneReader{conn: conn, limit: maxLaneCall}, room: semaphore.NewWeighted(maxLaneBytes),
		cancels: map[uint64]context.CancelFunc{},
	}
	var err error
	if l.raw, err = conn.SyscallConn(); err != nil {
		return nil, err
	}
	if l.out, err = newLaneWriter(conn, l.written, l.end); err != nil {
		return nil, err
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.workers = newLaneWorkers(l.ctx.Done())
	return l, nil
}

// written gives back what answers held until they were written.
func (l *laneServer) written(w laneWeight) {
	l.room.Release(w.lane)
	l.plugin.admission.working.Release(w.working)
}

// read begins one call after the other.
func (l *laneServer) read() error {
	for gathered := false; ; {
		f, size, err := l.in.frame()
		if err == nil && size == 0 {
			err = l.in.fill()
		}
		if err != nil {
			return err
		}
		if size == 0 {
			continue
		}
		write := f.isWrite()
		if write && !gathered && l.gathering.expected > 1 && l.underWay.Load() == 0 {
			gathered = true
			if err := l.gather(); err != nil {
				return err
			}
			continue // the frame may lie elsewhere by now
		}
		gathered = false
		l.in.skip(size)
		if f.kind == laneCancel {
			l.cancelCall(f.id)
			continue
		}
		if err := l.begin(f, size); err != nil {
			return err
		}
		if write && l.underWay.Load() == 0 && (l.in.buffered() > 0 || l.readable(0)) {
			l.gathering.expect(2) // it was committed here, and another call waited for that
		}
	}
}

// end ends the lane, and the contexts of the calls that are under way.
func (l *laneServer) end() {
	l.cancel()
	l.conn.Close()
}

func (l *laneServer) cancelCall(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cancel := l.cancels[id]; cancel != nil {
		cancel()
	}
}

// begin carries out a call, or leaves it to a goroutine. The frame must not be used after it returns.
func (l *laneServer) begin(f laneFrame, size int) error {
	underWay := l.underWay.Add(1)
	l.gathering.begun(int(underWay))
	alone := underWay == 1 && l.in.buffered() == 0
	c := &servedCall{lane: l, id: f.id, weight: laneWeight{lane: callBytes(size, len(f.metadata))}}
	if err := l.room.Acquire(l.ctx, c.weight.lane); err != nil {
		return err
	}
	l.calls.Add(1)
	if err := c.begin(&f, alone); err != nil {
		c.answer(nil, err)
	}
	return nil
}

// callBytes is what a call with a frame of size bytes takes of maxLaneBytes.
func callBytes(size, metadata int) int64 {
	if metadata == 0 {
		return int64(size) + laneCallBytes
	}
	return int64(size) + laneCallBytes + maxLanePairs*lanePairBytes
}

// servedCall is a call under way in the plugin.
type servedCall struct {
	lane   *laneServer
	id     uint64
	ctx    context.Context
	cancel context.CancelFunc
	weight laneWeight  // until its answer is written
	done   func(error) // of the interceptors; nil before they were called
}

// begin is laneServer.begin. If it returns an error that is the answer.
func (c *servedCall) begin(f *laneFrame, alone bool) error {
	l := c.lane
	if f.timeout > 0 {
		c.ctx, c.cancel = context.WithTimeout(l.ctx, f.timeout)
	} else {
		c.ctx, c.cancel = context.WithCancel(l.ctx)
	}
	l.mu.Lock()
	l.cancels[c.id] = c.cancel
	l.mu.Unlock()
	if len(f.metadata) > 0 {
		md, err := decodeMetadata(f.metadata)
		if err != nil {
			return toStatus(err)
		}
		c.ctx = metadata.NewIncomingContext(c.ctx, md)
	}
	if f.kind != laneCall {
		return status.Errorf(codes.Unimplemented, "there is no kind %d of frames on the lane", f.kind)
	}
	if int(f.method) >= len(laneMethods) || laneMethods[f.method].name == "" {
		return status.Errorf(codes.Unimplemented, "there is no method %d on the lane", f.method)
	}
	method := &laneMethods[f.method]
	if all := l.plugin.admission.interceptors; len(all) > 0 {
		c.ctx, c.done = intercept(all, c.ctx, method.name)
	}
	working, err := l.plugin.admission.weigh(method.name, f.payload)
	if err != nil {
		return err
	}
	inline := method.inline == alwaysInline || method.inline == inlineAlone && alone
	if l.plugin.async != nil && inline && len(f.payload) <= maxInlineBytes &&
		l.plugin.admission.working.TryAcquire(working) {
		c.weight.working = working
		c.carryOut(method, f.payload, alone)
		return nil
	}
	payload := slices.Clone(f.payload)
	l.workers.do(func() {
		if err := l.plugin.admission.working.Acquire(c.ctx, working); err != nil {
			c.answer(nil, status.FromContextError(err).Err())
			return
		}
		c.weight.working = working
		c.carryOut(method, payload, false)
	})
	return nil
}

// carryOut answers the call, perhaps after it returned.
func (c *servedCall) carryOut(method *laneMethod, payload []byte, alone bool) {
	decode := func(into any) error { return decodeRequest(method.name, payload, into) }
	if method.async != nil && c.lane.plugin.async != nil {
		method.async(c.ctx, c.lane.plugin.async, decode, alone, c.answer)
		return
	}
	c.answer(callHandlers[method.name](c.lane.plugin, c.ctx, decode, nil))
}

// answer sends the answer, a proto.Message. It is called once, on any goroutine, and does not block.
func (c *servedCall) answer(response any, err error) {
	l := c.lane
	if c.done != nil {
		c.done(err)
	}
	var frame []byte
	if err == nil {
		frame, err = encodeFrame(laneFrame{kind: laneAnswer, id: c.id}, protoPayload(response.(proto.Message)))
	}
	if err == nil && len(frame) > maxLaneAnswer {
		err = status.Errorf(codes.ResourceExhausted, "an answer of %d bytes is larger than max. %d", len(frame),
			maxLaneAnswer)
	}
	if err != nil {
		frame = encodeError(c.id, err)
	}
	l.mu.Lock()
	delete(l.cancels, c.id)
	l.mu.Unlock()
	c.cancel()
	left := l.underWay.Add(-1)
	l.out.add(frame, c.weight, left == 0)
	l.calls.Done()
}

// encodeError makes the frame of an error.
func encodeError(id uint64, cause error) []byte {
	f, st := laneFrame{kind: laneError, id: id}, status.Convert(cause)
	frame, err := encodeFrame(f, protoPayload(st.Proto()))
	if err != nil { // its text is no UTF-8
		st = status.New(st.Code(), strings.ToValidUTF8(st.Message(), "\uFFFD"))
		frame, _ = encodeFrame(f, protoPayload(st.Proto()))
	}
	return frame
}
