// Command faulty is recall-plugin with one fault or one other version of the wire, for the tests of hosts. Which one is
// written behind the end of the binary's own file (see hosttest.BuildFaulty), so that each is a binary of its own.
package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/plugin/internal/clock"
	"github.com/chat-recall/recall/plugin/internal/engine"
	"github.com/chat-recall/recall/plugin/internal/journal/jetstream"
	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// mark stands before the name of the fault at the end of the file.
const mark = "\nrecall-fault="

func main() {
	fault, err := ownFault()
	if err != nil || os.Getenv(wire.Handshake.MagicCookieKey) == "" {
		os.Stderr.WriteString("faulty: for the tests of hosts only\n")
		os.Exit(2)
	}
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: os.Stderr, JSONFormat: true})
	go func() { // end with the host
		_, _ = io.Copy(io.Discard, os.NewFile(3, "host pipe"))
		os.Exit(0)
	}()
	o := engine.Options{Version: fault, Logger: logger, OpenCluster: openCluster}
	switch fault {
	case "old-format":
		o.EntryFormat = index.OldestOpFormat
	case "clock-ahead":
		o.Clock = otherClock{ahead: time.Hour}
	case "clock-behind":
		o.Clock = otherClock{ahead: -time.Hour}
	case "twice":
		o.OpenCluster = func(ctx context.Context, c *config.ClusterBlock, existing bool, log hclog.Logger) (
			engine.ClusterLink, error) {
			link, err := openCluster(ctx, c, existing, log)
			if err != nil {
				return nil, err
			}
			return twice{link}, nil
		}
	}
	svc := &faulty{Engine: engine.New(o), fault: fault}
	var lane *net.UnixConn
	if !slices.Contains(skewed, fault) {
		if lane, err = wire.OpenLane(); err != nil {
			logger.Error("the host started this plugin wrongly", "error", err)
			os.Exit(2)
		}
	}
	sets := wire.PluginsWithLane(svc, lane, func(error) {})
	if fault == "next-major" {
		sets = map[int]plugin.PluginSet{wire.ProtocolVersion + 1: sets[wire.ProtocolVersion]}
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: wire.Handshake, VersionedPlugins: sets, Logger: logger,
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(append(opts, wire.ServerOptions()...), grpc.ChainStreamInterceptor(svc.skew))...)
		},
	})
}

func openCluster(ctx context.Context, c *config.ClusterBlock, existing bool, log hclog.Logger) (engine.ClusterLink,
	error) {
	o := jetstream.OptionsOf(c, log)
	o.Existing = existing
	link, err := jetstream.Open(ctx, o)
	if err != nil {
		return nil, err // and no link that is not nil
	}
	return link, nil
}

// otherClock is a clock that is ahead of the machine's.
type otherClock struct {
	clock.System
	ahead time.Duration
}

func (c otherClock) Now() time.Time { return c.System.Now().Add(c.ahead) }

// twice puts every entry into the log twice.
type twice struct{ engine.ClusterLink }

func (t twice) Publish(ctx context.Context, data []byte, done func(error)) {
	t.ClusterLink.Publish(ctx, data, func(error) {})
	t.ClusterLink.Publish(ctx, data, done)
}

// ownFault reads the fault from the end of this binary's file.
func ownFault() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := f.Seek(-256, io.SeekEnd); err != nil {
		return "", err
	}
	tail, err := io.ReadAll(f)
	if i := bytes.LastIndex(tail, []byte(mark)); i >= 0 {
		return string(tail[i+len(mark):]), err
	}
	return "", err
}

type faulty struct {
	*engine.Engine
	noAsync
	fault string
}

// noAsync hides the methods of wire.AsyncPlugin, for its names are ambiguous with them: they would go past the
// faults.
type noAsync struct{ IndexThen, RecallThen, SettleThen struct{} }

func (f *faulty) Describe(ctx context.Context) (shared.Description, error) {
	d, err := f.Engine.Describe(ctx)
	if f.fault == "newer-format" {
		d.IndexFormat++
	}
	return d, err
}

func (f *faulty) Prepare(ctx context.Context, file string) (shared.Diagnostics, error) {
	switch f.fault {
	case "panic-prepare":
		panic("fault: prepare")
	case "hang-prepare":
		select {}
	}
	return f.Engine.Prepare(ctx, file)
}

