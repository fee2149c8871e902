// Package rulestest runs the tests and invariants of policies, which are written in *.test.hcl files next to the rules.
package rulestest
