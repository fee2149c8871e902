package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/chat-recall/recall/internal/wire"
)

// The limit of an event: a plugin that does nothing, over go-plugin's transport (gRPC, mutual TLS, unix socket).

const (
	echoName   = "echo"
	echoMethod = "/bench.Echo/Unary"
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
		HandshakeConfig: wire.Handshake, VersionedPlugins: echoPlugins, GRPCServer: plugin.DefaultGRPCServer,
		Logger: hclog.NewNullLogger(),
	})
	return nil
}

// echo is a running one.
type echo struct {
	dir    string // for its socket
	cmd    *exec.Cmd
	client *plugin.Client
	conn   *grpc.ClientConn
}

func (e *echo) start(context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	e.cmd = exec.Command(self, "echo-child")
	e.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: wire.Handshake, VersionedPlugins: echoPlugins,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, AutoMTLS: true, Logger: hclog.NewNullLogger(),
		Cmd: e.cmd, UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: e.dir},
	})
	protocol, err := e.client.Client()
	if err != nil {
		e.client.Kill()
		return fmt.Errorf("start the echo plugin: %w", err)
	}
	raw, err := protocol.Dispense(echoName)
	if err != nil {
		e.client.Kill()
		return err
	}
	e.conn = raw.(*grpc.ClientConn)
	return nil
}

func (e *echo) close() error {
	e.client.Kill()
	return nil
}

func (e *echo) renew(context.Context) error { return nil }

func (e *echo) load() *load {
	return &load{callers: 1, per: 1, cpu: func() time.Duration { return cpuOf(e.cmd.Process.Pid) },
		do: func(ctx context.Context, _, _ int) (time.Duration, error) {
			return timed(func() error { return e.conn.Invoke(ctx, echoMethod, &emptypb.Empty{}, &emptypb.Empty{}) })
		}}
}
