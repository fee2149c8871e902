package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// The limit of many callers: callers here, and a second process that writes the records of their calls to Badger, see
// diskChild. Between them is a bare socket; whoever decides, looks up or answers more than that is slower.

// A disk hands records to the second process.
//
//	frame  = length uint32, then call id uint32, number of records uint32, records
//	record = key length uint32, value length uint32, key, value
//	answer = call id uint32
type disk struct {
	folder string // for the data, made by start
	size   int64  // messages that it is filled with

	written atomic.Int64 // messages
	child   *socketChild
	reader  sync.WaitGroup

	mu      sync.Mutex
	out     []byte // frames that wait to be sent
	sending bool   // somebody sends
	last    uint32
	waiting map[uint32]chan error
	err     error // of the socket: it is over
}

func (d *disk) start(context.Context) (err error) {
	d.waiting, d.err = map[uint32]chan error{}, nil
	d.written.Store(0)
	if d.child, err = startSocketChild("disk-child", "--folder", d.folder); err != nil {
		return err
	}
	d.reader.Go(d.read)
	for at := int64(0); at < d.size && err == nil; at += batch {
		err = d.indexNew(int(min(batch, d.size-at)))
	}
	if err != nil {
		return errors.Join(err, d.close())
	}
	return nil
}

func (d *disk) close() error {
	err := d.child.close()
	d.reader.Wait()
	return errors.Join(err, os.RemoveAll(d.folder))
}

func (d *disk) renew(ctx context.Context) error {
	if d.written.Load() <= mostGrowth*d.size {
		return nil
	}
	return errors.Join(d.close(), d.start(ctx))
}

// index is the load of callers that index messages.
func (d *disk) index(callers, per int) *load {
	return &load{callers: callers, per: per, cpu: func() time.Duration { return d.child.cpu() },
		do: func(context.Context, int, int) (time.Duration, error) {
			return timed(func() error { return d.indexNew(per) })
		}}
}

// indexNew writes what n new messages write.
func (d *disk) indexNew(n int) error {
	d.written.Add(int64(n))
	first := ids.Add(int64(n)) - int64(n) + 1
	records := make([]record, 0, n)
	for i := range int64(n) {
		records = append(records, messageRecord(first+i))
	}
	return d.write(records)
}

// write returns when the records are on disk.
func (d *disk) write(records []record) error {
	done := make(chan error, 1)
	d.mu.Lock()
	if d.err != nil {
		d.mu.Unlock()
		return d.err
	}
	d.last++
	d.waiting[d.last] = done
	d.out = appendFrame(d.out, d.last, records)
	if !d.sending {
		d.sending = true
		d.send()
		d.sending = false
	}
	d.mu.Unlock()
	return <-done
}

// send sends what waits. It is called with mu held.
func (d *disk) send() {
	var buf []byte
	for len(d.out) > 0 && d.err == nil {
		d.mu.Unlock()
		runtime.Gosched() // callers that were woken together send together
		d.mu.Lock()
		buf, d.out = d.out, buf[:0]
		d.mu.Unlock()
		_, err := d.child.socket.Write(buf)
		d.mu.Lock()
		if err != nil {
			d.fail(err)
		}
	}
}

func (d *disk) read() {
	answers := make([]byte, 64<<10)
	have := 0
	for {
		n, err := d.child.socket.Read(answers[have:])
		have += n
		d.mu.Lock()
		for at := 0; at+4 <= have; at += 4 {
			id := binary.BigEndian.Uint32(answers[at:])
			if done := d.waiting[id]; done != nil {
				done <- nil
				delete(d.waiting, id)
			}
		}
		if err != nil {
			d.fail(err)
		}
		d.mu.Unlock()
		if err != nil {
			return
		}
		have = copy(answers, answers[have/4*4:have])
	}
}

// fail ends all calls. It is called with mu held.
func (d *disk) fail(err error) {
	if d.err == nil {
		d.err = fmt.Errorf("the second process has ended: %w", err)
	}
	for id, done := range d.waiting {
		done <- d.err
		delete(d.waiting, id)
	}
}

func appendFrame(b []byte, id uint32, records []record) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, uint32(len(records)))
	for _, r := range records {
		b = binary.BigEndian.AppendUint32(b, uint32(len(r.key)))
		b = binary.BigEndian.AppendUint32(b, uint32(len(r.value)))
		b = append(append(b, r.key...), r.value...)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

var errFrame = errors.New("a frame is cut off")

// parseFrame reads what is in a frame behind its length.
func parseFrame(b []byte) (id uint32, records []record, err error) {
	if len(b) < 8 {
		return 0, nil, errFrame
	}
	id, n := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	b = b[8:]
	for range n {
		if len(b) < 8 {
			return 0, nil, errFrame
		}
		key, value := int(binary.BigEndian.Uint32(b)), int(binary.BigEndian.Uint32(b[4:]))
		if b = b[8:]; len(b) < key+value {
			return 0, nil, errFrame
		}
		records = append(records, record{b[:key:key], b[key : key+value : key+value]})
		b = b[key+value:]
	}
	return id, records, nil
}

// readFrame reads one frame behind its length.
func readFrame(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(length[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}
