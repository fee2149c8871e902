package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	restartAfter = 200 * time.Millisecond
	stopTimeout  = 30 * time.Second
	startLimit   = 20 // starts in a row that last less than startPeriod, after which the demo gives up
	startPeriod  = time.Second
)

// process is a child of the demo. It is in the demo's process group, and the kernel ends it with the demo.
type process struct {
	name  string
	args  []string
	log   string // file
	cmd   *exec.Cmd
	done  chan struct{} // closed when cmd has ended
	began time.Time
	short int // starts in a row that did not last
}

func (p *process) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.done, p.began = make(chan struct{}), time.Now()
	go func(cmd *exec.Cmd, done chan<- struct{}) {
		_ = cmd.Wait() // its ProcessState says how it went
		close(done)
	}(p.cmd, p.done)
	return nil
}

func (p *process) stop() {
	if p.done == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// again reports whether a process that has just ended is to be started again.
func (p *process) again() bool {
	if time.Since(p.began) >= startPeriod {
		p.short = 0
	}
	p.short++
	return p.short < startLimit
}

// supervise starts the processes, calls ready, and starts again what ends, as systemd would. When ctx ends it stops
// them, the last one first. It must be called on a thread that lasts as long as the process.
func supervise(ctx context.Context, processes []*process, stdout io.Writer, ready func(context.Context) error) error {
	defer func() {
		for i := len(processes) - 1; i >= 0; i-- {
			processes[i].stop()
		}
	}()
	ended := make(chan *process)
	watch := func(p *process) {
		done := p.done
		go func() {
			<-done
			select {
			case ended <- p:
			case <-ctx.Done():
			}
		}()
	}
	for _, p := range processes {
		if err := p.start(); err != nil {
			return err
		}
		watch(p)
	}
	readied := make(chan error, 1)
	go func() { readied <- ready(ctx) }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-readied:
			if err != nil && ctx.Err() == nil {
				return err
			}
			readied = nil
		case p := <-ended:
			how := p.cmd.ProcessState
			if !p.again() {
				return fmt.Errorf("%s ends again and again (%s); see %s", p.name, how, p.log)
			}
			fmt.Fprintf(stdout, "%s ended (%s) and is started again.\n", p.name, how)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(restartAfter):
			}
			if err := p.start(); err != nil {
				return err
			}
			watch(p)
		}
	}
}
