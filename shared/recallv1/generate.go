// Package recallv1 is the generated wire of protocol version 1. Nothing outside the package shared imports it.
package recallv1

//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate
