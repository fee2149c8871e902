package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// hostileHost starts a plugin and speaks recall.v1 with it as no host of this SDK does.
func (p *pressure) hostileHost(ctx context.Context) error {
	a, err := startAttack(ctx, p)
	if err != nil {
		return err
	}
	defer a.pipe.Close()
	defer a.lane.Close()
	defer a.client.Kill()
	for _, attack := range []struct {
		name    string
		callers int
		run     func(context.Context) error
	}{
		{"requests of 16 MiB", 200, a.hugeRequests},
		{"requests of 16 MiB of empty elements", 200, a.emptyElements},
		{"events and ledgers, unread", 2000, a.unreadStreams},
		{"Since, unread", 5000, a.unreadSince},
		{"lifecycle requests of 16 MiB", 200, a.hugeLifecycle},
		{"calls of empty elements on the lane", 1, a.emptyOnLane},
		{"millions of tiny calls on the lane, unread", 1, a.unreadOnLane},
	} {
		before := p.hostile
		stop := peak(func() int { return a.pid })
		during, cancel := context.WithTimeout(ctx, p.time/7+time.Second)
		var all sync.WaitGroup
		for range attack.callers {
			all.Go(func() {
				for during.Err() == nil {
					atomic.AddInt64(&p.hostile, 1)
					if attack.run(during) != nil {
						time.Sleep(10 * time.Millisecond)
					}
				}
			})
		}
		all.Wait()
		cancel()
		most := stop()
		p.attackedPlugin = max(p.attackedPlugin, most)
		progress("  %-40s %6d times, plugin %d MiB at most", attack.name, p.hostile-before, most>>20)
		if a.client.Exited() {
			p.kills++
			return fmt.Errorf("%s ended the plugin", attack.name)
		}
		if err := a.healthy(ctx); err != nil {
			return fmt.Errorf("after %s: %w", attack.name, err)
		}
	}
	return nil
}

// attack is a plugin whose host is hostile.
type attack struct {
	client *plugin.Client
	conn   *grpc.ClientConn
	pid    int
	pipe   *os.File // the plugin ends with it
	lane   *os.File
	life   recallv1.LifecycleServiceClient
	recall recallv1.RecallServiceClient
	rest   []byte // of what is being sent on the lane
}

func startAttack(ctx context.Context, p *pressure) (*attack, error) {
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	lane, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	plugins := os.NewFile(uintptr(lane[1]), "lane of the plugin")
	defer plugins.Close()
	a := &attack{pipe: theirs, lane: os.NewFile(uintptr(lane[0]), "lane")}
	level := hclog.Off
	if p.verbose {
		level = hclog.Debug
	}
	cmd := exec.Command(filepath.Join(p.dir, "recall-plugin"))
	cmd.ExtraFiles = []*os.File{ours, plugins} // ours never ends, as long as this process lives
	cmd.Env = append(os.Environ(), wire.HostPipeEnv+"=3", wire.LaneFDEnv+"=4")
	a.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake,
		VersionedPlugins: map[int]plugin.PluginSet{wire.ProtocolVersion: {wire.PluginName: &rawPlugin{}}},
		Cmd:              cmd, AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, AutoMTLS: true,
		Logger: hclog.New(&hclog.LoggerOptions{Level: level, Output: os.Stderr}),
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(64<<20), grpc.MaxCallRecvMsgSize(64<<20)),
		},
	})
	protocol, err := a.client.Client()
	if err != nil {
		return nil, err
	}
	raw, err := protocol.Dispense(wire.PluginName)
	if err != nil {
		return nil, err
	}
	a.conn = raw.(*grpc.ClientConn)
	a.pid = cmd.Process.Pid
	a.recall, a.life = recallv1.NewRecallServiceClient(a.conn), recallv1.NewLifecycleServiceClient(a.conn)
	if _, err := a.life.Prepare(ctx, &recallv1.PrepareRequest{ConfigFile: p.config}); err != nil {
		return nil, err
	}
	if _, err := a.life.Activate(
		ctx,
		&recallv1.ActivateRequest{Steps: []*recallv1.HostStep{{Name: shared.StepNotify}, {Name: shared.StepHistory}}},
	); err != nil {
		return nil, err
	}
	return a, nil
}

// rawPlugin gives the connection to a plugin.
type rawPlugin struct{ plugin.NetRPCUnsupportedPlugin }

func (rawPlugin) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }

func (rawPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}

// healthy tells whether the plugin still answers, once what was cut off has ended.
func (a *attack) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, err := a.life.Health(ctx, &recallv1.HealthRequest{}); err != nil {
		return err
	}
	_, err := a.recall.Status(ctx, &recallv1.StatusRequest{Tenant: tenant, MessageIds: []string{"m"}})
	return err
}

const wireLimit = wire.MaxWireBytes - 64

