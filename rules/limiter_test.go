package rules

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chat-recall/recall/rules/internal/twin"
)

const limited = `
	limit "per_actor" {
		key  = actor.id
		rate = "3/1m"
	}
	permit "own" {
		sender = true
		window = "1h"
		limit  = "per_actor"
	}`

// check returns what Reserve would decide, without reserving.
func check(l *Limiter, p *Policy, in *Input) Decision {
	d, _ := l.Trial().Reserve(p, in)
	return d
}

func TestLimiter_Exhausted(t *testing.T) {
	p, l := mustParse(t, limited), NewLimiter()
	for i := range 3 {
		if d, _ := l.Reserve(p, twin.Request(time.Duration(i)*10*time.Second, nil)); !d.Permit {
			t.Fatalf("recall %d: %+v", i, d)
		}
	}
	if d := p.Decide(twin.Request(59*time.Second, nil)); !d.Permit {
		t.Errorf("Decide applies a limit: %+v", d)
	}
	for range 2 { // looking or being refused reserves nothing
		d, reservation := l.Reserve(p, twin.Request(59*time.Second, nil))
		if d.Code != "rate_limited" || d.Rule.Name != "own" || !d.RetryAt.Equal(twin.Sent.Add(time.Minute)) ||
			reservation != (Reservation{}) {
			t.Errorf("the fourth within a minute: %+v", d)
		}
		if d := check(l, p, twin.Request(59*time.Second, nil)); d.Code != "rate_limited" {
			t.Errorf("looking at the fourth: %+v", d)
		}
	}
	if d := check(l, p, twin.Request(59*time.Second, func(in *Input) {
		in.ActorID, in.Sender = "bob",
			"bob"
	})); !d.Permit {
		t.Errorf("another actor: %+v", d)
	}
	if d := check(l, p, twin.Request(59*time.Second, func(in *Input) { in.Tenant = "other" })); !d.Permit {
		t.Errorf("the same id in another tenant: %+v", d)
	}
	if d, _ := l.Reserve(p, twin.Request(time.Minute, nil)); !d.Permit {
		t.Errorf("when it said to try again: %+v", d)
	}
	if d, _ := l.Reserve(p, twin.Request(time.Minute, nil)); !d.RetryAt.Equal(twin.Sent.Add(70 * time.Second)) {
		t.Errorf("after that: %+v", d)
	}
}

func TestLimiter_Cancel(t *testing.T) {
	p, l := mustParse(t, limited), NewLimiter()
	for range 20 {
		d, reservation := l.Reserve(p, twin.Request(0, nil))
		if !d.Permit {
			t.Fatalf("refused %+v", d)
		}
		l.Cancel(reservation)
		l.Cancel(reservation) // and twice is once
	}
	if l.total != 0 || len(l.used) != 0 {
		t.Errorf("%d recalls of %d keys are remembered", l.total, len(l.used))
	}
}

func TestLimiter_PolicyChange(t *testing.T) {
	l := NewLimiter()
	for range 3 {
		l.Reserve(mustParse(t, limited), twin.Request(0, nil))
	}
	if d := check(l, mustParse(t, limited+"\n# changed"), twin.Request(0, nil)); d.Code != "rate_limited" {
		t.Errorf("a change of the rules lost the counts: %+v", d)
	}
}

func TestLimiter_OtherPermits(t *testing.T) {
	p, l := mustParse(t, limited+`
		permit "first_seconds" {
			sender = true
			window = "10s"
		}`), NewLimiter()
	for range 3 {
		l.Reserve(p, twin.Request(0, nil))
	}
	if d, _ := l.Reserve(p, twin.Request(0, nil)); !d.Permit || d.Rule.Name != "first_seconds" {
		t.Errorf("decided %+v", d)
	}
}

func TestLimiter_DelayedRequests(t *testing.T) {
	p, l := mustParse(t, limited), NewLimiter()
	for _, age := range []time.Duration{50 * time.Second, 10 * time.Second, 30 * time.Second} {
		if d, _ := l.Reserve(p, twin.Request(age, nil)); !d.Permit {
			t.Fatalf("at %v: %+v", age, d)
		}
	}
	if d, _ := l.Reserve(p, twin.Request(69*time.Second, nil)); !d.RetryAt.Equal(twin.Sent.Add(70 * time.Second)) {
		t.Errorf("decided %+v", d)
	}
}

