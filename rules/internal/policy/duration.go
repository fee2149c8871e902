package policy

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Day is what "d" stands for in a duration: 24 hours, whatever the calendar does.
const Day = 24 * time.Hour

// MaxDuration is a century: beyond it somebody mistyped, and sums of durations would overflow.
const MaxDuration = 36525 * Day

// ParseDuration reads a duration as rule files write it: Go's syntax ("90s", "1h30m", "250ms") with d for days of
// 24 hours in front ("7d", "1d12h"). It refuses a sign, for no duration in a policy is negative, and more than 36525 days.
func ParseDuration(s string) (time.Duration, error) {
	rest, total := s, time.Duration(0)
	if days, tail, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		switch {
		case err != nil:
			return 0, durationError(s)
		case n > uint64(MaxDuration/Day):
			return 0, tooLong(s)
		}
		total, rest = time.Duration(n)*Day, cmp.Or(tail, "0s")
	}
	if rest == "" || rest[0] == '-' || rest[0] == '+' {
		return 0, durationError(s)
	}
	d, err := time.ParseDuration(rest)
	switch {
	case err != nil:
		return 0, durationError(s)
	case d > MaxDuration || total+d > MaxDuration:
		return 0, tooLong(s)
	}
	return total + d, nil
}

func durationError(s string) error {
	return fmt.Errorf(`%q is not a duration: write a number with its unit, like "90s", "2m", "1h30m" or "7d"`, s)
}

func tooLong(s string) error {
	return fmt.Errorf("%q is longer than %s, the longest duration there is", s, FormatDuration(MaxDuration))
}

// FormatDuration writes d the shortest way that ParseDuration reads back: "2m", "1h30m", "7d".
func FormatDuration(d time.Duration) string {
	var days string
	if d >= Day {
		days = strconv.FormatInt(int64(d/Day), 10) + "d"
		if d %= Day; d == 0 {
			return days
		}
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return days + s
}
