package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/chat-recall/recall/sidecar/internal/config"
)

const healthTimeout = 5 * time.Second

// healthcheck asks the first listener without TLS whether the sidecar is ready.
func healthcheck(file string, stdout, stderr io.Writer) int {
	err := askReady(file)
	if err != nil {
		fmt.Fprintln(stderr, "recall-sidecar: not ready:", err)
		return exitBad
	}
	fmt.Fprintln(stdout, "ready")
	return exitGood
}

func askReady(file string) error {
	f, found := config.Load(file)
	if f == nil {
		return fmt.Errorf("the configuration has errors\n%s", found)
	}
	for _, l := range f.Listeners {
		if l.TLSCert != "" {
			continue
		}
		address := l.Path
		if l.Network != "unix" {
			address = l.Address
		}
		client := &http.Client{Timeout: healthTimeout, Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, l.Network, address)
			},
		}}
		answer, err := client.Get("http://localhost/readyz")
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return nil
		}
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
		return fmt.Errorf("%s", strings.TrimSpace(string(text)))
	}
	return fmt.Errorf("%s has no listener without TLS to ask; add a block listen \"unix\"", file)
}
