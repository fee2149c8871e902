package rules_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/chat-recall/recall/rules"
)

// request is ann's request to recall her own message some time after sending it.
func request(age time.Duration) *rules.Input {
	sent := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	return &rules.Input{
		Tenant: "acme", MessageID: "m1", MessageType: "text", Sender: "ann", SentAt: sent,
		ConversationID: "team", ConversationType: "group",
		ActorID: "ann", ActorRole: "member", RequestedAt: sent.Add(age),
	}
}

func ExampleLoad() {
	policy, diags := rules.Load("cookbook/bank")
	fmt.Print(diags) // warnings, or the errors because of which there is no policy
	if policy == nil {
		return
	}
	d := policy.Decide(request(time.Minute))
	fmt.Println(d.Permit, d.Rule, "until", d.Until.Format(time.TimeOnly))
	d = policy.Decide(request(time.Hour))
	fmt.Println(d.Permit, d.Code, d.Rule)
	// Output:
	// true sender_in_window (cookbook/bank/rules.hcl:19) until 12:02:00
	// false window_expired sender_in_window (cookbook/bank/rules.hcl:19)
}

func ExampleParse() {
	_, diags := rules.Parse("rules.hcl", []byte(`permit "own" {
  sender = true
  role   = ["onwer"]
}
`))
	fmt.Print(diags)
	// Output:
	// rules.hcl:3:13: error: unknown role "onwer"
	//       role   = ["onwer"]
	//                 ^~~~~~~
	//   Did you mean "owner"? A role is one of "owner", "admin", "member", "system" or "none".
}

func ExamplePolicy_Explain() {
	e := rules.Default().Explain(request(5 * time.Minute))
	fmt.Println(e.Outcome)
	for _, r := range e.Rules {
		if r.WhyNot != nil {
			fmt.Printf("%s: %s, but %s is %s\n", r.Name, r.WhyNot.Text, r.WhyNot.Field, r.WhyNot.Value)
		}
	}
	// Output:
	// refused: window_expired by sender_in_window (default.hcl:14)
	// command_messages: type = ["command"], but message.type is "text"
	// sender_in_window: window = "2m", but message.age is 5m
	// managers_any_time: role = ["owner", "admin"], but actor.role is "member"
	// system: role = ["system"], but actor.role is "member"
}

func ExampleLimiter_Reserve() {
	policy, _ := rules.Parse("rules.hcl", []byte(`
limit "per_actor" {
  key  = actor.id
  rate = "1/1m"
}

permit "own" {
  sender = true
  limit  = "per_actor"
}
`))
	limiter := rules.NewLimiter()
	first, reservation := limiter.Reserve(policy, request(0))
	second, _ := limiter.Reserve(policy, request(0))
	fmt.Println(first.Permit, second.Code, second.RetryAt.Format(time.TimeOnly))
	limiter.Cancel(reservation) // the first recall was not committed
	third, _ := limiter.Reserve(policy, request(0))
	fmt.Println(third.Permit)
	// Output:
	// true rate_limited 12:01:00
	// true
}

func ExampleWatch() {
	dir, err := os.MkdirTemp("", "rules")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "rules.hcl")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			panic(err)
		}
	}
	write(`permit "own" { sender = true }`)
	watcher, diags := rules.Watch([]string{dir}, nil)
	if watcher == nil {
		panic(diags)
	}
	defer watcher.Close()
	fmt.Println(watcher.Policy().Decide(request(time.Hour)).Permit)

	write("permit \"own\" {\n  sender = true\n  window = \"1d\"\n}\n")
	if _, err := watcher.Reload(context.Background()); err != nil { // without Reload it takes up to two seconds
		panic(err)
	}
	fmt.Println(watcher.Policy().Decide(request(time.Hour)).Permit)

	write("permit {") // an error: the policy stays in force
	if _, err := watcher.Reload(context.Background()); err != nil {
		panic(err)
	}
	fmt.Println(watcher.Policy().Decide(request(time.Hour)).Permit, watcher.State().Refused.HasErrors())
	// Output:
	// false
	// true
	// true true
}

func ExampleCompare() {
	longer, _ := rules.Parse("rules.hcl", []byte(`permit "own" {
  sender = true
  window = "5m"
}
`))
	own, _ := rules.Parse("rules.hcl", []byte(`permit "own" { sender = true }`))
	for _, d := range rules.Compare(own, longer).Differences {
		fmt.Printf("%s\n- %s\n+ %s\n", d.Where, d.Was[0], d.Now)
	}
	// Output:
	// message.type is not command, actor.role is not none, actor is the sender, message.age is over 2m and up to 5m
	// - refused: window_expired
	// + permitted
}
