package shared

import (
	"context"
	"net"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
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
)

// Handshake says "a recall plugin" and no more: versions are negotiated by VersionedPlugins. It is no secret and no
// security; it keeps a plugin from being run, and a program from being loaded, by mistake.
var Handshake = plugin.HandshakeConfig{
	MagicCookieKey:   "RECALL_PLUGIN",
	MagicCookieValue: "5f0c6b2e-9d5b-4f6e-8a1e-recall",
}

// Plugin is everything that a plugin process serves, and the settling of the events that it delivers.
type Plugin interface {
	Recall
	Lifecycle

	// Settle is Settler for the step of an event of this sequence. It says nothing of the attempt; see AttemptSettler.
	Settle(ctx context.Context, sequence uint64, step string, outcome Outcome, cause string) error
}

// VersionedPlugins is the plugin set of each wire major. impl is nil in a host.
func VersionedPlugins(impl Plugin) map[int]plugin.PluginSet { return PluginsWithLane(impl, nil, nil) }

// PluginsWithLane is VersionedPlugins of a plugin process that also serves a lane: see OpenLane. ended is called when
// the lane has ended, with an error if that is because the host sent what is no frame. Then calls go by gRPC. lane
// may be nil.
func PluginsWithLane(impl Plugin, lane *net.UnixConn, ended func(error)) map[int]plugin.PluginSet {
	return map[int]plugin.PluginSet{ProtocolVersion: {PluginName: &GRPCPlugin{impl: impl, lane: lane, ended: ended}}}
}

// GRPCPlugin joins the two halves of the wire for go-plugin.
type GRPCPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	impl  Plugin
	lane  *net.UnixConn // may be nil
	ended func(error)
}

// GRPCServer serves the implementation. go-plugin calls it once.
func (p *GRPCPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	recall := newRecallServer(p.impl)
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
