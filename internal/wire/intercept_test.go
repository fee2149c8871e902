package wire

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/chat-recall/recall/shared"
)

type valueKey struct{}

// seeing keeps the value that its context has.
type seeing struct {
	echo
	value any
}

func (p *seeing) Status(ctx context.Context, tenant string, ids []string) ([]shared.MessageStatus, error) {
	p.value = ctx.Value(valueKey{})
	return p.echo.Status(ctx, tenant, ids)
}

func TestInterceptors(t *testing.T) {
	var mu sync.Mutex
	var got []string
	note := func(name string) Interceptor {
		return func(ctx context.Context, method string) (context.Context, func(error)) {
			md, _ := metadata.FromIncomingContext(ctx)
			mu.Lock()
			defer mu.Unlock()
			got = append(got, name+" begins "+method+" "+md.Get("traceparent")[0])
			return context.WithValue(ctx, valueKey{}, name), func(err error) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, name+" ends "+status.Code(err).String())
			}
		}
	}
	impl := &seeing{}
	server := newRecallServer(impl, note("outer"), note("inner"))
	for name, client := range map[string]*Client{
		"lane": func() *Client {
			c := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) { server.register(s) }))
			if err := c.UseLane(serveLane(t, server)); err != nil {
				t.Fatal(err)
			}
			return c
		}(),
		"gRPC": NewClient(t.Context(), dialServer(t, func(s *grpc.Server) { server.register(s) })),
	} {
		t.Run(name, func(t *testing.T) {
			ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-1-2-01")
			for _, want := range []error{nil, shared.ErrOverloaded} {
				got, impl.err, impl.value = nil, want, nil
				if _, err := client.Status(ctx, "acme", []string{"m/1"}); !errors.Is(err, want) {
					t.Fatal(err)
				}
				code := codes.OK.String()
				if want != nil {
					code = codes.ResourceExhausted.String()
				}
				order := []string{"outer begins Status 00-1-2-01", "inner begins Status 00-1-2-01", "inner ends " + code,
					"outer ends " + code}
				if !reflect.DeepEqual(got, order) || impl.value != "inner" {
					t.Errorf("got %q, value %v", got, impl.value)
				}
			}
		})
	}
}
