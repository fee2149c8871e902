package shared

import (
	"reflect"
	"strings"
	"testing"
)

var testEvent = Event{
	Message: Message{ID: "m/1", Sender: "ann"}, Ext: "{}", Silent: true,
	Placeholder: map[string]string{"zh-Hans": "{actor}撤回"},
}

func TestNotice_MessageNotDelivered(t *testing.T) {
	if n := testEvent.Notice(false); n.Message != nil || n.MessageID != "m/1" || n.Ext != "{}" {
		t.Errorf("got %+v", n)
	}
	if n := testEvent.Notice(true); n.Message == nil || n.Message.Sender != "ann" {
		t.Errorf("got %+v", n)
	}
}

func TestNotice_Placeholder(t *testing.T) {
	n := testEvent.Notice(false)
	if !n.Silent || !reflect.DeepEqual(n.Placeholder, testEvent.Placeholder) || n.Message != nil {
		t.Errorf("got %+v", n)
	}
}

func TestDiagnostics_Err(t *testing.T) {
	warning, fault := Diagnostic{Severity: SeverityWarning, Summary: "odd"},
		Diagnostic{Severity: SeverityError, Summary: "wrong"}
	if err := (Diagnostics{warning}).Err(); err != nil {
		t.Errorf("a warning alone is %v", err)
	}
	if err := (Diagnostics{warning, fault}).Err(); err == nil || strings.Contains(err.Error(), "odd") ||
		!strings.Contains(err.Error(), "wrong") {
		t.Errorf("got %v", err)
	}
}
