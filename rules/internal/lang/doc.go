// Package lang reads the rule language: it finds, parses, checks and compiles rule files, and reports what is wrong.
package lang
