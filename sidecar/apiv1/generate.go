// Package apiv1 is generated from recall.proto, the API of recall-sidecar. Clients in Go use it with
// sidecar/apiv1/apiv1connect; clients in other languages generate theirs from the same file, or use plain JSON.
package apiv1

//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate
