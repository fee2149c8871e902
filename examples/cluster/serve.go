package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/chat-recall/recall/examples/host-app/chat"
	"github.com/chat-recall/recall/internal/natscluster"
)

// serve starts everything, and serves the page until ctx ends. Then it ends everything.
func serve(ctx context.Context, addr string, stdout io.Writer) (err error) {
	listener, err := net.Listen("tcp", addr) // before the builds, which take their time
	if err != nil {
		return fmt.Errorf("listen: %w; choose another address with --addr", err)
	}
	defer listener.Close()
	folder, err := os.MkdirTemp("", "recall-cluster-")
	if err != nil {
		return fmt.Errorf("make a folder for the servers: %w; name another place in TMPDIR", err)
	}
	defer func() {
		if ctx.Err() != nil { // Ctrl-C: what failed, failed because of that
			err = nil
		}
		err = errors.Join(err, os.RemoveAll(folder))
	}()
	f := &fleet{folder: folder, origin: "http://" + listener.Addr().String()}
	if err := f.build(ctx, stdout); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if err := f.start(ctx, stdout); err != nil {
		return err
	}
	web := &http.Server{Handler: (&page{f}).handler(), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(listener) }()
	fmt.Fprintf(stdout, `Open %s in a browser: Ann, Ben and Cleo are each on another server. Send a message
and take it back; kill and stop whatever runs, and see that nothing is lost. End everything with Ctrl-C.
`, f.origin)
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	fmt.Fprintln(stdout, "Stopping.")
	err = web.Close()
	<-failed
	return err
}

// build builds the NATS server and the plugin, and writes the configuration of each node.
func (f *fleet) build(ctx context.Context, stdout io.Writer) error {
	if err := checkModule(ctx); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "Building the NATS server. The first build takes some minutes.")
	binary, err := natscluster.BuildCached(ctx)
	if err != nil {
		return fmt.Errorf("%w\nThe build needs the Internet, or the module proxy that go env GOPROXY names", err)
	}
	f.options = natscluster.Options{Binary: binary, Folder: filepath.Join(f.folder, "nats"), Count: count}
	config := filepath.Join(f.folder, "build.hcl")
	text := fmt.Sprintf("plugin {\n  binary = %q\n}\n\nindex {\n  path = \"index\"\n}\n", f.plugin())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	return chat.BuildPlugin(ctx, config, stdout)
}

// checkModule checks that there is something to build, and Go to build it with.
func checkModule(ctx context.Context) error {
	const module = "github.com/chat-recall/recall"
	if _, err := exec.LookPath("go"); err != nil {
		return fmt.Errorf("%w: this example builds what it starts; install Go, https://go.dev/dl", err)
	}
	out, err := exec.CommandContext(ctx, "go", "list", "-m").Output()
	if err != nil || strings.TrimSpace(string(out)) != module {
		return fmt.Errorf("this folder is not in the module %s: run go run ./examples/cluster in a clone of it", module)
	}
	return nil
}
