package wire

import (
	"fmt"
	"slices"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// StepPlan is a step that the host carries out.
type StepPlan struct {
	Name  string
	After []string // the steps of the host that are settled first, of the same recall

	EachNode bool // in a cluster, every node carries it out for its own clients
}

// ValidateSteps checks the steps of a host.
func ValidateSteps(steps []StepPlan) error {
	if len(steps) > shared.MaxSteps {
		return shared.Invalidf("steps", "%d steps; at most %d", len(steps), shared.MaxSteps)
	}
	for i, step := range steps {
		field := fmt.Sprintf("steps[%d]", i)
		if err := shared.ValidateStep(field, step.Name); err != nil {
			return err
		}
		if first := slices.IndexFunc(steps, func(s StepPlan) bool { return s.Name == step.Name }); first < i {
			return shared.Invalidf(field, "is the same as steps[%d]", first)
		}
	}
	return CheckAfter(steps, func(i, k int) string { return fmt.Sprintf("steps[%d].after[%d]", i, k) })
}

// CheckAfter refuses an After that names no other step of the host, one twice, or steps that would wait for each other
// for ever. Notify comes first, so it waits for none. field names entry k of the After of step i.
func CheckAfter(steps []StepPlan, field func(i, k int) string) error {
	for i, step := range steps {
		for k, name := range step.After {
			switch {
			case name == step.Name:
				return shared.Invalidf(field(i, k), "%s waits for itself", name)
			case step.Name == shared.StepNotify:
				return shared.Invalidf(field(i, k), "is %.80q; %s comes first and waits for no step", name, step.Name)
			case !slices.ContainsFunc(steps, func(s StepPlan) bool { return s.Name == name }):
				return shared.Invalidf(field(i, k), "%.80q is no step of this host", name)
			case slices.Index(step.After, name) < k:
				return shared.Invalidf(field(i, k), "%s is there twice", name)
			}
		}
	}
	order := StepOrder(steps)
	for i, step := range steps {
		for k, name := range step.After {
			if slices.Contains(order[name], step.Name) {
				return shared.Invalidf(field(i, k), "%s waits for %s: steps must not wait in a circle", name, step.Name)
			}
		}
	}
	return nil
}

// StepOrder lists, for each step that waits, the steps that it waits for, directly or over others, sorted. It is nil
// where none does.
func StepOrder(steps []StepPlan) (order map[string][]string) {
	direct := make(map[string][]string, len(steps))
	for _, s := range steps {
		direct[s.Name] = s.After
	}
	for _, s := range steps {
		before := slices.Clone(s.After)
		for i := 0; i < len(before); i++ { // it grows
			for _, name := range direct[before[i]] {
				if !slices.Contains(before, name) {
					before = append(before, name)
				}
			}
		}
		if len(before) == 0 {
			continue
		}
		if order == nil {
			order = map[string][]string{}
		}
		slices.Sort(before)
		order[s.Name] = before
	}
	return order
}

func encodeStepPlan(s StepPlan) *recallv1.HostStep {
	return &recallv1.HostStep{Name: s.Name, After: s.After, EachNode: s.EachNode}
}

func decodeStepPlan(s *recallv1.HostStep) StepPlan {
	return StepPlan{Name: s.GetName(), After: s.GetAfter(), EachNode: s.GetEachNode()}
}
