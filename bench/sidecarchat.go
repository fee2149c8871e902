package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/chat-recall/recall/shared"
)

// webhookRule has recalls by an owner carry out the step history.
const webhookRule = `
permit "with_webhook" {
  role   = ["owner"]
  window = "7d"

  on_recall {
    steps = ["history"]
  }
}
`

// sidecarChat is a sidecar with messages in its index, and clients of several protocols. Workers pull the step notify,
// and the step history goes to a webhook here.
type sidecarChat struct {
	files   *chat // its folder; the host of it is never opened
	binary  string
	process *sidecarProcess
	client  *jsonClient

	json, connect, grpc calls

	hooks  *http.Server
	gate   atomic.Pointer[chan struct{}] // webhooks are answered once it is closed
	hooked atomic.Int64                  // webhooks that were answered
}

func (c *sidecarChat) start(ctx context.Context) error {
	if err := c.files.files(chatRules + webhookRule); err != nil {
		return err
	}
	c.process = &sidecarProcess{dir: c.files.dir(), binary: c.binary,
		steps: "step \"notify\" {\n  pull = true\n}\n\n" + webhookStep(shared.StepHistory)}
	if err := c.process.write(); err != nil {
		return err
	}
	var err error
	if c.hooks, err = serveUnix(c.process.hooks(), c); err != nil {
		return err
	}
	if err := c.process.start(); err != nil {
		return errors.Join(err, c.hooks.Close())
	}
	c.client = &jsonClient{http: unixClient(c.process.socket(), false)}
	c.json.api, c.connect.api = c.client, newRPCClient(c.process.socket(), false)
	c.grpc.api = newRPCClient(c.process.socket(), true)
	for _, by := range []*calls{&c.json, &c.connect, &c.grpc} {
		by.cpu, by.sidecar, by.dataset = c.process.cpuAll, c.process.cpu, c.files.dataset
		by.written.Store(0)
	}
	err = c.process.ready(ctx)
	if err == nil {
		err = c.json.fill(ctx, 0, c.files.size)
	}
	if err != nil {
		return errors.Join(err, c.close())
	}
	return nil
}

func (c *sidecarChat) renew(ctx context.Context) error {
	if c.json.written.Load()+c.connect.written.Load()+c.grpc.written.Load() <= mostGrowth*c.files.size {
		return nil
	}
	return errors.Join(c.close(), c.start(ctx))
}

func (c *sidecarChat) close() error {
	return errors.Join(c.process.stop(), c.hooks.Close(), os.RemoveAll(c.files.dir()))
}

// ServeHTTP answers a webhook.
func (c *sidecarChat) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	<-*c.gate.Load()
	w.WriteHeader(http.StatusNoContent)
	c.hooked.Add(1)
}

// serveUnix answers requests on a unix socket until the server is closed.
func serveUnix(path string, handler http.Handler) (*http.Server, error) {
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(ln) }()
	return server, nil
}
