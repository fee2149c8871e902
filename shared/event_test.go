package shared

import (
	"errors"
	"strings"
	"testing"
)

func TestEvent_Key(t *testing.T) {
	long := strings.Repeat("x", MaxIDBytes)
	for _, ids := range [][3]string{{"acme", "r1", "m/1"}, {"a b", "撤回", "\xf0\x9f\x98\x80"}, {long, long, long}} {
		e := Event{Tenant: ids[0], RecallID: ids[1], Message: Message{ID: ids[2]}}
		tenant, recallID, messageID, err := ParseEventKey(e.Key())
		if err != nil || tenant != ids[0] || recallID != ids[1] || messageID != ids[2] {
			t.Errorf("%.20q came back as %.20q %.20q %.20q, %v", ids, tenant, recallID, messageID, err)
		}
		if len(e.Key()) > 1027 || strings.Trim(e.Key(), urlSafe) != "" {
			t.Errorf("the key %.40s of %d bytes", e.Key(), len(e.Key()))
		}
	}
	for _, key := range []string{"", "?", "YWNtZQ", Event{Tenant: "a\x00b"}.Key(), Event{}.Key() + "="} {
		var wrong *FieldError
		if _, _, _, err := ParseEventKey(key); !errors.As(err, &wrong) || wrong.Field != "key" {
			t.Errorf("%q: got %v", key, err)
		}
	}
}

const urlSafe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

func TestWords(t *testing.T) {
	for _, code := range []Code{
		CodeForbidden, CodeWindowExpired, CodeTypeNotRecallable, CodeReasonRequired, CodeRateLimited, CodeRecallIDUsed,
	} {
		texts := Words(StatusDenied, code)
		if texts["en"] == "" || texts["zh-Hans"] == "" {
			t.Errorf("%s: %v", code, texts)
		}
		if code != CodeForbidden && texts["en"] == Words(StatusDenied, CodeForbidden)["en"] {
			t.Errorf("%s has no words of its own", code)
		}
	}
	if got := Words(StatusDenied, "of_a_rule")["en"]; got != Words(StatusDenied, CodeForbidden)["en"] {
		t.Errorf("a code of a rule: %q", got)
	}
	for _, status := range []RecallStatus{StatusNotFound, StatusAborted} {
		if Words(status, "")["zh-Hans"] == "" {
			t.Errorf("%s has no words", status)
		}
	}
	for _, status := range []RecallStatus{StatusRecalled, StatusAlreadyRecalled} {
		if texts := Words(status, ""); texts != nil {
			t.Errorf("%s is no refusal: %v", status, texts)
		}
	}
}

func TestOutcome_Settles(t *testing.T) {
	for outcome, want := range map[Outcome]bool{
		OutcomeDone: true, OutcomeNothingToDo: true, OutcomeUnsupported: true, OutcomeFailed: false, OutcomeDeferred: false,
		"": false,
	} {
		if got := outcome.Settles(); got != want {
			t.Errorf("%q: %v", outcome, got)
		}
	}
}

func TestValidateStep(t *testing.T) {
	for step, want := range map[string]bool{
		"a": true, "own-step_2": true, strings.Repeat("s", MaxStepBytes): true,
		"": false, "No": false, "a b": false, "é": false, strings.Repeat("s", MaxStepBytes+1): false,
	} {
		var wrong *FieldError
		if err := ValidateStep("steps[1]", step); (err == nil) != want || err != nil &&
			(!errors.As(err, &wrong) || wrong.Field != "steps[1]") {
			t.Errorf("%q: %v", step, err)
		}
	}
}
