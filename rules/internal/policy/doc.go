// Package policy holds what a policy is and how it decides: fields, conditions, scopes, rules and limits. It reads no
// files; package lang makes policies of files, and package proof goes through the inputs that they can tell apart.
package policy
