package rules

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/rules/internal/policy"
	"github.com/chat-recall/recall/rules/internal/twin"
)

const officeHours = `
	policy { timezone = "Europe/Berlin" }
	forbid "closed" {
		when = contains(["saturday", "sunday"], request.weekday) || request.time < "09:00" || "18:00" <= request.time
		code = "closed"
	}
	permit "own" {
		sender = true
		window = "7d"
	}`

// at is a request at a time, for a message that is so old then.
func at(t *testing.T, when string, age time.Duration) *Input {
	t.Helper()
	requested, err := time.Parse(time.RFC3339, when)
	if err != nil {
		t.Fatal(err)
	}
	in := twin.Request(age, nil)
	in.SentAt, in.RequestedAt = requested.Add(-age), requested
	return in
}

func TestDecide_Clock(t *testing.T) {
	p := mustParse(t, officeHours)
	for _, c := range []struct {
		when, code, until string
	}{
		{"2026-11-27T07:59:59Z", "closed", ""}, // a Friday; Berlin is an hour ahead
		{"2026-11-27T08:00:00Z", "", "2026-11-27T17:00:00Z"},
		{"2026-11-27T16:59:59Z", "", "2026-11-27T17:00:00Z"},
		{"2026-11-27T17:00:00Z", "closed", ""},
		{"2026-11-28T10:00:00Z", "closed", ""},
		{"2026-11-29T23:30:00Z", "closed", ""}, // Monday in Berlin, before nine
		{"2026-11-30T08:00:00Z", "", "2026-11-30T17:00:00Z"},
		{"2026-07-03T07:00:00Z", "", "2026-07-03T16:00:00Z"}, // in summer it is two hours ahead
	} {
		d := p.Decide(at(t, c.when, time.Minute))
		until := ""
		if !d.Until.IsZero() {
			until = d.Until.Add(1).UTC().Format(time.RFC3339)
		}
		if d.Code != c.code || until != c.until {
			t.Errorf("%s: %q until before %s, want %q until before %s", c.when, d.Code, until, c.code, c.until)
		}
	}
}

// What is too late by its age is so whatever the clock says; what only the clock refuses is not.
func TestDecide_ClockAndWindow(t *testing.T) {
	p := mustParse(t, `
		permit "own" {
			sender = true
			window = "1h"
			when   = request.time >= "09:00"
		}`)
	for _, c := range []struct {
		when string
		age  time.Duration
		code string
	}{
		{"2026-11-27T09:30:00Z", time.Hour, ""}, {"2026-11-27T09:30:00Z", time.Hour + 1, CodeWindowExpired},
		{"2026-11-27T08:30:00Z", time.Minute, CodeForbidden}, {"2026-11-27T00:30:00Z", 2 * time.Hour, CodeForbidden},
	} {
		if d := p.Decide(at(t, c.when, c.age)); d.Code != c.code {
			t.Errorf("%s, %s old: %q, want %q", c.when, c.age, d.Code, c.code)
		}
	}
}

