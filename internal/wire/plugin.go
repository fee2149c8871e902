package wire

import (
	"context"
	"net"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/chat-recall/recall/shared"
)

const (
	// ProtocolVersion is the wire major that this package speaks. Additions to it are minor and need no new one;
	// what an older plugin lacks it answers with ErrUnimplemented.
	ProtocolVersion = 1

	// PluginName is the one plugin of every plugin set.
	PluginName = "recall"

	// HostPipeEnv names, to the plugin process, the descriptor of a pipe whose other end only its host holds: when it
	// reads as ended, the host is gone and the plugin exits. Where it is a unix socket, the plugin sends its host through
	// it a descriptor of the folder whose lock keeps others from the index (SCM_RIGHTS, with one byte), each time it locks
	// it: so a host that has killed the plugin can unlock it before the kernel gets to that.
	HostPipeEnv = "RECALL_HOST_PIPE_FD"

	// AuditLogger is the last part of the name of the logger of refusals.
	AuditLogger = "audit"
)

// Handshake says "a recall plugin" and no more: versions are negotiated by VersionedPlugins. It is no secret and no
// security; it keeps a plugin from being run, and a program from being loaded, by mistake.
var Handshake = plugin.HandshakeConfig{
	MagicCookieKey:   "RECALL_PLUGIN",
	MagicCookieValue: "5f0c6b2e-9d5b-4f6e-8a1e-recall",
}

// Plugin is everything that a plugin process serves.
type Plugin interface {
	shared.Recall
	Lifecycle

	// Deliver calls handle with the open steps that are due at the same moment, in order: first those that were never
	// tried, oldest first, and each that failed again after a delay. It makes one call at a time; what becomes due while
	// handle runs goes together in the next call. A newer call of Deliver ends an older one. It returns when ctx ends or
	// the plugin goes away, after handle has returned.
	Deliver(ctx context.Context, handle func([]shared.Delivery)) error

	// Settle records the outcomes of at most MaxSettlements attempts; more are a *FieldError. It returns, in order, nil
	// for each that is on disk, and otherwise why it is not: one that is refused does not refuse the others. After an
	// error of the call any of them may be recorded: repeat it. The caller must not change all, even after Settle returns.
	//
	// A failure counts if it is of the attempt after the last one that counted, so reporting it again changes nothing. An
	// outcome that settles the step counts whichever attempt it is of: one that was given up and succeeds late settles the
	// step, and is not counted twice. An event or step that does not exist, and a step that waits for other steps, is a
	// *FieldError.
	// A deferred outcome is not recorded: the step stays open, and is not delivered again by this Deliver.
	Settle(ctx context.Context, all []Settlement) ([]error, error)

	// Retry makes the steps that failed and wait for their next attempt due now: those of these names, or all of them if
	// there is none. A name that the host did not activate is a *FieldError.
	Retry(ctx context.Context, steps []string) error
}

// VersionedPlugins is the plugin set of each wire major. impl is nil in a host.
func VersionedPlugins(impl Plugin) map[int]plugin.PluginSet { return PluginsWithLane(impl, nil, nil) }

// PluginsWithLane is VersionedPlugins of a plugin process that also serves a lane: see OpenLane. ended is called when
// the lane has ended, with an error if that is because the host sent what is no frame. Then calls go by gRPC. lane
// may be nil.
func PluginsWithLane(impl Plugin, lane *net.UnixConn, ended func(error), interceptors ...Interceptor,
) map[int]plugin.PluginSet {
	p := &GRPCPlugin{impl: impl, lane: lane, ended: ended, interceptors: interceptors}
	return map[int]plugin.PluginSet{ProtocolVersion: {PluginName: p}}
}

// GRPCPlugin joins the two halves of the wire for go-plugin.
type GRPCPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	impl  Plugin
	lane  *net.UnixConn // may be nil
	ended func(error)

	interceptors []Interceptor
}

// GRPCServer serves the implementation. go-plugin calls it once.
func (p *GRPCPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	recall := newRecallServer(p.impl, p.interceptors...)
	if p.lane == nil {
		recall.register(s)
		return nil
	}
	recall.register(s, CapabilityLane)
	go func() { p.ended(recall.serveLane(p.lane)) }() // ends with the lane
	return nil
}

// GRPCClient makes a *Client. ctx ends when the plugin goes away.
func (p *GRPCPlugin) GRPCClient(ctx context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return NewClient(ctx, conn), nil
}
