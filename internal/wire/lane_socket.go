package wire

import (
	"net"
	"runtime"
	"sync"
	"syscall"
)

const (
	// laneReadBytes is how much is read at once, unless a frame is larger.
	laneReadBytes = 64 << 10

	// maxLaneKept bounds the buffers that a lane keeps for what comes next.
	maxLaneKept = 256 << 10
)

// laneReader reads frames. What it has read of a frame stays when a read is interrupted. One goroutine uses it at a
// time.
type laneReader struct {
	conn        net.Conn
	limit       int // bytes of a frame
	buf         []byte
	first, next int // of buf: what is read and not consumed yet
}

// buffered is how many bytes are read and not consumed.
func (r *laneReader) buffered() int { return r.next - r.first }

// frame returns the next frame, and its size for skip; 0 where it is not read yet. It is valid until fill.
func (r *laneReader) frame() (laneFrame, int, error) {
	return decodeFrame(r.buf[r.first:r.next], r.limit)
}

// complete counts the whole frames that are read and not consumed.
func (r *laneReader) complete() (n int) {
	for at := r.first; ; n++ {
		_, size, err := decodeFrame(r.buf[at:r.next], r.limit)
		if size == 0 || err != nil {
			return n
		}
		at += size
	}
}

// skip consumes the frame of this size.
func (r *laneReader) skip(size int) { r.first += size }

// fill reads once. The buffer grows with what has arrived, and not with the length that a frame announces.
func (r *laneReader) fill() error {
	waiting := r.buf[r.first:r.next]
	switch {
	case len(waiting) == 0 && cap(r.buf) > maxLaneKept:
		r.buf = nil
	case 2*len(waiting) > len(r.buf):
		r.buf = append(make([]byte, 0, 2*len(r.buf)), waiting...)
	default:
		copy(r.buf, waiting)
	}
	if cap(r.buf) < laneReadBytes {
		r.buf = append(make([]byte, 0, laneReadBytes), r.buf...)
	}
	r.buf = r.buf[:cap(r.buf)]
	r.first, r.next = 0, len(waiting)
	n, err := r.conn.Read(r.buf[r.next:])
	r.next += n
	return err
}

// laneWriter writes frames, several at once when several are due. Nobody who adds one ever waits for the other side to
// read: the first attempt does not block, and what does not fit is left to a goroutine. How much waits is bounded by
// those who add: see written.
type laneWriter struct {
	conn    *net.UnixConn
	raw     syscall.RawConn
	written func(laneWeight) // told once of all that was added, when it was written or cannot be any more
	failed  func()           // called when nothing can be written any more

	mu      sync.Mutex
	writing bool // somebody writes, and takes along what is due
	ended   bool // nothing is written any more
	due     []byte
	weight  laneWeight // of due
	spare   []byte     // for the next due

	writers sync.WaitGroup

	// Of attempt, which one goroutine at a time makes: they are here so that it allocates nothing.
	try    func(fd uintptr) bool
	trying []byte
	tryErr error
}

// laneWeight is what a frame holds until it is written: bytes of two bounds.
type laneWeight struct{ lane, working int64 }

func (w laneWeight) plus(v laneWeight) laneWeight {
	return laneWeight{w.lane + v.lane, w.working + v.working}
}

func newLaneWriter(conn *net.UnixConn, written func(laneWeight), failed func()) (*laneWriter, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	w := &laneWriter{conn: conn, raw: raw, written: written, failed: failed}
	w.try = w.tryOnce
	return w, nil
}

// add has a frame written. alone says that no other is to be expected soon, so that it does not wait for company.
func (w *laneWriter) add(frame []byte, weight laneWeight, alone bool) {
	w.mu.Lock()
	if w.ended {
		w.mu.Unlock()
		w.written(weight)
		return
	}
	if w.writing || !alone {
		w.due = append(w.due, frame...)
		w.weight = w.weight.plus(weight)
		if !w.writing {
			w.writing = true
			w.writers.Go(w.writeDue)
		}
		w.mu.Unlock()
		return
	}
	w.writing = true
	w.mu.Unlock()
	rest, err := w.attempt(frame)
	if len(rest) == 0 && err == nil {
		w.written(weight)
		weight = laneWeight{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(rest) > 0 {
		w.due = append(append([]byte(nil), rest...), w.due...)
		w.weight = w.weight.plus(weight)
	}
	if err == nil && len(w.due) == 0 {
		w.writing = false
		return
	}
	w.writers.Go(w.writeDue)
}

// attempt writes what fits now and returns the rest.
func (w *laneWriter) attempt(data []byte) (rest []byte, err error) {
	w.trying = data
	rawErr := w.raw.Write(w.try)
	rest, w.trying = w.trying, nil
	if w.tryErr != nil {
		return rest, w.tryErr
	}
	return rest, rawErr
}

// tryOnce is attempt within raw.Write, which it has wait for nothing.
func (w *laneWriter) tryOnce(fd uintptr) bool {
	n, err := syscall.Write(int(fd), w.trying)
	w.trying = w.trying[max(n, 0):]
	if w.tryErr = err; err == syscall.EAGAIN || err == syscall.EINTR {
		w.tryErr = nil
	}
	return true
}

// writeDue writes until nothing is due.
func (w *laneWriter) writeDue() {
	for {
		runtime.Gosched()
		w.mu.Lock()
		data, weight := w.due, w.weight
		if len(data) == 0 {
			w.writing = false
			w.mu.Unlock()
			return
		}
		w.due, w.weight, w.spare = w.spare[:0], laneWeight{}, nil
		w.mu.Unlock()
		_, err := w.conn.Write(data)
		w.mu.Lock()
		if cap(data) <= maxLaneKept {
			w.spare = data
		}
		if err != nil {
			weight = weight.plus(w.weight)
			w.ended, w.writing, w.due, w.weight = true, false, nil, laneWeight{}
		}
		w.mu.Unlock()
		w.written(weight)
		if err != nil {
			w.failed()
			return
		}
	}
}
