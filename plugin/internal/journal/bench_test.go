package journal

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal/journaltest"
)

var benchCount atomic.Int64

func benchMessage() index.Op {
	n := benchCount.Add(1)
	m := message(fmt.Sprintf("01JD8Z0000000000000%07d", n))
	m.Sender = fmt.Sprint("user-", n%1000)
	m.Conversation.ID = fmt.Sprint("group-", n%100)
	return put(m)
}

func benchAppend(b *testing.B, l *Local, n int) {
	ops := make([]index.Op, n)
	for i := range ops {
		ops[i] = benchMessage()
	}
	if _, err := l.Append(context.Background(), ops); err != nil {
		b.Error(err)
	}
}

// reportRate adds messages a second, which batches of different size have in common.
func reportRate(b *testing.B, perOp int) {
	b.ReportMetric(float64(b.N*perOp)/b.Elapsed().Seconds(), "messages/s")
}

func BenchmarkAppendOne(b *testing.B) {
	l := openNew(b)
	b.ReportAllocs()
	for b.Loop() {
		benchAppend(b, l, 1)
	}
	reportRate(b, 1)
}

func BenchmarkAppend64Callers(b *testing.B) {
	l := openNew(b)
	b.ReportAllocs()
	b.SetParallelism(32) // times 2 cores
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			benchAppend(b, l, 1)
		}
	})
	reportRate(b, 1)
}

func BenchmarkAppendBatchOf500(b *testing.B) {
	l := openNew(b)
	b.ReportAllocs()
	for b.Loop() {
		benchAppend(b, l, 500)
	}
	reportRate(b, 500)
}

func BenchmarkRecallAndSettle(b *testing.B) {
	l := openNew(b)
	b.ReportAllocs()
	for b.Loop() {
		op := benchMessage()
		r := apply(b, l, op, recall("r"+op.Put.ID, *op.Put))
		apply(b, l, settle(r[1].Tombstone.Sequence, "notify", "done")) // the others wait for it
		var ops []index.Op
		for _, s := range []string{"history", "offline", "roaming", "search", "push"} {
			ops = append(ops, settle(r[1].Tombstone.Sequence, s, "done"))
		}
		apply(b, l, ops...)
	}
}

func BenchmarkMessages(b *testing.B) {
	l := openNew(b)
	apply(b, l, put(message("m")))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.index.Messages("acme", []string{"m"}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendAlone(b *testing.B) {
	l := openNew(b)
	b.ReportAllocs()
	for b.Loop() {
		l.AppendThen([]index.Op{benchMessage()}, true, func(_ []index.Result, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	reportRate(b, 1)
}

// BenchmarkFollow is a node that reads what others have written, in large entries.
func BenchmarkFollow(b *testing.B) {
	const per = 800
	s := journaltest.NewStream()
	join := [][]index.Op{{{Join: &index.Join{Member: index.Member{Node: "n1", Instance: "n1", Format: EntryFormat}}}}}
	write := func(number uint64, calls [][]index.Op) {
		e := index.LogEntry{Node: "n1", Process: 1, Number: number, Calls: calls}
		data, err := encodeEntry(&e, EntryFormat)
		if err != nil {
			b.Fatal(err)
		}
		s.Publish(b.Context(), data, func(error) {})
	}
	write(1, join)
	for i := range b.N {
		ops := make([]index.Op, per)
		for k := range ops {
			ops[k] = benchMessage()
		}
		write(uint64(i)+2, [][]index.Op{ops})
	}
	x, err := index.Open(b.Context(), index.Options{Path: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	if err := x.Follow(b.Context(), "log", "n0"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	r := NewReplicated(x, ReplicatedOptions{Node: "n0", Stream: s})
	defer r.Close()
	if err := r.Barrier(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	reportRate(b, per)
}
