package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWire(t *testing.T) {
	for _, file := range []string{"", filepath.Join(t.TempDir(), "log")} {
		name := "bare socket"
		if file != "" {
			name = "with a disk"
		}
		t.Run(name, func(t *testing.T) {
			w := &pingPong{file: file, bytes: 170}
			if err := w.start(t.Context()); err != nil {
				t.Fatal(err)
			}
			s, err := w.load().run(t.Context(), 20*time.Millisecond)
			if err != nil || s.P50 <= 0 || s.P99 < s.P50 || s.CPU <= 0 {
				t.Errorf("%+v, %v", s, err)
			}
			for range 3 {
				if _, err := w.ping(); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.close(); err != nil {
				t.Error(err)
			}
			if file == "" {
				return
			}
			// Its size is allocated from the start; what the pings wrote is not zero any more.
			data, err := os.ReadFile(file)
			if err != nil || len(data) != zeroedBytes {
				t.Fatalf("%d bytes, %v", len(data), err)
			}
			if n := len(bytes.TrimRight(data, "\x00")); n < 4*w.bytes || n%w.bytes != 0 {
				t.Errorf("%d bytes are written, %d each", n, w.bytes)
			}
		})
	}
}

func TestZeroedLog_BeginsAnewAtItsEnd(t *testing.T) {
	l, err := newZeroedLog(filepath.Join(t.TempDir(), "log"), 100)
	if err != nil {
		t.Fatal(err)
	}
	defer l.file.Close()
	l.at = zeroedBytes - 50
	if err := l.append(); err != nil || l.at != 100 {
		t.Errorf("at %d, %v", l.at, err)
	}
}