func TestLimiter_RequestsOutOfOrder(t *testing.T) {
	for name, c := range map[string]struct {
		taken []time.Duration
		ask   time.Duration
		retry time.Duration // 0: permitted
	}{
		"long before the others":        {[]time.Duration{1800, 1800, 1800}, 600, 0},
		"just before the others":        {[]time.Duration{1800, 1800, 1800}, 1741, 1860},
		"a period before the others":    {[]time.Duration{1800, 1800, 1800}, 1740, 0},
		"among others":                  {[]time.Duration{1790, 1800, 1849}, 1820, 1850},
		"among others of two periods":   {[]time.Duration{1790, 1800, 1851}, 1820, 0},
		"retried when more are near":    {[]time.Duration{1790, 1800, 1810, 1855, 1865}, 1820, 1870},
		"after one by a clock ahead":    {[]time.Duration{1800, 1800, 1800, 2100}, 1800, 1860},
		"after one that waited":         {[]time.Duration{1800, 1800, 1800, 600}, 1800, 1860},
		"before those of a clock ahead": {[]time.Duration{1800, 2100, 2100, 2100}, 1800, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p, l := mustParse(t, "policy { clock_skew = \"5m\" }"+limited), NewLimiter()
			for _, at := range c.taken {
				if d, _ := l.Reserve(p, twin.Request(at*time.Second, nil)); !d.Permit {
					t.Fatalf("at %vs: %+v", at, d)
				}
			}
			d, _ := l.Reserve(p, twin.Request(c.ask*time.Second, nil))
			if d.Permit != (c.retry == 0) || !d.Permit && !d.RetryAt.Equal(twin.Sent.Add(c.retry*time.Second)) {
				t.Errorf("%+v", d)
			}
		})
	}
}

func TestLimiter_RetryAt(t *testing.T) {
	for name, c := range map[string]struct {
		more  string
		retry time.Duration
	}{
		"in time":               {"", 60},
		"after the window":      {"window \"short\" { within = \"59s\" }", 0},
		"when a forbid matches": {"forbid \"old\" { when = message.age >= \"60s\" }", 0},
		"a later one that holds": {"limit \"slow\" {\n key = actor.id\n rate = \"1/2m\"\n}\npermit \"slow\" {\n sender = " +
			"true\n window = \"2m\"\n limit = \"slow\"\n}\nwindow \"short\" { within = \"59s\" }", 120},
	} {
		t.Run(name, func(t *testing.T) {
			p, l := mustParse(t, strings.Replace(limited, "window = \"1h\"", "", 1)+"\n"+c.more), NewLimiter()
			for range 4 {
				l.Reserve(p, twin.Request(0, nil))
			}
			d, _ := l.Reserve(p, twin.Request(0, nil))
			want := time.Time{}
			if c.retry > 0 {
				want = twin.Sent.Add(c.retry * time.Second)
			}
			if d.Code != CodeRateLimited || !d.RetryAt.Equal(want) {
				t.Errorf("%+v", d)
			}
		})
	}
}

func TestLimiter_Bound(t *testing.T) {
	p, l := mustParse(t, limited), NewLimiter()
	for i := range MaxUnits + 1 {
		l.Reserve(p, twin.Request(time.Duration(i), func(in *Input) {
			in.ActorID = fmt.Sprint(i)
			in.Sender = in.ActorID
		}))
	}
	if l.total > MaxUnits || l.total != len(l.used) || l.total < MaxUnits/2 {
		t.Errorf("%d recalls of %d keys are remembered", l.total, len(l.used))
	}
	last := twin.Request(time.Second, func(in *Input) {
		in.ActorID, in.Sender = fmt.Sprint(MaxUnits),
			fmt.Sprint(MaxUnits)
	})
	l.Reserve(p, last)
	l.Reserve(p, last)
	if d := check(l, p, last); d.Permit {
		t.Error("the latest was forgotten")
	}
}

func TestLimiter_Concurrent(t *testing.T) {
	p, l := mustParse(t, limited), NewLimiter()
	var wg sync.WaitGroup
	permitted := make(chan bool, 20)
	for range 20 {
		wg.Go(func() {
			d, _ := l.Reserve(p, twin.Request(0, nil))
			permitted <- d.Permit
		})
	}
	wg.Wait()
	close(permitted)
	n := 0
	for yes := range permitted {
		if yes {
			n++
		}
	}
	if n != 3 {
		t.Errorf("%d of 20 were permitted, the limit is 3", n)
	}
}

func TestLimiter_Add(t *testing.T) {
	p, l, other := mustParse(t, limited), NewLimiter(), NewLimiter()
	var units []Unit
	for i := range 3 {
		_, r := l.Reserve(p, twin.Request(time.Duration(i)*10*time.Second, nil))
		u, ok := r.Unit()
		if !ok {
			t.Fatal("it has taken nothing")
		}
		units = append(units, u)
	}
	for _, u := range []Unit{units[2], units[0], units[1]} { // in any order
		other.Add(u)
	}
	d := check(other, p, twin.Request(59*time.Second, nil))
	if d.Code != "rate_limited" || !d.RetryAt.Equal(twin.Sent.Add(time.Minute)) {
		t.Errorf("%+v", d)
	}
	if d := check(other, p, twin.Request(time.Minute, nil)); !d.Permit {
		t.Errorf("%+v", d)
	}
	other.Add(Unit{Limit: units[0].Limit, At: units[2].At, Kept: units[0].Kept}) // beyond the limit
	if d := check(other, p, twin.Request(69*time.Second, nil)); d.Code != "rate_limited" {
		t.Errorf("%+v", d)
	}
	if _, ok := (Reservation{}).Unit(); ok {
		t.Error("nothing is a unit")
	}
}
