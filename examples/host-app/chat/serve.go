package chat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
)

// Options configure Serve.
type Options struct {
	Addr   string // where to listen; a loopback address
	Data   Data
	Config string // path of plugin.hcl
	RunDir string // host.Config.RunDir

	// FramedBy is the origin of a page that may show those of this server in frames; empty: none but its own.
	FramedBy string
}

// Serve builds the plugin if it is missing, and runs the chat until ctx ends.
func Serve(ctx context.Context, o Options, stdout, stderr io.Writer) error {
	if err := CheckLoopback(o.Addr); err != nil {
		return err
	}
	limits, err := limitsOfProcess()
	if err != nil {
		return err
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "host-app", Level: hclog.Info, Output: stderr})
	if err := BuildPlugin(ctx, o.Config, stdout); err != nil {
		return err
	}
	held := new(heldCalls)
	s, plugin, err := Open(ctx, o.Data, host.Config{File: o.Config, RunDir: o.RunDir, OnHeld: held.add}, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := s.Close(); err != nil {
			log.Error("close", "error", err)
		}
	}()
	if err := addDemo(ctx, s); err != nil {
		return err
	}
	if err := greet(ctx, s); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return fmt.Errorf("listen: %w; choose another address with --addr", err)
	}
	a := &api{server: s, plugin: plugin, held: held, limits: limits, framedBy: o.FramedBy}
	web := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	web.RegisterOnShutdown(s.hub.KickAll)
	printGuide(stdout, listener.Addr().String())
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(limits.listen(listener)) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	log.Info("stopping")
	grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = web.Shutdown(grace)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests did not end in time: %w", err), web.Close())
	}
	<-failed
	return err
}

// CheckLoopback refuses an address that others can reach: whoever reaches this server is whom they say they are.
func CheckLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("--addr %s: %w", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--addr %s: this example has no passwords, so it listens on the loopback interface only; use "+
			"127.0.0.1 and a port", addr)
	}
	return nil
}
