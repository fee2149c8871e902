package shared

import (
	"errors"
	"testing"
)

func TestErrors(t *testing.T) {
	err := Invalidf("targets[3].role", "is %q", "king")
	if err.Error() != `targets[3].role: is "king"` || !errors.Is(err, ErrInvalid) || errors.Is(err, ErrOverloaded) {
		t.Errorf("got %v", err)
	}
	cause := errors.New("no such file")
	upgrade := &UpgradeError{Step: "verify", Cause: cause}
	if upgrade.Error() != "upgrade: verify: no such file" || !errors.Is(upgrade, cause) {
		t.Errorf("got %v", upgrade)
	}
}

func TestDiagnostics(t *testing.T) {
	warning := Diagnostic{Severity: SeverityWarning, Summary: "odd"}
	fault := Diagnostic{Severity: SeverityError, Summary: "wrong", Detail: "mend it", File: "a.hcl", Line: 3, Column: 7}
	whole := Diagnostic{Severity: SeverityError, Summary: "empty", File: "b.hcl"}
	for d, want := range map[Diagnostic]string{
		warning: "warning: odd", fault: "a.hcl:3:7: error: wrong; mend it", whole: "b.hcl: error: empty",
	} {
		if got := d.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if (Diagnostics{warning}).HasErrors() || (Diagnostics)(nil).HasErrors() || !(Diagnostics{warning, fault}).HasErrors() {
		t.Error("HasErrors")
	}
	err := (Diagnostics{whole, warning, fault}).Err()
	var config *ConfigError
	if !errors.As(err, &config) || len(config.Diagnostics) != 2 ||
		err.Error() != "b.hcl: error: empty\na.hcl:3:7: error: wrong; mend it" {
		t.Errorf("got %v", err)
	}
}
