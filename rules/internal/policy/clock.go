package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Weekdays are the days of a week, from Monday.
var Weekdays = &Vocabulary{"weekday",
	[]string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}}

// Fields whose values come from the clock at the time of the request, in the time zone of the policy.
var (
	WeekdayField = FieldNamed("request.weekday")
	ClockField   = FieldNamed("request.time")
)

// OfClock reports whether the value of a field comes from the clock.
func (f *Field) OfClock() bool { return f == WeekdayField || f == ClockField }

// DayMinutes is the number of minutes in a day.
const DayMinutes = 24 * 60

// weekdayOf returns the word for the day of a local time.
func weekdayOf(local time.Time) string { return strings.ToLower(local.Weekday().String()) }

// minuteOf returns how many minutes of its day a local time has behind it.
func minuteOf(local time.Time) int { return local.Hour()*60 + local.Minute() }

// ParseMinute parses a time of day such as 09:30.
func ParseMinute(text string) (int, error) {
	at, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, fmt.Errorf("%q is not a time of day; write it like \"09:30\"", text)
	}
	return minuteOf(at), nil
}

// FormatMinute is the reverse of [ParseMinute].
func FormatMinute(minute int) string { return fmt.Sprintf("%02d:%02d", minute/60, minute%60) }

func compileMinute(op Operator, zone *time.Location, want int) test {
	compare := map[Operator]func(minute int) bool{
		OpEqual:    func(minute int) bool { return minute == want },
		OpNotEqual: func(minute int) bool { return minute != want },
		OpLess:     func(minute int) bool { return minute < want },
		OpAtMost:   func(minute int) bool { return minute <= want },
		OpMore:     func(minute int) bool { return minute > want },
		OpAtLeast:  func(minute int) bool { return minute >= want },
	}[op]
	return func(in *Input, _ time.Duration) bool { return compare(minuteOf(in.RequestedAt.In(zone))) }
}

// ClockMinutes returns the minutes of a day at which the result of c can change, in ascending order: midnight, each
// literal, and the next minute. It returns none if c asks no field of the clock.
func (c *Condition) ClockMinutes() []int {
	var out []int
	c.Questions(func(q *Question) {
		switch q.Field {
		case WeekdayField:
			out = append(out, 0)
		case ClockField:
			out = append(out, 0, q.Minute, (q.Minute+1)%DayMinutes)
		}
	})
	slices.Sort(out)
	return slices.Compact(out)
}

// nextMinute returns the first moment after t at which one of these minutes begins, or at which the zone's clocks are
// changed.
func nextMinute(t time.Time, zone *time.Location, minutes []int) time.Time {
	local := t.In(zone)
	since := time.Duration(local.Second())*time.Second + time.Duration(local.Nanosecond())
	now := minuteOf(local)
	next := t.Add(time.Duration(DayMinutes-now+minutes[0])*time.Minute - since) // tomorrow
	for _, minute := range minutes {
		if minute > now {
			next = t.Add(time.Duration(minute-now)*time.Minute - since)
			break
		}
	}
	if _, change := local.ZoneBounds(); !change.IsZero() && change.Before(next) {
		return change
	}
	return next
}
