package index

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/chat-recall/recall/shared"
)

func TestRecentEvents_Bounded(t *testing.T) {
	x := openNew(t)
	var ops []Op
	for i := range 600 {
		op := recall(fmt.Sprint("r", i), message(fmt.Sprint("m", i)))
		op.Recall.Event.Ext = strings.Repeat("x", 16<<10)
		ops = append(ops, op)
	}
	apply(t, x, ops...)
	n := len(x.recent.bySequence)
	if x.recent.bytes > maxRecentBytes || n != len(x.recent.order) || n < 100 || n > 300 {
		t.Errorf("%d events of %d bytes, %d in order", n, x.recent.bytes, len(x.recent.order))
	}
	if x.recent.get(1) != nil || x.recent.get(600) == nil {
		t.Error("the first recall is kept, or the last is not")
	}
	for _, sequence := range []uint64{1, 600} {
		cached, err := x.Entry(sequence, shared.StepNotify)
		if err != nil {
			t.Fatal(err)
		}
		x.recent = recentEvents{}
		stored, err := x.Entry(sequence, shared.StepNotify)
		if err != nil || !reflect.DeepEqual(cached, stored) {
			t.Errorf("event %d\n%+v\nfrom the files\n%+v %v", sequence, cached, stored, err)
		}
	}
}
