// Package rules decides who may recall which message.
//
// A policy is written in HCL files. [Load] checks all of them together and compiles them; deciding evaluates no HCL,
// allocates nothing and cannot fail. Nothing is permitted unless a permit matches. A forbid that matches refuses the
// request even if a permit matches. Otherwise the first permit in file order whose scope, condition and requirements
// are met decides. Every decision names its rule, file and line.
//
// docs/rules.md documents the language for operators. Package rulestest runs tests of policies.
package rules
