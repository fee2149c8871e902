// Package proof goes through every input that policies can tell apart: to find dead rules, to compare two policies, and
// to prove invariants.
package proof
