package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/chat-recall/recall/shared"
)

// The limit of the wire: a plugin that does nothing, over the same transport (go-plugin, mutual TLS, unix socket).

const (
	echoName   = "echo"
	echoUnary  = "/bench.Echo/Unary"
	echoStream = "/bench.Echo/Stream"
)

var echoService = grpc.ServiceDesc{
	ServiceName: "bench.Echo",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Unary",
		Handler: func(_ any, _ context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var empty emptypb.Empty
			return &empty, read(&empty)
		},
	}},
	Streams: []grpc.StreamDesc{{
		StreamName: "Stream", ServerStreams: true, ClientStreams: true,
		Handler: func(_ any, stream grpc.ServerStream) error {
			for {
				var empty emptypb.Empty
				if err := stream.RecvMsg(&empty); err != nil {
					return nil // the client is done
				}
				if err := stream.SendMsg(&empty); err != nil {
					return err
				}
			}
		},
	}},
}

// echoPlugin is both of its halves for go-plugin.
type echoPlugin struct{ plugin.NetRPCUnsupportedPlugin }

func (echoPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	s.RegisterService(&echoService, struct{}{})
	return nil
}

func (echoPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}

var echoPlugins = map[int]plugin.PluginSet{1: {echoName: echoPlugin{}}}

// echoChild is the plugin that does nothing.
func echoChild(context.Context, []string) error {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: shared.Handshake, VersionedPlugins: echoPlugins, GRPCServer: plugin.DefaultGRPCServer,
		Logger: hclog.NewNullLogger(),
	})
	return nil
}

// echo is a running one.
type echo struct {
	client *plugin.Client
	conn   *grpc.ClientConn

	mu      sync.Mutex // orders sending on the stream against waiting for the answer
	stream  grpc.ClientStream
	waiting chan chan error
	done    sync.WaitGroup
}

func startEcho(ctx context.Context, dir string) (*echo, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	e := &echo{waiting: make(chan chan error, 4096)}
	e.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: shared.Handshake, VersionedPlugins: echoPlugins,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, AutoMTLS: true, Logger: hclog.NewNullLogger(),
		Cmd: exec.Command(self, "echo-child"), UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: dir},
	})
	protocol, err := e.client.Client()
	if err != nil {
		e.client.Kill()
		return nil, fmt.Errorf("start the echo plugin: %w", err)
	}
	raw, err := protocol.Dispense(echoName)
	if err != nil {
		e.client.Kill()
		return nil, err
	}
	e.conn = raw.(*grpc.ClientConn)
	if e.stream, err = e.conn.NewStream(ctx, &echoService.Streams[0], echoStream); err != nil {
		e.client.Kill()
		return nil, err
	}
	e.done.Go(func() {
		for answer := range e.waiting {
			var empty emptypb.Empty
			answer <- e.stream.RecvMsg(&empty)
		}
	})
	return e, nil
}

func (e *echo) close() {
	_ = e.stream.CloseSend()
	close(e.waiting)
	e.done.Wait()
	e.client.Kill()
}

func (e *echo) unary(callers int) *load {
	return &load{name: fmt.Sprintf("echo/%d", callers), callers: callers, per: 1,
		do: func(ctx context.Context, _ int) (time.Duration, error) {
			return timed(func() error { return e.conn.Invoke(ctx, echoUnary, &emptypb.Empty{}, &emptypb.Empty{}) })
		}}
}

// overStream has callers share one stream, an empty message a call.
func (e *echo) overStream(callers int) *load {
	return &load{name: fmt.Sprintf("stream/%d", callers), callers: callers, per: 1,
		do: func(context.Context, int) (time.Duration, error) {
			return timed(func() error {
				answer := make(chan error, 1)
				e.mu.Lock()
				e.waiting <- answer
				err := e.stream.SendMsg(&emptypb.Empty{})
				e.mu.Unlock()
				if err != nil {
					return err
				}
				return <-answer
			})
		}}
}
