package rulestest_test

import (
	"fmt"

	"github.com/chat-recall/recall/rules"
	"github.com/chat-recall/recall/rules/rulestest"
)

func ExampleRun() {
	report, diags := rulestest.Run("../cookbook/wechat")
	if diags.HasErrors() {
		fmt.Print(diags)
		return
	}
	fmt.Println(report.Failed(), "failed")
	for _, s := range report.Suites {
		fmt.Println(s.Path, len(s.Results), "tests and invariants")
	}
	// Output:
	// 0 failed
	// ../cookbook/wechat 6 tests and invariants
}

func ExampleParseCase() {
	c, err := rulestest.ParseCase([]byte(`{"role": "admin", "sender": false, "age": "3h"}`))
	if err != nil {
		panic(err)
	}
	in, err := c.Input()
	if err != nil {
		panic(err)
	}
	fmt.Println(c)
	fmt.Println(rules.Default().Decide(in).Rule)
	// Output:
	// age = "3h", role = "admin", sender = false
	// managers_any_time (default.hcl:18)
}
