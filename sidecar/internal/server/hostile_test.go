package server

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
	v1 "github.com/chat-recall/recall/sidecar/apiv1"
	"github.com/chat-recall/recall/sidecar/apiv1/apiv1connect"
	"github.com/chat-recall/recall/sidecar/internal/api"
	"github.com/chat-recall/recall/sidecar/internal/config"
)

// A client that announces a body and never sends it holds nothing for longer than bodyTimeout, and who may not ask is
// answered at once.
func TestServer_BodyThatNeverComes(t *testing.T) {
	unsent := func(path, more string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
			"Content-Length: 1000\r\n" + more + "\r\n"
	}
	cases := []struct {
		name, network, text string
		status              int
		atOnce              bool
	}{
		{"without a token", config.TCP, unsent("/v1/index", ""), 401, true},
		{"that waits to be asked for it", config.TCP, unsent("/v1/index", "Expect: 100-continue\r\n"), 401, true},
		{"from a web page", config.Unix, unsent("/healthz", "Origin: x\r\n"), 403, true},
		{"to no path", config.Unix, unsent("/none", ""), 404, false},
		{"of a call", config.Unix, unsent("/v1/index", ""), 408, false},
	}
	const never = time.Hour // dial gives up before
	for _, timeout := range []time.Duration{100 * time.Millisecond, never} {
		setBodyTimeout(t, timeout)
		r := opened(t, nil)
		for _, c := range cases {
			if timeout == never && !c.atOnce {
				continue
			}
			t.Run(fmt.Sprintf("%s within %s", c.name, timeout), func(t *testing.T) {
				conn := r.dial(t, c.network)
				defer conn.Close()
				if _, err := io.WriteString(conn, c.text); err != nil {
					t.Fatal(err)
				}
				if a := read(t, conn); a.StatusCode != c.status {
					t.Error(a.Status)
				}
				if timeout == never {
					return
				}
				if _, err := io.ReadAll(conn); err != nil {
					t.Errorf("the connection stays: %v", err)
				}
			})
		}
	}
}

