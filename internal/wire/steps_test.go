package wire

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

func TestStepOrder(t *testing.T) {
	for name, c := range map[string]struct {
		steps []StepPlan
		want  map[string][]string
	}{
		"no order": {[]StepPlan{{Name: "a"}, {Name: "b"}}, nil},
		"a chain": {
			[]StepPlan{{Name: "c", After: []string{"b"}}, {Name: "b", After: []string{"a"}}, {Name: "a"}},
			map[string][]string{"b": {"a"}, "c": {"a", "b"}},
		},
		"two ways to one": {
			[]StepPlan{{Name: "a"}, {Name: "b", After: []string{"a"}}, {Name: "c", After: []string{"a"}},
				{Name: "d", After: []string{"c", "b"}}},
			map[string][]string{"b": {"a"}, "c": {"a"}, "d": {"a", "b", "c"}},
		},
		"a circle": {
			[]StepPlan{{Name: "a", After: []string{"b"}}, {Name: "b", After: []string{"a"}}},
			map[string][]string{"a": {"a", "b"}, "b": {"a", "b"}},
		},
	} {
		if got := StepOrder(c.steps); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestValidateSteps_TheMostIsASmallRequest(t *testing.T) {
	var steps []StepPlan
	for i := range shared.MaxSteps { // each after all before it
		s := StepPlan{Name: fmt.Sprintf("%02d", i) + strings.Repeat("x", shared.MaxStepBytes-2)}
		for _, before := range steps {
			s.After = append(s.After, before.Name)
		}
		steps = append(steps, s)
	}
	if err := ValidateSteps(steps); err != nil {
		t.Error(err)
	}
	n := proto.Size(&recallv1.ActivateRequest{Steps: mapSlice(steps, encodeStepPlan)})
	if n > maxSmallBytes {
		t.Errorf("%d bytes; at most %d", n, maxSmallBytes)
	}
}
