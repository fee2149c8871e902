package policy

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Day is the unit d of durations: always 24 hours, regardless of the calendar.
const Day = 24 * time.Hour

// MaxDuration is a century. A longer duration is a typing error, and sums of durations could overflow.
const MaxDuration = 36525 * Day

// ParseDuration parses a duration of the rule language: the syntax of [time.ParseDuration] ("90s", "1h30m", "250ms"),
// with a leading number of days ("7d", "1d12h"). It refuses signs and durations longer than [MaxDuration].
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

// FormatDuration returns the shortest text that [ParseDuration] parses to d: "2m", "1h30m", "7d".
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
