package engine

import (
	"fmt"
	"testing"

	"github.com/chat-recall/recall/shared"
)

func BenchmarkCheck(b *testing.B) {
	r := newActive(b, "")
	r.index(r.message("m"))
	req := request("check", "m")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Check(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStatus(b *testing.B) {
	r := newActive(b, "")
	r.index(r.message("m"))
	ids := []string{"m"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Status(b.Context(), "acme", ids); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIndex is of batches of 500 new messages.
func BenchmarkIndex(b *testing.B) {
	r := newActive(b, "")
	batch := make([]shared.Message, 500)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		for i := range batch {
			batch[i] = r.message(fmt.Sprintf("%d-%d", n, i))
		}
		if _, err := r.Index(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
}
