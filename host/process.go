package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"

	"github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

// passedEnv are the variables that a plugin gets from its host's environment: what a Go process and its file system
// need. The rest may be secrets of the host's.
var passedEnv = []string{
	"PATH", "HOME", "TMPDIR", "TZ", "LANG",
	"GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "GOCOVERDIR",
}

// maxSocketPath is how long the path of a unix socket may be: 108 bytes with a NUL on Linux.
const maxSocketPath = 107

// killPatience is how long the outputs of a killed plugin may stay open, by some process that it left behind, before
// they are no longer listened to.
const killPatience = time.Second

// deathPatience is how long a plugin whose call failed has to end before the failure is taken for its own: a call
// learns of a death a moment before the host does.
const deathPatience = 500 * time.Millisecond

// The descriptors that a plugin process is started with, besides the standard ones.
const (
	hostPipeFD = 3
	verifiedFD = 4 // its own program
	laneFD     = 5 // unless there is no lane

	ownDescriptors = "/proc/self/fd"
)

// A process is one plugin process that has shaken hands. It is made by launch and ended by kill, once each.
type process struct {
	binary stagedBinary
	desc   shared.Description
	rules  shared.RulesState    // when it was activated
	index  shared.IndexIdentity // likewise
	api    *wire.Client
	config *config.File // as it read plugin.hcl

	client    *plugin.Client
	socketDir string
	lock      *lentLock     // the plugin exits when it is closed, also by our own death
	lane      *net.UnixConn // nil: calls go by gRPC
	stderr    stderrTail

	answered atomic.Uint64 // calls
	retired  atomic.Bool   // ended for an upgrade, and not by a crash

	mu    sync.Mutex // orders a start against its being cut short
	cut   bool
	child *child // nil until the start has come so far
}

// launch starts a process, shakes hands and asks what it is. The process is in standby then. When it fails, or ctx
// ends before, nothing of it is left.
func launch(ctx context.Context, staged stagedBinary, runDir string, timeout time.Duration,
	logger hclog.Logger) (*process, error) {
	runDir, err := ensureRunDir(runDir)
	if err != nil {
		return nil, err
	}
	verified, err := staged.open()
	if err != nil {
		return nil, err
	}
	defer verified.Close()
	if _, err := os.Stat(ownDescriptors); err != nil {
		return nil, fmt.Errorf("start plugin %s: /proc is not mounted; mount it: "+
			"the verified file is executed through it: %w",
			staged.source, err)
	}
	// go-plugin makes a folder and in it a socket, each with a random number in its name.
	if n := len(filepath.Join(runDir, "plugin-dir4294967295", "plugin4294967295")); n > maxSocketPath {
		return nil, fmt.Errorf("the folder %s is too long for a unix socket (%d bytes, at most %d): set host.Config.RunDir "+
			"to a shorter one", runDir, n, maxSocketPath)
	}
	lock, theirs, err := newLentLock()
	if err != nil {
		return nil, fmt.Errorf("start plugin: %w", err)
	}
	defer theirs.Close()
	lane, laneTheirs, err := newLane()
	if err != nil {
		lock.close()
		return nil, fmt.Errorf("start plugin: %w", err)
	}
	defer laneTheirs.Close()
	p := &process{binary: staged, lock: lock, lane: lane}
	p.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake,
		VersionedPlugins: wire.VersionedPlugins(nil),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     timeout + time.Minute, // start keeps the time itself, and says what to change
		Logger:           logger,
		Stderr:           &p.stderr,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: runDir},
		GRPCDialOptions:  wire.DialOptions(),
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, socketDir string) (runner.Runner, error) {
			p.socketDir = socketDir
			if err := os.Chmod(socketDir, 0o700); err != nil { // whatever the umask
				return nil, err
			}
			// The file is named by its descriptor in the child, so that nothing can be put in its place. A script's
			// interpreter opens it by that name, too.
			cmd := exec.Command(filepath.Join(ownDescriptors, strconv.Itoa(verifiedFD)))
			cmd.Args = []string{staged.path}
			cmd.ExtraFiles = []*os.File{hostPipeFD - 3: theirs, verifiedFD - 3: verified.File}
			cmd.Env = append(spec.Env, wire.HostPipeEnv+"="+strconv.Itoa(hostPipeFD))
			if lane != nil {
				cmd.ExtraFiles = append(cmd.ExtraFiles, laneTheirs)
				cmd.Env = append(cmd.Env, wire.LaneFDEnv+"="+strconv.Itoa(laneFD))
			}
			for _, name := range passedEnv {
				if v, ok := os.LookupEnv(name); ok {
					cmd.Env = append(cmd.Env, name+"="+v)
				}
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that kill takes its children too
			c, err := newChild(cmd)
			if err != nil {
				return nil, err
			}
			c.source, c.recheck = staged.source, verified.recheck
			return c, p.adopt(c)
		},
	})
	if err := p.start(ctx, timeout); err != nil {
		p.kill()
		return nil, fmt.Errorf("start plugin %s: %w", staged.source, err)
	}
	return p, nil
}

// start shakes hands within timeout or until ctx ends.
func (p *process) start(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout,
		fmt.Errorf("no answer within %s (plugin.start_timeout)", timeout))
	defer cancel()
	started := make(chan error, 1)
	go func() {
		_, err := p.client.Start()
		started <- err
	}()
	select {
	case err := <-started:
		if err != nil {
			return p.startError(err)
		}
	case <-ctx.Done():
		p.cutShort()
		<-started
		return p.withLastLines(context.Cause(ctx))
	}
	protocol, err := p.client.Client()
	if err != nil {
		return p.startError(err)
	}
	raw, err := protocol.Dispense(wire.PluginName)
	if err != nil {
		return p.startError(err)
	}
	p.api = raw.(*wire.Client)
	if p.desc, err = p.api.Describe(ctx); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("describe: %w", p.cause(err))
	}
	return p.useLane()
}