func (f *faulty) Activate(ctx context.Context, steps []wire.StepPlan) error {
	switch f.fault {
	case "panic-activate":
		panic("fault: activate")
	case "hang-activate":
		select {}
	case "ghost-events":
		steps = slices.DeleteFunc(steps, func(s wire.StepPlan) bool { return s.Name == ghostStep })
	case "exit-after-activate":
		defer time.AfterFunc(200*time.Millisecond, func() { os.Exit(1) })
	}
	err := f.Engine.Activate(ctx, steps)
	if f.fault == "panic-activated" {
		panic("fault: activated, the index is taken")
	}
	return err
}

func (f *faulty) Index(ctx context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	if f.fault == "panic-poison" && len(msgs) > 0 && msgs[0].ID == "poison" {
		panic("fault: poison")
	}
	results, err := f.Engine.Index(ctx, msgs)
	if f.fault == "swapped-answers" {
		slices.Reverse(results)
	}
	return results, err
}

// ghostStep is the step of the events that do not exist, whose sequences begin at firstGhost. No recall has it.
const (
	ghostStep  = "ghost"
	firstGhost = 1 << 40
)

func (f *faulty) Deliver(ctx context.Context, handle func([]shared.Delivery)) error {
	switch f.fault {
	case "ghost-events":
		return f.Engine.Deliver(ctx, func(due []shared.Delivery) {
			var all []shared.Delivery
			for _, e := range due {
				if all = append(all, e); e.Sequence%10 == 0 {
					e.Sequence, e.Step = e.Sequence+firstGhost, ghostStep
					all = append(all, e)
				}
			}
			handle(all)
		})
	case "event-flood":
	default:
		return f.Engine.Deliver(ctx, handle)
	}
	e := shared.Delivery{Step: shared.StepHistory, Attempt: 1, Event: shared.Event{
		Tenant: "acme", RecallID: "r", Actor: shared.Actor{ID: "ann"}, RecalledAt: time.Now(),
		Disposition: shared.DispositionErase,
		Message: shared.Message{
			Tenant: "acme", ID: "m", Conversation: shared.Conversation{Type: shared.ConversationGroup,
				ID: "g"}, Sender: "ann", Type: shared.TypeText,
			SentAt: time.Now(),
		},
	}}
	for ctx.Err() == nil {
		var due []shared.Delivery
		for range 100 {
			e.Sequence++
			due = append(due, e)
		}
		handle(due)
	}
	return ctx.Err()
}

func (f *faulty) Status(ctx context.Context, tenant string, ids []string) ([]shared.MessageStatus, error) {
	if f.fault == "panic-first-call" {
		panic("fault: first call")
	}
	return f.Engine.Status(ctx, tenant, ids)
}

// skewed are the faults of skew that the lane would go past: a plugin with one of them offers none, as an older one
// does not.
var skewed = []string{"older-minor", "newer-minor", "few-statuses", "many-statuses"}

// skew makes the wire another minor version: a newer one, whose answers have fields that nobody here knows, or an
// older one, which lacks some calls. Every call is a stream: see wire.Register.
func (f *faulty) skew(impl any, stream grpc.ServerStream, info *grpc.StreamServerInfo,
	handler grpc.StreamHandler) error {
	switch f.fault {
	case "older-minor":
		for _, call := range []string{
			"/Metrics", "/Reload", "/Since", "/Flush", "/Amend", "/Explain",
		} {
			if strings.HasSuffix(info.FullMethod, call) {
				return status.Errorf(codes.Unimplemented, "unknown method %s", info.FullMethod)
			}
		}
	case "lane-only":
		if strings.HasSuffix(info.FullMethod, "/Index") || strings.HasSuffix(info.FullMethod, "/Status") {
			return status.Errorf(codes.Unimplemented, "%s is on the lane only", info.FullMethod)
		}
	case "newer-minor":
		stream = newerStream{stream}
	case "few-statuses", "many-statuses":
		stream = miscounting{stream, f.fault == "many-statuses"}
	}
	return handler(impl, stream)
}

// miscounting answers Settle with a status too few, or too many.
type miscounting struct {
	grpc.ServerStream
	more bool
}

func (s miscounting) SendMsg(answer any) error {
	if a, ok := answer.(*recallv1.SettleResponse); ok && s.more {
		a.Statuses = append(a.Statuses, nil)
	} else if ok {
		a.Statuses = a.Statuses[1:]
	}
	return s.ServerStream.SendMsg(answer)
}

// newerStream sends answers with a field that nobody here knows.
type newerStream struct{ grpc.ServerStream }

func (s newerStream) SendMsg(answer any) error {
	unknown := protowire.AppendTag(nil, 9999, protowire.BytesType)
	answer.(proto.Message).ProtoReflect().SetUnknown(protowire.AppendString(unknown, "from a later version"))
	return s.ServerStream.SendMsg(answer)
}
