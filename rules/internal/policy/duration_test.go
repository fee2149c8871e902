package policy

import (
	"testing"
	"time"
)

func TestDuration_RoundTrip(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "2m": 2 * time.Minute, "7d": MaxWindow,
		"1d12h": 36 * time.Hour, "1h30m": 90 * time.Minute, "250ms": 250 * time.Millisecond,
	} {
		got, err := ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("%s is read as %v, %v", text, got, err)
		}
		if back, err := ParseDuration(FormatDuration(want)); err != nil || back != want {
			t.Errorf("%v is written as %s", want, FormatDuration(want))
		}
	}
	for _, text := range []string{"", "d", "-1m", "+1m", "2", "2 m", "1h2d", "99999d", "36525d1ns", "1d-1h", "two", "2M",
		"1.5d", "999999999h"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}