// useLane makes calls go by the lane if the plugin serves it. An older one does not.
func (p *process) useLane() error {
	if p.lane == nil {
		return nil
	}
	if !slices.Contains(p.desc.Capabilities, wire.CapabilityLane) {
		p.closeLane()
		return nil
	}
	return p.api.UseLane(p.lane)
}

func (p *process) closeLane() {
	if p.lane != nil {
		p.lane.Close()
	}
}

// startError says why the handshake failed.
func (p *process) startError(err error) error {
	switch {
	case p.child == nil:
		return err
	case p.child.ID() == "":
		return p.binary.explain(err)
	case p.child.endsWithin(deathPatience) && p.child.endedByItself():
		return fmt.Errorf("%w\n%s", p.death(), p.child.Diagnose(context.Background()))
	}
	return p.withLastLines(err)
}

// A deathError says why a plugin process ended by itself.
type deathError struct {
	how       string // exit status or signal
	lastLines string // of its stderr; may be empty
}

func (e *deathError) Error() string { return withLastLines(e.how, e.lastLines) }

// Unwrap makes the calls that a death cut off what they are: not answered, and safe to repeat.
func (e *deathError) Unwrap() error { return shared.ErrUnavailable }

func withLastLines(text, lines string) string {
	if lines == "" {
		return text
	}
	return text + "; its stderr ends with:\n" + lines
}

// death is why the process ended. It must have been reaped.
func (p *process) death() error {
	return &deathError{how: p.child.howItEnded(), lastLines: p.stderr.String()}
}

// withLastLines adds what a process that had to be killed wrote last.
func (p *process) withLastLines(err error) error {
	if lines := p.stderr.String(); lines != "" {
		return fmt.Errorf("%w; its stderr ends with:\n%s", err, lines)
	}
	return err
}

// cause is why a call of the process failed: its death, if that is what cut the call off.
func (p *process) cause(err error) error {
	if errors.Is(err, shared.ErrUnavailable) && p.child.endsWithin(deathPatience) && p.child.endedByItself() {
		return p.death()
	}
	return err
}

// adopt takes the child that is about to be started, unless the start was cut short before.
func (p *process) adopt(c *child) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		c.hangUp()
		return errors.New("canceled before it was started")
	}
	p.child = c
	return nil
}

// cutShort ends a start that is under way.
func (p *process) cutShort() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	if p.child != nil {
		_ = p.child.Kill(context.Background())
	}
}

// prepare has the plugin check its configuration.
func (p *process) prepare(ctx context.Context, file string, logger hclog.Logger) error {
	diags, err := p.api.Prepare(ctx, file)
	if err != nil {
		return fmt.Errorf("prepare plugin %s %s: %w", p.desc.Name, p.desc.Version, p.cause(err))
	}
	for _, d := range diags {
		if d.Severity == shared.SeverityWarning {
			logger.Warn("plugin configuration", "diagnostic", d.String())
		}
	}
	return diags.Err()
}

// expect tells the plugin which index this host used last. An older plugin does not implement it and compares nothing.
func (p *process) expect(ctx context.Context, id shared.IndexIdentity) error {
	if id.ID == "" {
		return nil
	}
	if err := p.api.Expect(ctx, id); err != nil && !errors.Is(err, shared.ErrUnimplemented) {
		return fmt.Errorf("prepare plugin %s %s: %w", p.desc.Name, p.desc.Version, p.cause(err))
	}
	return nil
}

// activate has the plugin take the index and answer one real call.
func (p *process) activate(ctx context.Context, steps []wire.StepPlan) error {
	if err := p.api.Activate(ctx, steps); err != nil {
		return fmt.Errorf("activate plugin %s %s: %w", p.desc.Name, p.desc.Version, p.cause(err))
	}
	health, err := p.api.Health(ctx)
	if err == nil && health.State != wire.StateActive {
		err = errors.New(health.Reason)
	}
	p.rules, p.index = health.Rules, health.Index
	if err == nil {
		_, err = p.api.Status(ctx, "recall", []string{"probe"}) // reads the index, as any call would
	}
	if err != nil {
		return fmt.Errorf("first call of plugin %s %s: %w", p.desc.Name, p.desc.Version, p.cause(err))
	}
	return nil
}

// pid is the process id.
func (p *process) pid() int {
	pid, _ := strconv.Atoi(p.child.ID())
	return pid
}

// exited is closed when the process has ended and was reaped.
func (p *process) exited() <-chan struct{} { return p.child.exited }

// release kills the process and frees its index, and tells whether it did: if it could not at once, the kernel does
// it when it comes to that.
func (p *process) release() (freed bool) {
	if err := p.child.Kill(context.Background()); err != nil || !p.child.going() {
		return false
	}
	return p.lock.unlock()
}

// kill ends the process with SIGKILL and returns when it is reaped and its socket is gone. What the plugin had
// acknowledged is on disk, so this is as clean as any other end.
func (p *process) kill() {
	if p.child != nil && p.child.ID() != "" {
		_ = p.child.Kill(context.Background())
		select {
		case <-p.child.exited:
		case <-time.After(killPatience):
			p.child.hangUp()
			<-p.child.exited
		}
	}
	p.client.Kill() // nothing to kill any more: it closes the connection
	p.lock.close()
	p.closeLane()
	if p.socketDir != "" {
		_ = os.RemoveAll(p.socketDir) // go-plugin does so only for a process that came to life
	}
}