// Until is the last moment at which asking again minute by minute is permitted, also where clocks are changed.
func TestDecide_ClockUntil(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	conditions := []string{
		`request.time < "02:30"`, `request.time == "02:30"`, `request.time != "23:59"`, `request.time > "12:00"`,
		`request.weekday == "sunday"`, `request.weekday != "monday"`, `message.age > "1d"`,
		`contains(["friday", "monday"], request.weekday)`, `request.time <= "00:00"`,
	}
	starts := []string{"2026-03-28T20:00:00Z", "2026-10-24T20:00:00Z", "2026-11-27T10:00:00Z"}
	permitted, endless := 0, 0
	for range 150 {
		pick := func(list []string) string { return list[r.IntN(len(list))] }
		text := `policy { timezone = "Europe/Berlin" }
			forbid "f" {
				when = ` + pick(conditions) + " && " + pick(conditions) + `
			}
			permit "a" {
				sender = true
				window = "` + pick([]string{"3h", "30h", "7d"}) + `"
				when = ` + pick(conditions) + " || " + pick(conditions) + `
			}
			permit "b" {
				role   = ["member"]
				window = "2h"
				when   = ` + pick(conditions) + `
			}
			permit "c" {
				role   = ["admin"]
				window = "any"
				when   = ` + pick(conditions) + " || " + pick(conditions) + `
			}`
		p := mustParse(t, text)
		in := at(t, pick(starts), time.Duration(r.IntN(120))*time.Minute)
		in.ActorRole = pick([]string{"member", "admin"})
		d := p.Decide(in)
		if !d.Permit {
			continue
		}
		permitted++
		want := time.Time{}
		later := *in
		for range 9 * policy.DayMinutes {
			later.RequestedAt = later.RequestedAt.Truncate(time.Minute).Add(time.Minute)
			if !p.Decide(&later).Permit {
				want = later.RequestedAt
				break
			}
			if later.RequestedAt = later.RequestedAt.Add(1); !p.Decide(&later).Permit {
				want = later.RequestedAt
				break
			}
		}
		if want.IsZero() {
			endless++
			if !d.Until.IsZero() && d.Until.Before(later.RequestedAt) {
				t.Errorf("until %s, but it is permitted then\n%s", d.Until, text)
			}
			continue
		}
		if !d.Until.Add(1).Equal(want) {
			t.Errorf("from %s until before %s, want %s\n%s", in.RequestedAt, d.Until.Add(1), want.UTC(), text)
		}
	}
	if permitted < 50 || endless < 1 {
		t.Errorf("%d permitted, %d of them without an end: too few to mean something", permitted, endless)
	}
}

// What permits now may end before the message seems to be sent, if the clock of the request is behind.
func TestDecide_ClockBehind(t *testing.T) {
	p, l := mustParse(t, `
		limit "one" {
			key  = actor.id
			rate = "1/1s"
		}
		permit "own" {
			sender = true
			when   = request.time < "09:00"
			limit  = "one"
		}`), NewLimiter()
	in := at(t, "2026-11-27T08:59:57Z", -4*time.Second)
	if d, _ := l.Reserve(p, in); !d.Permit || !d.Until.Add(1).Equal(in.RequestedAt.Add(3*time.Second)) {
		t.Errorf("permitted until %s, want until 09:00: %+v", d.Until, d)
	}
	if d, _ := l.Reserve(p, in); d.Permit || !d.RetryAt.Equal(in.RequestedAt.Add(time.Second)) {
		t.Errorf("try again at %s, want a second later: %+v", d.RetryAt, d)
	}
}

// A permission without an end is one that no later day ends: not one after the clocks are changed past the time of a
// forbid, nor one after the window of another permit.
func TestDecide_ClockUntilLater(t *testing.T) {
	for name, c := range map[string]struct{ rules, when, until string }{
		"a forbid at a time that does not exist next Sunday": {`
			forbid "maintenance" { when = request.weekday == "sunday" && request.time >= "02:00" && request.time < "03:00" }
			permit "admins" {
				role   = ["admin"]
				window = "any"
			}`, "2026-03-23T09:00:00Z", "2026-04-05T00:00:00Z"},
		"a permit with a window, then one without": {`
			permit "own" {
				sender = true
				window = "7d"
			}
			permit "admins" {
				role   = ["admin"]
				window = "any"
				when   = request.weekday != "sunday"
			}`, "2026-11-25T09:00:00Z", "2026-12-05T23:00:00Z"},
		"a permit without an end": {`
			permit "own" {
				sender = true
				window = "7d"
				when   = request.weekday == "sunday"
			}
			permit "admins" {
				role   = ["admin"]
				window = "any"
			}`, "2026-11-29T09:00:00Z", ""},
	} {
		p := mustParse(t, `policy { timezone = "Europe/Berlin" }`+c.rules)
		in := at(t, c.when, 0)
		in.ActorRole = "admin"
		d, until := p.Decide(in), ""
		if !d.Until.IsZero() {
			until = d.Until.Add(1).UTC().Format(time.RFC3339)
		}
		if !d.Permit || until != c.until {
			t.Errorf("%s: until before %s, want %s: %+v", name, until, c.until, d)
		}
	}
}