// Health is asked without a token. It takes no place from those who have one, and no memory.
func TestServer_HostileHealth(t *testing.T) {
	r := opened(t, nil)
	for range cap(r.inFlight) {
		r.inFlight <- struct{}{}
	}
	ask := func(more string, body []byte) answer {
		return r.raw(t, config.TCP, request(healthPath, "Content-Type: application/proto\r\n"+more, string(body)))
	}
	good, err := proto.Marshal(&grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if a := ask("", good); a.StatusCode != 200 {
		t.Errorf("%s %s", a.Status, a.text)
	}
	large, err := proto.Marshal(&grpc_health_v1.HealthCheckRequest{Service: strings.Repeat("x", MaxBody/2)})
	if err != nil {
		t.Fatal(err)
	}
	if a := ask("", large[:100<<10]); a.StatusCode < 400 {
		t.Errorf("100 KiB: %s", a.Status)
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(large)
	_ = z.Close()
	if a := ask("Content-Encoding: gzip\r\n", bomb.Bytes()); a.StatusCode < 400 {
		t.Errorf("%d bytes that become %d: %s", bomb.Len(), len(large), a.Status)
	}
}

// Compressed requests are refused in every protocol.
func TestServer_Compressed(t *testing.T) {
	r := opened(t, nil)
	for name, client := range map[string]apiv1connect.RecallServiceClient{
		"grpc": apiv1connect.NewRecallServiceClient(r.client(true), "http://localhost", connect.WithGRPC(),
			connect.WithSendGzip()),
		"connect": apiv1connect.NewRecallServiceClient(r.client(false), "http://localhost", connect.WithSendGzip()),
	} {
		_, err := client.Status(t.Context(), &v1.StatusRequest{Tenant: "acme", Ids: []string{"m"}})
		if connect.CodeOf(err) != connect.CodeUnimplemented {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A few bytes cannot stand for much memory.
func TestServer_ManyValues(t *testing.T) {
	r := opened(t, nil)
	a := r.raw(t, config.Unix, request("/v1/index", "", `{"messages":[{}`+strings.Repeat(",{}", 5_000_000)+`]}`))
	if a.StatusCode != 400 || !strings.Contains(a.problem.Detail, "values") {
		t.Errorf("%s %s", a.Status, a.text)
	}
	empty := bytes.Repeat([]byte{10, 0}, 5_000_000)
	if err := (api.Binary{}).Unmarshal(empty, &v1.IndexRequest{}); !errors.Is(err, shared.ErrInvalid) {
		t.Error(err)
	}
	nested, err := proto.Marshal(&v1.IndexRequest{
		Messages: []*v1.Message{{Attachments: make([]*v1.Attachment, 5_000_000)}},
	})
	if err == nil {
		err = (api.Binary{}).Unmarshal(nested, &v1.IndexRequest{})
	}
	if !errors.Is(err, shared.ErrInvalid) {
		t.Error(err)
	}
	full := &v1.Message{Labels: make([]string, shared.MaxLabels), Conversation: group()}
	for range shared.MaxAttachments {
		full.Attachments = append(full.Attachments, &v1.Attachment{Key: "k", Owner: "o"})
	}
	most := &v1.IndexRequest{}
	for range shared.MaxIndexBatch {
		most.Messages = append(most.Messages, full)
	}
	for name, codec := range map[string]connect.Codec{"json": api.JSON{}, "binary": api.Binary{}} {
		data, err := codec.Marshal(most)
		if err == nil {
			err = codec.Unmarshal(data, &v1.IndexRequest{})
		}
		if err != nil {
			t.Errorf("the largest call of index, as %s: %v", name, err)
		}
	}
}

func TestServer_Options(t *testing.T) {
	r := opened(t, nil)
	a := r.raw(t, config.TCP, "OPTIONS * HTTP/1.1\r\nHost: evil.example\r\n\r\n")
	if a.StatusCode != http.StatusMisdirectedRequest {
		t.Error(a.Status)
	}
}

func TestMatch(t *testing.T) {
	dir := hosttest.RunDir(t)
	socket := func(name string, mode os.FileMode) net.Listener {
		path := filepath.Join(dir, name)
		ln, err := net.Listen("unix", path)
		if err == nil {
			err = os.Chmod(path, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		return ln
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	passed := []net.Listener{socket("a", 0o660), socket("b", 0o666), tcp}
	for _, c := range []struct {
		listener config.Listener
		want     int
		refused  string
	}{
		{config.Listener{Network: config.TCP, Address: tcp.Addr().String()}, 2, ""},
		{config.Listener{Network: config.Unix, Path: filepath.Join(dir, "a"), Mode: 0o660}, 0, ""},
		{config.Listener{Network: config.Unix, Path: filepath.Join(dir, "a"), Mode: 0o600}, 0, "SocketMode=0600"},
		{config.Listener{Network: config.Unix, Path: filepath.Join(dir, "b"), Mode: 0o660}, 1, "has mode 0666"},
		{config.Listener{Network: config.Unix, Path: filepath.Join(dir, "c"), Mode: 0o660}, 0, "passed no socket"},
		{config.Listener{Network: config.TCP, Address: "127.0.0.1:1"}, 0, "ListenStream=127.0.0.1:1"},
	} {
		ln, rest, err := match(c.listener, passed)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) || len(rest) != len(passed) {
				t.Errorf("%+v: %v", c.listener, err)
			}
			continue
		}
		if err != nil || ln != passed[c.want] || len(rest) != len(passed)-1 {
			t.Errorf("%+v: %v %v", c.listener, ln, err)
		}
	}
	if text := fmt.Sprint(passed[0].Addr()); text != filepath.Join(dir, "a") {
		t.Error(text)
	}
}
