// Package recallv1 is generated from the wire of protocol version 1. Within this module only internal/wire uses it.
// Hosts and plugins in other languages generate theirs from the same file.
package recallv1

//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate
