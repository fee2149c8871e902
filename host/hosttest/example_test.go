package hosttest_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
)

// exampleT stands for the *testing.T of a test.
type exampleT struct {
	testing.TB
	cleanups []func()
}

func (t *exampleT) Helper()           {}
func (t *exampleT) Cleanup(f func())  { t.cleanups = append(t.cleanups, f) }
func (t *exampleT) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func (t *exampleT) TempDir() string {
	dir, err := os.MkdirTemp("", "recall")
	if err != nil {
		panic(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (t *exampleT) end() {
	for len(t.cleanups) > 0 {
		last := len(t.cleanups) - 1
		t.cleanups[last]()
		t.cleanups = t.cleanups[:last]
	}
}

// Calls are held while a killed plugin is started again.
func ExampleKill() {
	t := new(exampleT) // in a test: its *testing.T
	defer t.end()

	h := hosttest.Open(t, host.Config{})
	hosttest.Kill(t, h)
	states, err := h.Status(context.Background(), "acme", []string{"m1"})
	if err != nil {
		panic(err)
	}
	fmt.Println(states[0].State)
	// Output: unknown
}
