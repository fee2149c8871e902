package webhook_test

import (
	"context"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/chat-recall/recall/sidecar/internal/webhook"
)

var quiet = log.New(io.Discard, "", 0)

func pool(s *httptest.Server) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(s.Certificate())
	return p
}

// names starts a name server on a real socket, which knows these names alone, and returns a resolver that asks it.
func names(t *testing.T, known map[string]string) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, 512)
		for {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if err := m.Unpack(buffer[:n]); err != nil || len(m.Questions) != 1 {
				t.Errorf("no question: %v", err)
				return
			}
			answer(&m, known)
			packed, err := m.Pack()
			if err != nil {
				t.Error(err)
				return
			}
			server.WriteTo(packed, from)
		}
	}()
	t.Cleanup(func() { server.Close(); <-ended })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

func answer(m *dnsmessage.Message, known map[string]string) {
	q := m.Questions[0]
	m.Response, m.Additionals = true, nil
	ip, found := known[strings.TrimSuffix(q.Name.String(), ".")]
	if !found {
		m.RCode = dnsmessage.RCodeNameError
		return
	}
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
	switch a := netip.MustParseAddr(ip); {
	case a.Is4() && q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: a.As4()}}}
	case a.Is6() && q.Type == dnsmessage.TypeAAAA:
		m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}}}
	}
}

func TestRun_RefusedAddress(t *testing.T) {
	for url, want := range map[string]string{
		"https://169.254.169.254/latest":    "link-local",
		"http://169.254.169.254/latest":     "link-local",
		"https://2852039166/":               "no such host", // 169.254.169.254 as a number is a name here
		"https://[fe80::1]/":                "link-local",
		"https://[fe80::1%25lo]/":           "link-local",
		"https://[::ffff:169.254.169.254]/": "link-local",
		"https://[64:ff9b::a9fe:a9fe]/":     "link-local",
		"https://224.0.0.1/":                "multicast",
		"https://[ff02::1]/":                "multicast",
		"https://0.0.0.0/":                  "unspecified",
		"https://[::]/":                     "unspecified",
		"http://[::ffff:0.0.0.0]/":          "unspecified",
		"https://[fd00:ec2::254]/":          "metadata",
		"https://[fd00:ec2::254%25lo]/":     "metadata",
		"https://[fd00:ec2::23]/":           "metadata",
		"https://[fd20:ce::254]/":           "metadata",
		"https://100.100.100.200/":          "metadata",
		"https://168.63.129.16/":            "metadata",
		"http://192.0.2.1/":                 "plain http",
		"http://10.0.0.1/":                  "plain http",
		"http://[2001:db8::1]/":             "plain http",
		"http://[64:ff9b::7f00:1]/":         "plain http",
		"https://link-local.test/":          "link-local",
		"https://mapped.test/":              "link-local",
		"https://metadata.test/":            "metadata",
		"http://public.test/":               "plain http",
	} {
		t.Run(url, func(t *testing.T) {
			w := open(t, url, nil)
			w.Resolve(names(t, map[string]string{
				"link-local.test": "169.254.169.254", "mapped.test": "::ffff:169.254.169.254",
				"metadata.test": "fd00:ec2::254", "public.test": "192.0.2.1",
			}))
			if text := failure(t, w); !strings.Contains(text, want) {
				t.Errorf("got %q", text)
			}
		})
	}
}

// The dialer writes IPv4-mapped addresses as IPv4 today. The check does not rely on it.
func TestCheckAddress_Mapped(t *testing.T) {
	for _, address := range []string{"[::ffff:100.100.100.200]:443", "[::ffff:169.254.169.254]:443"} {
		if err := webhook.CheckAddress("https", address); err == nil {
			t.Errorf("%s is not refused", address)
		}
	}
	if err := webhook.CheckAddress("http", "[::ffff:127.0.0.1]:80"); err != nil {
		t.Error(err)
	}
}

// What counts is the address that a name leads to, and no proxy of the environment is asked: see TestMain.
func TestRun_Name(t *testing.T) {
	h, requests := keep(t)
	plain := serve(t, h)
	secure := httptest.NewTLSServer(h)
	t.Cleanup(secure.Close)
	resolver := names(t, map[string]string{"here.test": "127.0.0.1", "example.com": "127.0.0.1"})
	for _, test := range []struct {
		url    string
		server *httptest.Server
	}{
		{"http://here.test", plain},
		{"https://example.com", secure}, // the name in the certificate of httptest
	} {
		_, port, err := net.SplitHostPort(test.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		w := open(t, test.url+":"+port, nil)
		w.Resolve(resolver)
		w.Trust(pool(secure))
		run(t, w)
	}
	if len(requests()) != 2 {
		t.Errorf("got %d requests", len(requests()))
	}
}