// elementsOf is an encoded message of empty elements of one field.
var elementsOf = sync.OnceValue(func() *emptypb.Empty {
	var data []byte
	for len(data) < wireLimit-2 {
		data = protowire.AppendBytes(protowire.AppendTag(data, 1, protowire.BytesType), nil)
	}
	m := &emptypb.Empty{}
	m.ProtoReflect().SetUnknown(data)
	return m
})

// oneLarge is an encoded message of one large field.
var oneLarge = sync.OnceValue(func() *emptypb.Empty {
	m := &emptypb.Empty{}
	m.ProtoReflect().
		SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), make([]byte, wireLimit-8)))
	return m
})

func (a *attack) hugeRequests(ctx context.Context) error {
	return a.conn.Invoke(ctx, recallv1.RecallService_Status_FullMethodName, oneLarge(), &recallv1.StatusResponse{})
}

func (a *attack) emptyElements(ctx context.Context) error {
	return a.conn.Invoke(ctx, recallv1.RecallService_Index_FullMethodName, elementsOf(), &recallv1.IndexResponse{})
}

func (a *attack) hugeLifecycle(ctx context.Context) error {
	return a.conn.Invoke(
		ctx,
		recallv1.LifecycleService_Activate_FullMethodName,
		elementsOf(),
		&recallv1.ActivateResponse{},
	)
}

// laneFrame is a call on the lane, in the format of shared/lane.go.
func laneFrame(method byte, payload []byte) []byte {
	frame := make([]byte, 24, 24+len(payload))
	binary.BigEndian.PutUint32(frame, uint32(20+len(payload)))
	frame[4], frame[5] = 1, method
	return append(frame, payload...)
}

// emptyOnLane sends calls of Index whose messages are empty, as large as a frame may be.
func (a *attack) emptyOnLane(ctx context.Context) error {
	payload := elementsOf().ProtoReflect().GetUnknown()[:1<<20]
	return a.flood(ctx, laneFrame(1, payload))
}

// unreadOnLane sends calls of Status, reads no answer and ends the lane: its answers took memory that other calls need.
func (a *attack) unreadOnLane(ctx context.Context) error {
	defer a.lane.Close()
	return a.flood(ctx, bytes.Repeat(laneFrame(4, nil), 10_000))
}

// flood sends the same on the lane until ctx ends.
func (a *attack) flood(ctx context.Context, data []byte) error {
	deadline, _ := ctx.Deadline()
	if err := a.lane.SetWriteDeadline(deadline); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if len(a.rest) == 0 { // else the next frame would begin within what was begun
			a.rest = data
		}
		n, err := a.lane.Write(a.rest)
		if a.rest = a.rest[n:]; err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (a *attack) unreadStreams(ctx context.Context) error {
	if _, err := a.recall.Deliver(ctx, &recallv1.DeliverRequest{}); err != nil {
		return err
	}
	if _, err := a.recall.Ledger(ctx, &recallv1.LedgerRequest{Tenant: tenant, RecallId: "recall-seed"}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (a *attack) unreadSince(ctx context.Context) error {
	request := &recallv1.SinceRequest{Tenant: tenant, Conversations: []*recallv1.Conversation{
		{Type: recallv1.ConversationType_CONVERSATION_TYPE_GROUP, Id: seedRoom.ID},
	}}
	stream, err := a.conn.NewStream(
		ctx,
		&grpc.StreamDesc{ServerStreams: true},
		recallv1.RecallService_Since_FullMethodName,
	)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(request); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	<-ctx.Done() // and reads nothing
	return ctx.Err()
}

// hostilePlugins are faults of plugin/internal/faulty.
var hostilePlugins = []string{"event-flood", "swapped-answers"}

// hostilePlugin runs a host whose plugin answers and delivers what it was not asked.
func (p *pressure) hostilePlugin(ctx context.Context) error {
	built := filepath.Join(p.dir, "faulty")
	build := exec.CommandContext(ctx, "go", "build", "-o", built, "github.com/chat-recall/recall/plugin/internal/faulty")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the faulty plugin: %w\n%s", err, out)
	}
	binary, err := os.ReadFile(built)
	if err != nil {
		return err
	}
	for _, fault := range hostilePlugins {
		dir := filepath.Join(p.dir, fault)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "plugin"), append(binary, "\nrecall-fault="+fault...), 0o700); err != nil {
			return err
		}
		config := filepath.Join(dir, "plugin.hcl")
		if err := writeConfig(config, filepath.Join(dir, "plugin"), "index"); err != nil {
			return err
		}
		child, lines, err := p.child(ctx, "--config", config, "--kind", "hostile", "--callers", "100",
			"--for", (p.time / 2).String())
		if err != nil {
			return err
		}
		stop := peak(func() int { return child.Process.Pid })
		for lines.Scan() { // nothing that it acknowledges counts
		}
		most := stop()
		progress("  %-40s host %d MiB at most", fault, most>>20)
		p.attackedHost = max(p.attackedHost, most)
		if err := child.Wait(); err != nil {
			return fmt.Errorf("%s ended the host: %w", fault, err)
		}
	}
	return nil
}
