// Package rules decides who may take which message back.
//
// A policy is written in HCL files, checked whole when it is loaded, and compiled: deciding evaluates no HCL,
// allocates nothing and cannot fail. Nothing is permitted unless a permit says so; any forbid that matches denies,
// whatever else permits; then the first permit in file order whose scope, condition and requirements hold decides.
// Every decision names its rule, file and line.
//
// docs/rules.md is the language for operators.
package rules
