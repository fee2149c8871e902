// Package indexpb is the generated form of the values of the index format. Nothing outside the package index imports
// it.
package indexpb

//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate
