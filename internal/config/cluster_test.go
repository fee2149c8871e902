package config

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/hclfile"
)

// inCluster returns a plugin.hcl with these lines in its block "cluster", which begins in line 7.
func inCluster(lines ...string) []byte {
	const alone = "plugin {\n  binary = \"b\"\n}\nindex {\n  path = \"i\"\n}\n"
	return []byte(alone + "cluster {\n  " + strings.Join(lines, "\n  ") + "\n}\n")
}

// enough are the attributes that the block needs, without the one that a test replaces.
func enough(without string) (lines []string) {
	for _, line := range []string{
		`node = "n0"`, `urls = ["tls://a:4222"]`, `system_credentials = "sys.creds"`,
	} {
		if !strings.HasPrefix(line, without+" =") {
			lines = append(lines, line)
		}
	}
	return lines
}

// files writes what the block "cluster" names into a folder and returns it.
func files(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	cert, key := certificate(t)
	_, otherKey := certificate(t)
	for name, text := range map[string]string{
		"recall.creds": "recall:secret\n", "sys.creds": "sys:secret\n", "ca.pem": cert, "n0.pem": cert, "n0.key": key,
		"other.key": otherKey, "empty": "", "large.creds": strings.Repeat("x", 64<<10+1),
		"large.pem": strings.Repeat("x", 1<<20+1), "bundle.pem": strings.Repeat(cert, (1<<20)/len(cert)),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// certificate makes a certificate and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func TestParse_WholeCluster(t *testing.T) {
	dir := files(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	text := inCluster(
		`node               = "n0"`,
		`urls               = ["tls://10.0.0.1:4222", "nats://nats-2.example", "tls://[2001:db8::1]:4222"]`,
		`stream             = "CHAT_RECALL-2"`,
		`replicas           = 5`,
		`credentials        = "recall.creds"`,
		`system_credentials = "./sys.creds"`,
		`durability         = "checked"`,
		`ca                 = "ca.pem"`,
		`cert               = "`+at("n0.pem")+`"`,
		`key                = "n0.key"`,
		`lease              = "1m30s"`,
		`forget_after       = "48h"`,
		`snapshot_entries   = 1000`,
	)
	want := &ClusterBlock{
		Node: "n0", URLs: []string{"tls://10.0.0.1:4222", "nats://nats-2.example", "tls://[2001:db8::1]:4222"},
		Stream: "CHAT_RECALL-2", Replicas: 5, Credentials: at("recall.creds"), SystemCredentials: at("sys.creds"),
		CA: at("ca.pem"), Cert: at("n0.pem"), Key: at("n0.key"), Lease: 90 * time.Second, ForgetAfter: 48 * time.Hour,
		SnapshotEntries: 1000,
	}
	for name, view := range map[string]View{"whole": Whole, "host": Host, "plugin": Plugin} {
		if f, ds := view.Parse(at("plugin.hcl"), text); len(ds) > 0 || !reflect.DeepEqual(f.Cluster, want) {
			t.Errorf("%s: got %+v %s, want %+v", name, f, render(ds), want)
		}
	}
}

func TestParse_ClusterDefaults(t *testing.T) {
	want := &ClusterBlock{
		Node: "n0", URLs: []string{"tls://a:4222"}, SystemCredentials: "/p/sys.creds", Stream: "RECALL", Replicas: 3,
		Lease: 15 * time.Second, ForgetAfter: 24 * time.Hour, SnapshotEntries: 200_000,
	}
	for name, more := range map[string][]string{
		"what is not set": nil,
		"what is null": {"stream = null", "replicas = null", "credentials = null", "durability = null", "ca = null",
			"cert = null", "key = null", "lease = null", "forget_after = null", "snapshot_entries = null"},
	} {
		f, ds := Host.Parse("/p/plugin.hcl", inCluster(append(enough(""), more...)...))
		if len(ds) > 0 || !reflect.DeepEqual(f.Cluster, want) {
			t.Errorf("%s: got %+v %s, want %+v", name, f, render(ds), want)
		}
	}
	alone, _, _ := bytes.Cut(inCluster(), []byte("cluster"))
	if f, ds := Whole.Parse("/p/plugin.hcl", alone); f == nil || f.Cluster != nil || len(ds) > 0 {
		t.Errorf("without the block: %+v %s", f, render(ds))
	}
}

// Every limit is taken, and what is one beyond it is refused below.
func TestParse_ClusterLimits(t *testing.T) {
	longest := strings.Repeat("n", 64)
	for attribute, values := range map[string][]string{
		"node":             {`"n"`, `"` + longest + `"`, `"eu-1.chat_0"`},
		"stream":           {`"S"`, `"` + longest + `"`},
		"replicas":         {"1", "3", "5", "3.0"},
		"lease":            {`"3s"`, `"10m"`},
		"forget_after":     {`"1m"`, `"720h"`},
		"snapshot_entries": {"1000", "100000000"},
		"urls": {`["tls://a", "nats://a:1", "tls://a:65535"]`,
			"[" + addresses(16) + "]"},
	} {
		for _, v := range values {
			if _, ds := Host.Parse("/p/plugin.hcl", inCluster(append(enough(attribute), attribute+" = "+v)...)); len(ds) > 0 {
				t.Errorf("%s = %s: %s", attribute, v, render(ds))
			}
		}
	}
}

// addresses are n different texts.
func addresses(n int) string {
	var list []string
	for i := range n {
		list = append(list, `"tls://n`+strings.Repeat("1", i+1)+`"`)
	}
	return strings.Join(list, ", ")
}

func TestParse_WrongCluster(t *testing.T) {
	const (
		lease   = "3s to 10m0s"
		forget  = "1m0s to 720h0m0s"
		entries = "1000 to 100000000"
		name    = "a name is 1 to 64 letters, digits, "
		server  = "is not the address of a server: nats:// or tls://, a host, and a port if it is not 4222"
	)
	long := strings.Repeat("n", 65)
	for _, c := range []struct {
		attribute, value string
		at               string // line and column; "": those of the value
		want             string
	}{
		{"node", `"n 0"`, "", `cluster.node is "n 0"; ` + name},
		{"node", `"n/0"`, "", `cluster.node is "n/0"; ` + name},
		{"node", `"nöd"`, "", `cluster.node is "nöd"; ` + name},
		{"node", `"` + long + `"`, "", `cluster.node is "` + long + `"; ` + name},
		{"node", `""`, "", "cluster.node is empty"},
		{"node", `7`, "", "cluster.node is not a text"},
		{"node", `null`, "7:1", `the block "cluster" needs "node"`},

		{"urls", `null`, "7:1", `the block "cluster" needs "urls"`},
		{"urls", `[]`, "", "cluster.urls is a list of at least one text"},
		{"urls", `"tls://a"`, "", "cluster.urls is a list of at least one text"},
		{"urls", `[` + addresses(17) + `]`, "", "cluster.urls has 17 servers; 1 to 16"},
		{"urls", `[7]`, "8:11", "cluster.urls[0] is not a text"},
		{"urls", `[""]`, "8:11", "cluster.urls[0] " + server},
		{"urls", `["tls://a", "a:4222"]`, "8:22", "cluster.urls[1] " + server},
		{"urls", `["ws://a"]`, "8:11", "cluster.urls[0] " + server},
		{"urls", `["tls://"]`, "8:11", "cluster.urls[0] " + server},
		{"urls", `["tls://:4222"]`, "8:11", "cluster.urls[0] " + server},
		{"urls", `["tls://a:0"]`, "8:11", "cluster.urls[0] " + server},
		{"urls", `["tls://a:65536"]`, "8:11", "cluster.urls[0] " + server},
		{"urls", `["tls://a:x"]`, "8:11", "cluster.urls[0] " + server},
		{"urls", `["tls://a/b"]`, "8:11", "cluster.urls[0] " + server},
		{"urls", `["tls://a?b"]`, "8:11", "cluster.urls[0] " + server},
		{"urls", `["tls://a,b"]`, "8:11", "cluster.urls[0] " + server},
		{"urls", `["tls://[fe80::1%25eth0]"]`, "8:11", "cluster.urls[0] " + server},
		{"urls", `["tls://a:1", "tls://a:1"]`, "8:24", "cluster.urls[1] is there twice"},
		{"urls", `["tls://ann:secret@a"]`, "8:11", "cluster.urls[0] holds a user or a password: put them into the file that"},
		{"urls", `["tls://token@a"]`, "8:11", "cluster.urls[0] holds a user or a password"},

		{"stream", `"A.B"`, "", `cluster.stream is "A.B"; ` + name},
		{"stream", `"*"`, "", `cluster.stream is "*"; ` + name},
		{"stream", `"` + long + `"`, "", `cluster.stream is "` + long + `"; ` + name},
		{"stream", `""`, "", "cluster.stream is empty"},
		{"stream", `[]`, "", "cluster.stream is not a text"},

		{"replicas", `0`, "", "cluster.replicas is 0; 1, 3 or 5"},
		{"replicas", `2`, "", "cluster.replicas is 2; 1, 3 or 5"},
		{"replicas", `7`, "", "cluster.replicas is 7; 1, 3 or 5"},
		{"replicas", `3.5`, "", "cluster.replicas is not a whole number; 1, 3 or 5"},
		{"replicas", `"3"`, "", "cluster.replicas is not a whole number; 1, 3 or 5"},
		{"replicas", `true`, "", "cluster.replicas is not a whole number; 1, 3 or 5"},
		{"replicas", `-1`, "", `the number -1 of "replicas" is negative; a number is at least 0`},
		{"replicas", `1e99`, "", `the number 1e99 of "replicas" has an exponent`},
		{"replicas", `1E+2`, "", `the number 1E+2 of "replicas" has an exponent`},
		{"replicas", strings.Repeat("9", 19), "", `the number of "replicas" has 19 digits; at most 18`},

		{"snapshot_entries", `999`, "", "cluster.snapshot_entries is 999; " + entries},
		{"snapshot_entries", `100000001`, "", "cluster.snapshot_entries is 100000001; " + entries},
		{"snapshot_entries", strings.Repeat("9", 18), "", "cluster.snapshot_entries is 999999999999999999; " + entries},
		{"snapshot_entries", `"200000"`, "", "cluster.snapshot_entries is not a whole number; " + entries},
		{"snapshot_entries", `1000.5`, "", "cluster.snapshot_entries is not a whole number; " + entries},

		{"lease", `"2999ms"`, "", "cluster.lease is 2.999s; " + lease},
		{"lease", `"10m1s"`, "", "cluster.lease is 10m1s; " + lease},
		{"lease", `"0"`, "", "cluster.lease is 0s; " + lease},
		{"lease", `"-15s"`, "", "cluster.lease is -15s; " + lease},
		{"lease", `"soon"`, "", `cluster.lease is "soon"; a duration such as "15s", ` + lease},
		{"lease", `15`, "", "cluster.lease is not a text"},
		{"lease", `""`, "", "cluster.lease is empty"},
		{"forget_after", `"59s"`, "", "cluster.forget_after is 59s; " + forget},
		{"forget_after", `"721h"`, "", "cluster.forget_after is 721h0m0s; " + forget},
		{"forget_after", `"1d"`, "", `cluster.forget_after is "1d"; a duration such as "24h0m0s", ` + forget},

		{"credentials", `""`, "", "cluster.credentials is empty"},
		{"credentials", `7`, "", "cluster.credentials is not a path"},
		{"system_credentials", `"~/sys.creds"`, "", "cluster.system_credentials begins with ~, which only a shell replaces"},
		{"system_credentials", `null`, "7:1", `the block "cluster" needs "system_credentials"`},
		{"ca", `"$HOME/ca.pem"`, "", "cluster.ca begins with $HOME"},
		{"cert", `"n0.pem"`, "7:1", `the block "cluster" needs "key"`},
		{"key", `"n0.key"`, "7:1", `the block "cluster" needs "cert"`},

		{"durability", `"yes"`, "", `cluster.durability is "yes"; it is one of ["checked" "unchecked"]`},
		{"durability", `true`, "", "cluster.durability is not a text"},
		{"durability", `"unchecked"`, "", "cluster.durability is unchecked, and there are system credentials to check"},

		{"nodes", `3`, "8:3", `a block "cluster" has no "nodes"`},
	} {
		t.Run(c.attribute+" = "+c.value, func(t *testing.T) {
			text := inCluster(append([]string{c.attribute + " = " + c.value}, enough(c.attribute)...)...)
			f, ds := Host.Parse("/p/plugin.hcl", text)
			errs := slices.DeleteFunc(ds, func(d hclfile.Diagnostic) bool { return d.Severity == hclfile.Warning })
			if f != nil || len(errs) != 1 || !strings.Contains(render(errs), "error: "+c.want) {
				t.Fatalf("got %+v with %s, want only %q", f, render(errs), c.want)
			}
			at := c.at
			if at == "" {
				at = fmt.Sprintf("8:%d", len("  "+c.attribute+" = ")+1)
			}
			if !strings.HasPrefix(render(errs), "/p/plugin.hcl:"+at+": ") {
				t.Errorf("got %s, want it at %s", render(errs), at)
			}
		})
	}
}

func TestParse_ClusterDurability(t *testing.T) {
	t.Run("unchecked is a warning", func(t *testing.T) {
		text := inCluster(append(enough("system_credentials"), `durability = "unchecked"`)...)
		f, ds := Whole.Parse("/p/plugin.hcl", text)
		if f == nil || !f.Cluster.Unchecked || f.Cluster.SystemCredentials != "" {
			t.Fatalf("got %+v %s", f, render(ds))
		}
		const want = "/p/plugin.hcl:10:16: warning: nobody checks that the servers sync what they acknowledge"
		if len(ds) != 1 || !strings.HasPrefix(render(ds), want) {
			t.Errorf("got %s, want %q", render(ds), want)
		}
	})
	t.Run("an error says how to do without the check", func(t *testing.T) {
		_, ds := Host.Parse("/p/plugin.hcl", inCluster(enough("system_credentials")...))
		if len(ds) != 1 || !strings.Contains(ds[0].Detail, `durability = "unchecked"`) {
			t.Errorf("got %s", render(ds))
		}
	})
}

func TestParse_ClusterFiles(t *testing.T) {
	dir := files(t)
	for _, c := range []struct{ attribute, value, want string }{
		{"credentials", "none", "cannot be read: no such file or directory"},
		{"credentials", "empty", "cannot be read: it is empty"},
		{"credentials", ".", "cannot be read: it is a directory, not a regular file"},
		{"credentials", "large.creds", "cannot be read: it is too large: it has 65537 bytes, and the limit is 64 KiB"},
		{"system_credentials", "none", "cannot be read: no such file or directory"},
		{"system_credentials", "pipe", "cannot be read: it is a named pipe, not a regular file"},
		{"ca", "none", "cannot be read: no such file or directory"},
		{"ca", "large.pem", "cannot be read: it is too large: it has 1048577 bytes, and the limit is 1024 KiB"},
		{"ca", "n0.key", "has no certificate in PEM"},
		{"cert", "none", "cannot be read: no such file or directory"},
		{"key", "none", "cannot be read: no such file or directory"},
		{"cert", "n0.key", "cluster.cert and cluster.key are not a certificate and its key: tls: failed to find certificate"},
		{"key", "other.key", "cluster.cert and cluster.key are not a certificate and its key: tls: private key does not"},
		{"ca", "bundle.pem", ""},
		{"credentials", "recall.creds", ""},
	} {
		t.Run(c.attribute+" = "+c.value, func(t *testing.T) {
			lines := []string{fmt.Sprintf("%s = %q", c.attribute, c.value)}
			for attribute, value := range map[string]string{
				"system_credentials": "sys.creds", "cert": "n0.pem", "key": "n0.key",
			} {
				if attribute != c.attribute {
					lines = append(lines, fmt.Sprintf("%s = %q", attribute, value))
				}
			}
			text := inCluster(append(lines, `node = "n0"`, `urls = ["tls://a"]`)...)
			file := filepath.Join(dir, "plugin.hcl")
			for view, says := range map[string]View{"whole": Whole, "plugin": Plugin} {
				f, ds := says.Parse(file, text)
				if c.want == "" {
					if f == nil || len(ds) > 0 {
						t.Errorf("%s: got %s", view, render(ds))
					}
					continue
				}
				if f != nil || len(ds) != 1 || !strings.HasPrefix(ds[0].Summary, "cluster."+c.attribute) &&
					!strings.HasPrefix(ds[0].Summary, "cluster.cert") || !strings.Contains(ds[0].Summary, c.want) || ds[0].Line == 0 {
					t.Errorf("%s: got %+v with %s, want only %q", view, f, render(ds), c.want)
				}
			}
			if f, ds := Host.Parse(file, text); f == nil || len(ds) > 0 {
				t.Errorf("the host opens it: %s", render(ds))
			}
		})
	}
}

// An address may contain a password, so the error message does not repeat the address.
func TestClusterBlock_CheckQuotesNoAddress(t *testing.T) {
	for _, address := range []string{"tls://ann:secret@a", "tls://ann:sec%ret@a", "ftp://secret", "secret"} {
		c := ClusterBlock{
			Node: "n", URLs: []string{address}, Stream: "S", Replicas: 3, Unchecked: true, Lease: DefaultLease,
			ForgetAfter: DefaultForgetAfter, SnapshotEntries: DefaultSnapshotEntries,
		}
		if found := c.Check(); len(found) != 1 || found[0].Element != 0 || strings.Contains(found[0].Text, "sec") {
			t.Errorf("%s: got %+v", address, found)
		}
	}
}

// The reference shows a block that is right, and has a row for each attribute of each block.
func TestDocs_EveryAttribute(t *testing.T) {
	doc, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, reference, _ := strings.Cut(string(doc), "\n## plugin.hcl\n")
	reference, _, _ = strings.Cut(reference, "\n## ")
	for block, names := range attributes {
		for _, name := range names {
			if !regexp.MustCompile("(?m)^\\|.*`" + name + "`.*\\|$").MatchString(reference) {
				t.Errorf("%s.%s is not in the reference", block, name)
			}
		}
	}
	_, example, _ := strings.Cut(reference, "```hcl\ncluster {\n")
	example, _, _ = strings.Cut(example, "\n}\n```")
	if f, ds := Host.Parse("plugin.hcl", inCluster(example)); f == nil || len(ds) > 0 {
		t.Errorf("the example is wrong: %s", render(ds))
	}
	for _, limit := range []any{
		DefaultStream, DefaultReplicas, DefaultSnapshotEntries, `"15s"`, `"24h"`, "3 s to 10 min", "1 min to 720 h",
		"1,000 to 100,000,000", "64 KiB", "1 MiB", "1 to 16",
	} {
		if !strings.Contains(reference, fmt.Sprint(limit)) {
			t.Errorf("%v is not in the reference", limit)
		}
	}
}
