package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin/runner"
)

// A child runs the plugin's process for go-plugin. go-plugin's own runner would do, but for two things: it gives no
// hold of the process while it starts, so a start that hangs could not be cut short; and it tells of every end of a
// process as an error, also of those that we ask for.
type child struct {
	source         string       // the file that the program is a private copy of
	recheck        func() error // of the program, after it was busy; may be nil
	cmd            *exec.Cmd
	stdout, stderr io.ReadCloser

	mu      sync.Mutex // orders the start against a kill
	killed  bool
	started bool
	busy    bool // its binary was, at the last try

	asked  atomic.Bool   // we ended it: its exit is no news
	exited chan struct{} // closed when it has been reaped
	exit   error         // how it ended; readable once exited is closed
}

var _ runner.Runner = (*child)(nil)

func newChild(cmd *exec.Cmd) (*child, error) {
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	return &child{cmd: cmd, stdout: stdout, stderr: stderr, exited: make(chan struct{})}, nil
}

// Start starts the process. A binary that was written a moment ago can be busy for as long as some other fork, made
// while it was open for writing, has not yet come to its exec. Start waits for that.
func (c *child) Start(ctx context.Context) error {
	for {
		err := c.tryStart()
		if !errors.Is(err, syscall.ETXTBSY) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
		if c.recheck != nil {
			if err := c.recheck(); err != nil {
				return err
			}
		}
	}
}

// tryStart starts the process unless it was killed before. Of a binary that is busy it may be tried again.
func (c *child) tryStart() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.killed {
		c.hangUp()
		return errors.New("canceled before it was started")
	}
	if c.busy {
		again := exec.Command(c.cmd.Path) // a Cmd is of single use
		again.Args, again.Env, again.Dir = c.cmd.Args, c.cmd.Env, c.cmd.Dir
		again.ExtraFiles, again.SysProcAttr = c.cmd.ExtraFiles, c.cmd.SysProcAttr
		fresh, err := newChild(again)
		if err != nil {
			return err
		}
		c.cmd, c.stdout, c.stderr = again, fresh.stdout, fresh.stderr
	}
	err := c.cmd.Start() // closes the pipes if it fails
	c.started, c.busy = err == nil, errors.Is(err, syscall.ETXTBSY)
	return err
}

// Wait reaps the process. go-plugin calls it once, when both its outputs have ended.
func (c *child) Wait(context.Context) error {
	c.exit = c.cmd.Wait()
	close(c.exited)
	if c.asked.Load() {
		return nil
	}
	return c.exit
}

// endsWithin tells whether the process ends, and is reaped, within this time.
func (c *child) endsWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c.exited:
		return true
	case <-timer.C:
		return false
	}
}

// Kill ends the process with SIGKILL, at once, whatever it is doing.
func (c *child) Kill(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killed = true
	if !c.started {
		return nil
	}
	select {
	case <-c.exited: // its number may be another's by now
		return nil
	default:
	}
	if !c.exiting() {
		c.asked.Store(true)
	}
	// The whole process group, which launch made: a child of the plugin would hold its outputs open.
	if err := syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// endedByItself tells, of a process that was reaped, whether something other than this host ended it.
func (c *child) endedByItself() bool {
	select {
	case <-c.exited:
	default:
		return false
	}
	status, ok := c.status()
	return !c.asked.Load() || ok && !(status.Signaled() && status.Signal() == syscall.SIGKILL)
}

// status is how a process that was reaped ended, as the kernel tells it.
func (c *child) status() (status syscall.WaitStatus, ok bool) {
	if c.cmd.ProcessState == nil {
		return 0, false
	}
	status, ok = c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return status, ok
}

// howItEnded describes the end of a process that was reaped.
func (c *child) howItEnded() string {
	status, ok := c.status()
	switch {
	case !ok:
		return fmt.Sprintf("it ended: %v", c.exit)
	case status.Signaled() && status.Signal() == syscall.SIGKILL:
		return "it was killed by SIGKILL, not by this host; the kernel may have killed it for memory (see dmesg)"
	case status.Signaled():
		return fmt.Sprintf("it was killed by signal %d (%s)", status.Signal(), status.Signal())
	}
	return fmt.Sprintf("it ended with exit status %d", status.ExitStatus())
}

// goingPatience is how long going waits: a write to a slow disk is waited for elsewhere just as well.
const goingPatience = 20 * time.Millisecond

// going tells, of a process that was killed, whether all of it is past the point of no return: no thread of it runs its
// program any more or is within a system call, such as a write. What is left is the kernel taking back what it had.
func (c *child) going() bool {
	pid := c.ID()
	if pid == "" || !procIsOurs() {
		return false
	}
	for deadline := time.Now().Add(goingPatience); time.Now().Before(deadline); time.Sleep(100 * time.Microsecond) {
		select {
		case <-c.exited:
			return true
		default:
		}
		if allExiting("/proc/" + pid) {
			return true
		}
	}
	return false
}

// exiting tells, with mu held, whether the process is ending already.
func (c *child) exiting() bool {
	if !procIsOurs() {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(c.cmd.Process.Pid) + "/stat")
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) || err == nil && threadExiting(stat)
}

// procIsOurs tells whether /proc numbers processes as this one does. It may be of another PID namespace.
func procIsOurs() bool {
	self, err := os.Readlink("/proc/self")
	return err == nil && self == strconv.Itoa(os.Getpid())
}

// flagExiting is the flag of a thread that the kernel is taking down. (PF_EXITING, <linux/sched.h>; proc_pid_stat(5))
const flagExiting = 0x4

// threadExiting reads that from the thread's stat.
func threadExiting(stat []byte) bool {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	return err == nil && flags&flagExiting != 0
}

// allExiting tells whether every thread of a process is being taken down, or gone.
func allExiting(proc string) bool {
	status, err := os.ReadFile(proc + "/status")
	if err != nil {
		return false // also where it was reaped, and then exited is about to be closed
	}
	_, rest, _ := strings.Cut(string(status), "\nThreads:")
	count, _, _ := strings.Cut(rest, "\n")
	threads, err := strconv.Atoi(strings.TrimSpace(count))
	if err != nil {
		return false
	}
	tasks, err := os.ReadDir(proc + "/task")
	if err != nil || len(tasks) < threads { // a list is cut short where a thread ends while it is made
		return false
	}
	for _, task := range tasks {
		stat, err := os.ReadFile(proc + "/task/" + task.Name() + "/stat")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it is gone
		}
		if err != nil || !threadExiting(stat) {
			return false
		}
	}
	return true
}

// hangUp stops listening to the outputs, so that Wait goes on whoever still holds them.
func (c *child) hangUp() {
	c.stdout.Close()
	c.stderr.Close()
}

func (c *child) Stdout() io.ReadCloser { return c.stdout }
func (c *child) Stderr() io.ReadCloser { return c.stderr }
func (c *child) Name() string          { return "plugin" } // in logs
// ID is the process id, empty before the start.
func (c *child) ID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started {
		return ""
	}
	return strconv.Itoa(c.cmd.Process.Pid)
}

// Diagnose adds to go-plugin's complaint about a first line that is no handshake.
func (c *child) Diagnose(context.Context) string {
	return "Is " + c.source + " a recall-plugin built for this machine? Run it by hand with the word version."
}

func (c *child) PluginToHost(network, addr string) (string, string, error) { return network, addr, nil }
func (c *child) HostToPlugin(network, addr string) (string, string, error) { return network, addr, nil }
