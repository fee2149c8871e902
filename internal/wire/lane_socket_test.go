package wire

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"syscall"
	"testing"
)

func TestLaneReader_Complete(t *testing.T) {
	frame := frameOf(t, laneFrame{kind: laneCancel, id: 1}, nil)
	for name, tc := range map[string]struct {
		data []byte
		want int
	}{
		"nothing":           {nil, 0},
		"part of a frame":   {frame[:9], 0},
		"one frame":         {frame, 1},
		"two and a part":    {slices.Concat(frame, frame, frame[:4]), 2},
		"one and no frames": {slices.Concat(frame, make([]byte, 2*laneHead)), 1},
	} {
		data := append([]byte("consumed"), tc.data...)
		r := laneReader{limit: maxLaneCall, buf: append(data, frame...), first: len("consumed"), next: len(data)}
		if got := r.complete(); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

func TestLaneReader_Fill(t *testing.T) {
	for name, tc := range map[string]struct{ size, waiting, want int }{
		"the first time":                   {0, 0, laneReadBytes},
		"nothing waits":                    {maxLaneKept, 0, maxLaneKept},
		"nothing waits in a large buffer":  {maxLaneKept + 1, 0, laneReadBytes},
		"a large buffer in use":            {maxLaneKept + 1, 1, maxLaneKept + 1},
		"half of it waits":                 {laneReadBytes, laneReadBytes / 2, laneReadBytes},
		"more than half of it waits":       {laneReadBytes, laneReadBytes/2 + 1, 2 * laneReadBytes},
		"all of it waits":                  {laneReadBytes, laneReadBytes, 2 * laneReadBytes},
		"more than half of a small buffer": {100, 51, laneReadBytes},
	} {
		t.Run(name, func(t *testing.T) {
			host, plugin := laneEnds(t)
			write(t, host, []byte("new"))
			r := laneReader{conn: plugin, buf: make([]byte, tc.size), first: tc.size - tc.waiting, next: tc.size}
			waiting := bytes.Repeat([]byte("w"), tc.waiting)
			copy(r.buf[r.first:], waiting)
			if err := r.fill(); err != nil || len(r.buf) != tc.want {
				t.Errorf("a buffer of %d bytes, %v; want %d", len(r.buf), err, tc.want)
			}
			if got := r.buf[r.first:r.next]; !bytes.Equal(got, append(waiting, "new"...)) {
				t.Errorf("%d bytes wait, %d expected; they end with %q", len(got), tc.waiting+3, got[max(len(got)-3, 0):])
			}
		})
	}
}

func TestLaneWriter_Attempt(t *testing.T) {
	ends := func(t *testing.T) (*laneWriter, io.Closer) {
		host, plugin := laneEnds(t)
		w, err := newLaneWriter(plugin, func(laneWeight) {}, func() {})
		if err != nil {
			t.Fatal(err)
		}
		return w, host
	}
	t.Run("socket without room", func(t *testing.T) {
		w, _ := ends(t)
		data := make([]byte, 16<<20)
		rest, err := w.attempt(data)
		if err != nil || len(rest) == 0 || len(rest) == len(data) {
			t.Fatalf("%d bytes are left of %d, %v", len(rest), len(data), err)
		}
		if again, err := w.attempt(rest); err != nil || len(again) != len(rest) {
			t.Errorf("%d bytes are left of %d, %v", len(again), len(rest), err)
		}
	})
	t.Run("closed by the other side", func(t *testing.T) {
		w, host := ends(t)
		host.Close()
		if rest, err := w.attempt([]byte("frame")); !errors.Is(err, syscall.EPIPE) || string(rest) != "frame" {
			t.Errorf("left %q, %v", rest, err)
		}
	})
	t.Run("closed by this side", func(t *testing.T) {
		w, _ := ends(t)
		w.conn.Close()
		if rest, err := w.attempt([]byte("frame")); err == nil || string(rest) != "frame" {
			t.Errorf("left %q, %v", rest, err)
		}
	})
	t.Run("leaves nothing to a goroutine", func(t *testing.T) {
		w, _ := ends(t)
		w.add([]byte("frame"), laneWeight{}, true)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.writing || len(w.due) > 0 {
			t.Errorf("writing: %v, due: %q", w.writing, w.due)
		}
	})
}

func TestLaneWriter_KeepsSmallBuffers(t *testing.T) {
	for size, kept := range map[int]int{1: 1, maxLaneKept: maxLaneKept, maxLaneKept + 1: 0} {
		host, plugin := laneEnds(t)
		go func() { _, _ = io.Copy(io.Discard, host) }() // ends with the lane
		written := laneWeight{}
		w, err := newLaneWriter(plugin, func(v laneWeight) { written = written.plus(v) }, func() { t.Error("failed") })
		if err != nil {
			t.Fatal(err)
		}
		w.writing, w.due, w.weight = true, make([]byte, size), laneWeight{1, 2}
		w.writeDue()
		if w.writing || cap(w.spare) != kept || written != (laneWeight{1, 2}) {
			t.Errorf("%d bytes: a buffer of %d is kept, want %d; written %v", size, cap(w.spare), kept, written)
		}
	}
}