func TestExplain_Clock(t *testing.T) {
	e := mustParse(t, officeHours).Explain(at(t, "2026-11-29T23:30:00Z", time.Minute))
	for _, want := range []string{`request.time is "00:30"`, `request.weekday     "monday"`, "refused: closed"} {
		if !strings.Contains(e.String(), want) {
			t.Errorf("no %s in\n%s", want, e)
		}
	}
}

func TestAnalyze_Clock(t *testing.T) {
	a := mustParse(t, officeHours+`
		forbid "never" { when = request.time < "08:00" && request.time > "09:00" }
		forbid "twice" { when = request.weekday == "sunday" && request.time > "10:00" }`).Analyze()
	if !a.Proven || len(a.Findings) != 2 || !strings.Contains(a.Findings.String(), `"never" (line 11) matches nothing`) ||
		!strings.Contains(a.Findings.String(), `"twice" (line 12) never decides`) {
		t.Errorf("%+v", a)
	}
}

func TestCompare_Clock(t *testing.T) {
	was := mustParse(t, officeHours)
	c := Compare(was, mustParse(t, strings.Replace(officeHours, "18:00", "17:00", 1)))
	if !c.Proven || len(c.Differences) != 1 ||
		!strings.Contains(c.Differences[0].Where, "request.time is before 09:00, or from 17:00") ||
		!strings.Contains(c.Differences[0].Where, "request.weekday is not saturday or sunday") {
		t.Errorf("%+v", c)
	}
	if c := Compare(was, mustParse(t, strings.Replace(officeHours, "Europe/Berlin", "Asia/Shanghai", 1))); c.Proven {
		t.Errorf("times of two zones are compared: %+v", c)
	}
	fixed := mustParse(t, officeHours+"\nforbid \"then\" { when = message.sent_at < \"2026-01-01T00:00:00Z\" }")
	if a := fixed.Analyze(); a.Proven {
		t.Error("a time of sending and the clock are taken for independent")
	}
}

func TestParse_Clock(t *testing.T) {
	for condition, want := range map[string]string{
		`request.time < "9:00"`:            `"9:00" is not a time of day`,
		`request.time < "24:00"`:           "is not a time of day",
		`request.time < 9`:                 "Write a time of day between quotes",
		`request.time == ["09:00"]`:        "Write a time of day between quotes",
		`startswith(request.time, "09")`:   "is a time of day",
		`request.weekday == "someday"`:     `unknown weekday "someday"`,
		`request.weekday < "friday"`:       "cannot be compared with <",
		`contains(["9:00"], request.time)`: "is a time of day",
	} {
		_, diags := Parse("rules.hcl", []byte("permit \"p\" { when = "+condition+" }"))
		if !strings.Contains(diags.String(), want) {
			t.Errorf("%s\n%s\nwant %s", condition, diags, want)
		}
	}
	for zone, want := range map[string]string{
		"Mars/Olympus": "is not a time zone", "Local": "is not a time zone", "": "is not a time zone",
		"localtime": "is not a time zone", "posixrules": "is not a time zone", "right/UTC": "is not a time zone",
		"Asia/Shanghai": "the time zone is not used",
	} {
		text := "policy { timezone = \"" + zone + "\" }\npermit \"p\" { sender = true }"
		if _, diags := Parse("rules.hcl", []byte(text)); !strings.Contains(diags.String(), want) {
			t.Errorf("%s\n%s\nwant %s", text, diags, want)
		}
	}
	limit := "limit \"l\" {\n key = request.weekday\n rate = \"1/1s\"\n}\npermit \"p\" { limit = \"l\" }"
	if _, diags := Parse("rules.hcl", []byte(limit)); !strings.Contains(diags.String(), "cannot be a key") {
		t.Errorf("%s\n%s", limit, diags)
	}
}
