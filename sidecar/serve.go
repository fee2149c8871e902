package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/sidecar/internal/api"
	"github.com/chat-recall/recall/sidecar/internal/config"
	"github.com/chat-recall/recall/sidecar/internal/pull"
	"github.com/chat-recall/recall/sidecar/internal/secret"
	"github.com/chat-recall/recall/sidecar/internal/server"
	"github.com/chat-recall/recall/sidecar/internal/webhook"
)

const (
	// shutdownTimeout bounds how long requests under way are answered after SIGTERM: as long as a call may take.
	shutdownTimeout = api.Timeout

	// takeTimeout is how long a delivery may wait for a worker before the attempt fails, so that the ledger says why.
	takeTimeout = time.Hour

	reloadTimeout = 30 * time.Second
)

// sidecar is what sidecar.hcl describes.
type sidecar struct {
	file    *config.File
	secrets []interface{ Read() error } // what SIGHUP reads again
	tokens  []*secret.File              // by listener; nil if it has no token_file
	tls     []*server.TLS               // by listener; nil if it has no tls_cert
	hooks   map[string]*secret.File     // by step
}

// load reads sidecar.hcl and the secrets that it names.
func load(file string) (*sidecar, hclfile.Diagnostics, error) {
	f, found := config.Load(file)
	if f == nil {
		return nil, found, errors.New("the configuration has errors")
	}
	s := &sidecar{file: f, hooks: map[string]*secret.File{}}
	keep := func(one *secret.File) (*secret.File, error) {
		s.secrets = append(s.secrets, one)
		return one, one.Read()
	}
	for _, l := range f.Listeners {
		var tokens *secret.File
		if l.TokenFile != "" {
			var err error
			if tokens, err = keep(secret.Tokens(l.TokenFile)); err != nil {
				return nil, found, err
			}
		}
		s.tokens = append(s.tokens, tokens)
		var settings *server.TLS
		if l.TLSCert != "" {
			settings = server.NewTLS(l)
			s.secrets = append(s.secrets, settings)
			if err := settings.Read(); err != nil {
				return nil, found, err
			}
		}
		s.tls = append(s.tls, settings)
	}
	for _, step := range f.Steps {
		if step.Pull {
			continue
		}
		secrets, err := keep(secret.WebhookSecrets(step.SecretFile))
		if err != nil {
			return nil, found, err
		}
		s.hooks[step.Name] = secrets
	}
	return s, found, nil
}

// checkConfig is recall-sidecar --check.
func checkConfig(file string, stdout, stderr io.Writer) int {
	s, found, err := load(file)
	fmt.Fprint(stderr, found)
	if err == nil {
		_, err = host.ConfiguredBinary(s.file.PluginFile)
	}
	if err != nil {
		fmt.Fprintln(stderr, "recall-sidecar:", err)
		return exitBad
	}
	fmt.Fprintf(stdout, "%s is valid; recall-plugin check --config %s checks the rules\n", file, s.file.PluginFile)
	return exitGood
}

// serve is recall-sidecar without a command.
func serve(file string, stderr io.Writer) int {
	defer reserveHeap()()
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP) // first: it would end the process
	log := slog.New(slog.NewJSONHandler(stderr, nil))
	s, found, err := load(file)
	if len(found) > 0 {
		fmt.Fprint(stderr, found)
	}
	if err == nil {
		err = s.serve(log, hangUp)
	}
	if err != nil {
		log.Error("recall-sidecar ends", "error", err)
		return exitBad
	}
	return exitGood
}

// pulled returns the steps that workers take.
func (s *sidecar) pulled() map[string]pull.Step {
	pulled := map[string]pull.Step{}
	for _, step := range s.file.Steps {
		if step.Pull {
			pulled[step.Name] = pull.Step{Lease: step.Timeout, AtATime: step.AtATime}
		}
	}
	return pulled
}

// steps returns the steps of the host.
func (s *sidecar) steps(broker *pull.Broker) map[string]host.Step {
	steps := map[string]host.Step{}
	for _, step := range s.file.Steps {
		one := host.Step{After: step.After, EachNode: step.EachNode}
		if step.Pull {
			one.Run, one.Timeout, one.Concurrency = broker.Run, takeTimeout+step.Timeout, shared.MaxDeliveries
		} else {
			one.Run = webhook.New(webhook.Config{URL: step.Webhook, Socket: step.Socket, AtATime: step.AtATime,
				Secrets: s.hooks[step.Name].Values, Encode: api.Webhook}).Run
			one.Timeout, one.Concurrency = step.Timeout, step.AtATime
		}
		steps[step.Name] = one
	}
	return steps
}

// serve answers requests until a signal ends it, or a listener fails.
func (s *sidecar) serve(log *slog.Logger, hangUp <-chan os.Signal) error {
	tell, err := notifier()
	if err != nil {
		return err
	}
	listeners, err := server.Listen(s.file.Listeners,
		s.tls) // first: whoever connects from now on waits and is not refused
	if err != nil {
		return err
	}
	signals, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	service := api.New(s.pulled())
	front := server.New(service, s.file.MaxInFlight, log)
	for i, ln := range listeners {
		front.Serve(ln, s.file.Listeners[i], s.tokens[i])
	}
	log.Info("listening", "version", version(), "listeners", s.addresses(listeners))
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		front.Shutdown(ctx)
	}()
	recall, err := host.Open(signals, host.Config{
		File: s.file.PluginFile, RunDir: s.file.RunDir, Steps: s.steps(service.Broker), Logger: host.FromSlog(log),
	})
	if err != nil {
		if signals.Err() != nil {
			return nil
		}
		return err
	}
	service.Open(recall)
	tell("READY=1")
	log.Info("ready", "plugin", recall.State().Version)
	err = s.wait(signals, hangUp, front, recall, log)
	log.Info("stopping")
	tell("STOPPING=1")
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	front.Shutdown(ctx)
	return errors.Join(err, recall.Close())
}

// wait reads secrets and rules again on SIGHUP, until a signal or an error ends it.
func (s *sidecar) wait(signals context.Context, hangUp <-chan os.Signal, front *server.Server, recall *host.Host,
	log *slog.Logger) error {
	for {
		select {
		case <-signals.Done():
			return nil
		case err := <-front.Failed():
			return err
		case <-hangUp:
			for _, f := range s.secrets {
				if err := f.Read(); err != nil {
					log.Error("the secrets that were read before stay in force", "error", err)
				}
			}
			ctx, cancel := context.WithTimeout(signals, reloadTimeout)
			found, err := recall.Reload(ctx)
			cancel()
			log.Info("secrets and rules were read again", "error", err, "diagnostics", len(found))
			for _, d := range found {
				log.Warn("reload", "diagnostic", d.String())
			}
		}
	}
}

// addresses returns where requests arrive. A unix socket was renamed after it was bound, and does not know its path.
func (s *sidecar) addresses(all []net.Listener) (list []string) {
	for i, ln := range all {
		list = append(list, cmp.Or(s.file.Listeners[i].Path, ln.Addr().String()))
	}
	return list
}
