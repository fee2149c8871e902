package main

import (
	"context"
	"crypto/rand"
	_ "embed" // of the templates
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"time"

	adapter "github.com/chat-recall/recall/adapters/prosody"
	"github.com/chat-recall/recall/rules"
)

const install = "apt-get install prosody lua-dbi-sqlite3 lua-posix"

//go:embed prosody.cfg.lua.tmpl
var prosodyConfig string

//go:embed mod_recall_demo.lua
var demoModule []byte

const pluginConfig = `plugin {
  binary = "recall-plugin"
}

index {
  path = "index"
}

rules {
  paths = ["rules.hcl"]
}
`

// rulesText is the built-in policy with another window.
func rulesText(window string) []byte {
	text := rules.Default().Files()[0].Text
	return regexp.MustCompile(`window += "2m".*`).ReplaceAll(text, fmt.Appendf(nil, "window = %q", window))
}

// demo is what prepare has put into the folder of the data.
type demo struct {
	options
	prosody, sidecar string // programs
}

func (d *demo) path(name string) string { return filepath.Join(d.data, name) }

// prepare finds or builds the programs, and writes their configuration.
func prepare(ctx context.Context, o options, stdout io.Writer) (*demo, error) {
	d := &demo{options: o}
	var err error
	if d.data, err = filepath.Abs(o.data); err != nil {
		return nil, err
	}
	for _, port := range []int{portC2S, portHTTP, portSidecar} {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", o.port(port)))
		if err != nil {
			return nil, fmt.Errorf("%w; --offset moves all ports", err)
		}
		l.Close()
	}
	if d.prosody, err = exec.LookPath("prosody"); err != nil {
		return nil, fmt.Errorf("prosody is not installed: %s, then systemctl disable --now prosody", install)
	}
	if o.storage == "sql" {
		script := `assert(require "DBI".Connect("SQLite3", ":memory:"))`
		if err := exec.CommandContext(ctx, "lua5.4", "-e", script).Run(); err != nil {
			return nil, fmt.Errorf("lua5.4 has no SQLite (%w): %s", err, install)
		}
	}
	for _, dir := range []string{d.data, d.path("prosody"), d.path("plugins")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	d.sidecar = d.path("recall-sidecar")
	for _, name := range []string{"plugin", "sidecar"} {
		if err := build(ctx, d.path("recall-"+name), name, stdout); err != nil {
			return nil, err
		}
	}
	return d, d.configure()
}

// build builds a program of this module, unless it is there.
func build(ctx context.Context, path, name string, stdout io.Writer) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fmt.Fprintf(stdout, "Building recall-%s. The first build takes some minutes and about 1 GB of disk.\n", name)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/chat-recall/recall/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w; run the demo in a clone of the repository, with Go 1.26 or later\n%s", err, out)
	}
	return nil
}

func (d *demo) configure() error {
	files := map[string][]byte{
		"plugin.hcl":                  []byte(pluginConfig),
		"rules.hcl":                   rulesText(d.window.String()),
		"plugins/mod_recall_demo.lua": demoModule,
	}
	token, err := os.ReadFile(d.path("token"))
	if errors.Is(err, fs.ErrNotExist) {
		token, err = []byte(rand.Text()+"\n"), nil
	}
	if err != nil {
		return err
	}
	files["token"] = token
	files["sidecar.hcl"] = adapter.SidecarConfig(fmt.Sprintf("127.0.0.1:%d", d.port(portSidecar)))
	var config strings.Builder
	t := template.Must(template.New("").Funcs(template.FuncMap{"lua": strconv.Quote}).Parse(prosodyConfig))
	err = t.Execute(&config, map[string]any{
		"Data": d.path("prosody"), "Plugins": d.path("plugins"), "PID": d.path("prosody.pid"), "Token": d.path("token"),
		"Storage": d.storage, "C2S": d.port(portC2S), "HTTP": d.port(portHTTP), "Sidecar": d.port(portSidecar),
	})
	if err != nil {
		return err
	}
	files["prosody.cfg.lua"] = []byte(config.String())
	if err := d.copyModule(); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(d.path(name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// copyModule copies mod_recall to where Prosody looks for it.
func (d *demo) copyModule() error {
	to := d.path("plugins")
	if err := os.RemoveAll(filepath.Join(to, "mod_recall")); err != nil {
		return err
	}
	return os.CopyFS(to, adapter.Module)
}

// awaitReady waits until the sidecar answers calls and Prosody accepts connections.
func (d *demo) awaitReady(ctx context.Context) error {
	addresses := []string{
		fmt.Sprintf("http://127.0.0.1:%d/readyz", d.port(portSidecar)),
		fmt.Sprintf("http://127.0.0.1:%d/", d.port(portHTTP)),
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ready := 0
		for _, address := range addresses {
			if answers(ctx, address) {
				ready++
			}
		}
		if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", d.port(portC2S))); err == nil {
			conn.Close()
			ready++
		}
		if ready == len(addresses)+1 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// answers reports whether an HTTP server answers, with anything but 503.
func answers(ctx context.Context, address string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode != http.StatusServiceUnavailable
}
