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

// Serve runs the chat on addr until ctx ends. Its data is in the folder data; config is the path of plugin.hcl.
func Serve(ctx context.Context, addr, data, config string, stdout, stderr io.Writer) error {
	if err := checkLoopback(addr); err != nil {
		return err
	}
	limits, err := limitsOfProcess()
	if err != nil {
		return err
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "host-app", Level: hclog.Info, Output: stderr})
	if err := BuildPlugin(ctx, config, stdout); err != nil {
		return err
	}
	held := new(heldCalls)
	s, plugin, err := Open(ctx, data, host.Config{File: config, OnHeld: held.add}, log)
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
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen: %w; choose another address with --addr", err)
	}
	a := &api{server: s, plugin: plugin, held: held, limits: limits}
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

// checkLoopback refuses an address that others can reach: whoever reaches this server is whom they say they are.
func checkLoopback(addr string) error {
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
