package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/plugin/internal/engine"
)

// leaveTimeout bounds how long the process holds on to the index once it has to go. What was acknowledged is on disk,
// so ending without an orderly release loses nothing; the next process is to find the index free within a second.
const leaveTimeout = 800 * time.Millisecond

// memoryLimit is where the garbage collector begins to work harder, unless GOMEMLIMIT says otherwise. While much is
// written memtables, tables in the making and their indexes live, and without a limit anonymous memory grew to
// several times as much. The filter of ids takes up to 32 MiB of it.
const memoryLimit = 212 << 20

// processors is on how many of the processors the plugin runs: on half of them, unless GOMAXPROCS is set. The others
// are the host's; on few, a call that hands over from goroutine to goroutine wakes no other thread for it. The p50 of
// up to 64 callers is 0.87 to 0.94 of that on all processors, with 10 to 35 % less CPU; the throughput of 256 callers
// and of batches is the same (bench speed, two cores).
func processors(set string, all int) int {
	if set != "" {
		return all // which Go has made of it
	}
	return max(1, all/2)
}

// serve is the process that a host started. It returns the exit code when the host does not need it any more.
func serve() int {
	// go-plugin takes stdout and stderr away: the logger is made first, and nothing is ever printed.
	logger := hclog.New(&hclog.LoggerOptions{Name: engine.Name, Level: hclog.Debug, Output: os.Stderr, JSONFormat: true})
	gcPercent := debug.SetGCPercent(-1)
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	} else { // which may be none
		debug.SetGCPercent(gcPercent)
	}
	runtime.GOMAXPROCS(processors(os.Getenv("GOMAXPROCS"), runtime.GOMAXPROCS(0)))
	logger.Debug("plugin process", "version", version(), "gomaxprocs", runtime.GOMAXPROCS(0))
	signal.Ignore(syscall.SIGPIPE) // a host that is gone reads no log: that must not end us before the index is released
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	host, err := openHostPipe()
	if err != nil {
		logger.Error("the host started this plugin wrongly", "error", err)
		return exitBad
	}
	lane, err := wire.OpenLane()
	if err != nil {
		logger.Error("the host started this plugin wrongly", "error", err)
		return exitBad
	}
	svc := served{engine.New(engine.Options{
		Version: version(), Logger: logger, Lend: host.lend, OpenCluster: openCluster,
	}), gcPercent}
	stopped := make(chan struct{}) // go-plugin's own Shutdown call
	go func() {
		defer close(stopped)
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig: wire.Handshake,
			VersionedPlugins: wire.PluginsWithLane(svc, lane, func(err error) {
				if err != nil {
					logger.Warn("the host broke the lane, calls go by gRPC", "error", err)
				}
			}, svc.Observe),
			GRPCServer: newServer,
			Logger:     logger,
		})
	}()
	var why string
	select {
	case <-stopped:
		why = "the host ended the plugin"
	case <-host.gone:
		why = "the host is gone"
	case <-terminate:
		why = "SIGTERM"
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if err := svc.Quiesce(ctx); err != nil {
		logger.Warn("leaving without an orderly release of the index", "why", why, "error", err)
	}
	return exitGood
}

// served is the engine, and with it what concerns the process.
type served struct {
	*engine.Engine
	gcPercent int
}

var _ wire.AsyncPlugin = served{} // which its lane makes use of

// Activate is wire.Lifecycle. The garbage collector is off until the index is open, for calls wait for that (bench
// swap: they are held for half as long); memoryLimit bounds it all the same.
func (s served) Activate(ctx context.Context, steps []wire.StepPlan) error {
	defer debug.SetGCPercent(s.gcPercent)
	return s.Engine.Activate(ctx, steps)
}

// newServer is the gRPC server with the limits of the contract; opts carry go-plugin's mutual TLS.
func newServer(opts []grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append(opts, wire.ServerOptions()...)...)
}
