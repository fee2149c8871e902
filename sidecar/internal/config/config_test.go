package config

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/golden"
	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

const whole = `
plugin_file   = "plugin.hcl"
run_dir       = "run"
max_in_flight = 1000

listen "unix" {
  path       = "/run/recall/recall.sock"
  mode       = "0600"
  allow_uids = [0, 1000, 4294967294]
  admin      = true
}
listen "tcp" {
  address       = "[::]:8181"
  token_file    = "token"
  host_names    = ["Recall.internal", "10.0.0.1", "fd00::0001"]
  tls_cert      = "cert.pem"
  tls_key       = "/etc/key.pem"
  tls_client_ca = "../ca.pem"
}

step "notify" {
  pull      = true
  timeout   = "1h"
  at_a_time = 64
  each_node = true
}
step "history" {
  webhook     = "https://chat.example.com:8443/hooks/recall?room=1"
  secret_file = "hooks.secret"
  timeout     = "1s"
  at_a_time   = 128
  after       = ["notify", "search"]
}
step "search" {
  webhook     = "http://chat/hooks"
  socket      = "/run/chat.sock"
  secret_file = "hooks.secret"
}
`

func TestParse_WholeFile(t *testing.T) {
	f, ds := Parse("/etc/recall/sidecar.hcl", []byte(whole))
	want := &File{
		PluginFile: "/etc/recall/plugin.hcl", RunDir: "/etc/recall/run", MaxInFlight: 1000,
		Listeners: []Listener{
			{Network: Unix, Path: "/run/recall/recall.sock", Mode: 0o600, AllowUIDs: []int{0, 1000, 4294967294}, Admin: true},
			{
				Network: TCP, Address: "[::]:8181", TokenFile: "/etc/recall/token",
				HostNames: []string{"recall.internal", "10.0.0.1", "fd00::1"},
				TLSCert:   "/etc/recall/cert.pem", TLSKey: "/etc/key.pem", TLSClientCA: "/etc/ca.pem",
			},
		},
		Steps: []Step{
			{Name: "notify", Pull: true, Timeout: time.Hour, AtATime: 64, EachNode: true},
			{
				Name: "history", Webhook: address(t, "https://chat.example.com:8443/hooks/recall?room=1"),
				SecretFile: "/etc/recall/hooks.secret", Timeout: time.Second, AtATime: 128, After: []string{"notify", "search"},
			},
			{
				Name: "search", Webhook: address(t, "http://chat/hooks"), Socket: "/run/chat.sock",
				SecretFile: "/etc/recall/hooks.secret", Timeout: 10 * time.Second, AtATime: 16,
			},
		},
	}
	if len(ds) > 0 || !reflect.DeepEqual(f, want) {
		t.Errorf("got %+v %s, want %+v", f, ds, want)
	}
}

func address(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestParse_Defaults(t *testing.T) {
	for name, text := range map[string]string{
		"not set": `
			plugin_file = "p"
			listen "unix" { path = "s" }
			listen "tcp" {
				address    = "127.0.0.1:1"
				token_file = "t"
			}
			step "notify" { pull = true }
			step "history" {
				webhook     = "http://localhost/"
				secret_file = "h"
			}`,
		"null": `
			plugin_file   = "p"
			run_dir       = null
			max_in_flight = null
			listen "unix" {
				path       = "s"
				mode       = null
				allow_uids = null
				admin      = null
			}
			listen "tcp" {
				address       = "127.0.0.1:1"
				token_file    = "t"
				host_names    = null
				tls_cert      = null
				tls_key       = null
				tls_client_ca = null
			}
			step "notify" {
				pull        = true
				webhook     = null
				socket      = null
				secret_file = null
				timeout     = null
				at_a_time   = null
				after       = null
				each_node   = null
			}
			step "history" {
				pull        = null
				webhook     = "http://localhost/"
				secret_file = "h"
			}`,
	} {
		t.Run(name, func(t *testing.T) {
			f, ds := Parse("/p/sidecar.hcl", []byte(text))
			want := &File{
				PluginFile: "/p/p", MaxInFlight: 4096,
				Listeners: []Listener{
					{Network: Unix, Path: "/p/s", Mode: 0o660},
					{Network: TCP, Address: "127.0.0.1:1", TokenFile: "/p/t"},
				},
				Steps: []Step{
					{Name: "notify", Pull: true, Timeout: time.Minute, AtATime: 128},
					{
						Name: "history", Webhook: address(t, "http://localhost/"), SecretFile: "/p/h",
						Timeout: 10 * time.Second, AtATime: 16,
					},
				},
			}
			if len(ds) > 0 || !reflect.DeepEqual(f, want) {
				t.Errorf("got %+v %s, want %+v", f, ds, want)
			}
		})
	}
}

// with returns a valid file with more lines, of which the first is line 3.
func with(lines string) string {
	return "plugin_file = \"p\"\nlisten \"unix\" { path = \"s\" }\n" + lines
}

func unix(lines string) string { return with("listen \"unix\" {\npath = \"/t\"\n" + lines + "\n}\n") }

func tcp(lines string) string { return with("listen \"tcp\" {\n" + lines + "\n}\n") }

func loopback(lines string) string {
	return tcp("address = \"127.0.0.1:1\"\ntoken_file = \"t\"\n" + lines)
}

func pull(lines string) string { return with("step \"notify\" {\npull = true\n" + lines + "\n}\n") }

func webhook(address, lines string) string {
	return with("step \"history\" {\nwebhook = \"" + address + "\"\nsecret_file = \"h\"\n" + lines + "\n}\n")
}

// steps returns a file with pulled steps. Each argument is a name and the list "after" of the step.
func steps(of ...string) string {
	text := ""
	for _, s := range of {
		name, after, _ := strings.Cut(s, " ")
		text += fmt.Sprintf("step %q {\npull = true\nafter = %s\n}\n", name, after)
	}
	return with(text)
}

func TestParse_Mistakes(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		line int // 0: the file as a whole
		want string
	}{
		"an empty path of plugin_file": {
			"plugin_file = \"\"\nlisten \"unix\" { path = \"s\" }\n", 1,
			"plugin_file is empty",
		},
		"no plugin_file": {"listen \"unix\" { path = \"s\" }\n", 0, `the file needs "plugin_file"`},
		"a plugin_file that is null": {
			"plugin_file = null\nlisten \"unix\" { path = \"s\" }\n", 0,
			`the file needs "plugin_file"`,
		},
		"a plugin_file that is no text": {
			"plugin_file = 1\nlisten \"unix\" { path = \"s\" }\n", 1,
			"plugin_file is not a path",
		},
		"a plugin_file that a shell replaces": {
			"plugin_file = \"~/p\"\nlisten \"unix\" { path = \"s\" }\n", 1,
			"plugin_file begins with ~",
		},
		"an unknown attribute": {
			with("pluginfile = 1"), 3,
			`"pluginfile" does not belong at the top of the file`,
		},
		"an unknown block":            {with("listn \"unix\" {\n}"), 3, `there is no block "listn"`},
		"a template":                  {with("run_dir = \"${x}\""), 3, `"${" is not part of sidecar.hcl`},
		"no listener":                 {"plugin_file = \"p\"\n", 0, `there is no block "listen"`},
		"no requests in flight":       {with("max_in_flight = 0"), 3, "max_in_flight is 0; 1 to 65536"},
		"too many requests in flight": {with("max_in_flight = 65537"), 3, "max_in_flight is 65537; 1 to 65536"},
		"half a request in flight": {
			with("max_in_flight = 1.5"), 3,
			"max_in_flight is not a whole number; 1 to 65536",
		},
		"a number between quotes": {
			with("max_in_flight = \"1\""), 3,
			"max_in_flight is not a whole number; 1 to 65536",
		},
		"a negative number": {with("max_in_flight = -1"), 3, `the number -1 of "max_in_flight" is negative`},

		"a listener without a network": {with("listen { path = \"t\" }"), 3, `the block "listen" has no label`},
		"a listener with an empty network": {
			with("listen \"\" { path = \"t\" }"), 3,
			`the label of the block "listen" is empty`,
		},
		"a listener with two networks": {
			with("listen \"unix\" \"tcp\" { path = \"t\" }"), 3,
			`the block "listen" has more than one label`,
		},
		"an unknown network": {
			with("listen \"udp\" { path = \"t\" }"), 3,
			`the network is "udp"; it is one of ["tcp" "unix"]`,
		},
		"an unknown attribute of unix": {unix("mod = 1"), 5, `a block "listen" "unix" has no "mod"`},
		"an attribute of tcp on unix": {
			unix("token_file = \"t\""), 5,
			`a block "listen" "unix" has no "token_file"`,
		},
		"a block in unix":     {unix("tls {\n}"), 5, `a block "listen" "unix" has no block "tls"`},
		"unix without a path": {with("listen \"unix\" { admin = true }"), 3, `the block "listen" needs "path"`},
		"the path of a socket twice": {
			with("listen \"unix\" { path = \"./s\" }"), 3,
			`there is a socket "/p/s" already in line 2`,
		},
		"a long path of a socket": {
			with("listen \"unix\" { path = \"/" + strings.Repeat("x", 107) + "\" }"), 3,
			"listen.path has 108 bytes, from the root on; at most 107",
		},
		"a long relative path of a socket": {
			with("listen \"unix\" { path = \"" + strings.Repeat("x", 105) + "\" }"), 3,
			"listen.path has 108 bytes, from the root on; at most 107",
		},
		"a mode with access for others": {
			unix(`mode = "0666"`), 5,
			`listen.mode is "0666", which gives others access`,
		},
		"a mode that others may write": {
			unix(`mode = "662"`), 5,
			`listen.mode is "662", which gives others access`,
		},
		"a mode that keeps the owner out": {
			unix(`mode = "0460"`), 5,
			`listen.mode is "0460"; the owner reads and writes`,
		},
		"a mode that is not octal":          {unix(`mode = "0680"`), 5, `listen.mode is "0680"; octal digits`},
		"a mode with more than permissions": {unix(`mode = "4660"`), 5, `listen.mode is "4660"; octal digits`},
		"a mode that is a number":           {unix(`mode = 0660`), 5, `listen.mode is not a text: write it between quotes`},
		"no user": {
			unix("allow_uids = []"), 5,
			"listen.allow_uids is a list of at least one number",
		},
		"a user outside of a list": {
			unix("allow_uids = 1"), 5,
			"listen.allow_uids is a list of at least one number",
		},
		"a user by name": {
			unix(`allow_uids = ["root"]`), 5,
			"listen.allow_uids[0] is not the id of a user; 0 to 4294967294",
		},
		"a user that is null": {
			unix("allow_uids = [null]"), 5,
			"listen.allow_uids[0] is not the id of a user; 0 to 4294967294",
		},
		"the user -1": {
			unix("allow_uids = [1,\n4294967295]"), 6,
			"listen.allow_uids[1] is not the id of a user; 0 to 4294967294",
		},
		"a user twice":             {unix("allow_uids = [1, 2,\n1]"), 6, "listen.allow_uids[2] is there twice"},
		"an admin that is no flag": {unix(`admin = "yes"`), 5, "listen.admin is true or false"},

		"tcp without an address": {tcp(`token_file = "t"`), 3, `the block "listen" needs "address"`},
		"an address without a port": {
			tcp("address = \"127.0.0.1\"\ntoken_file = \"t\""), 4,
			`listen.address is "127.0.0.1"; a host or an IP address, and a port`,
		},
		"an address without a host": {
			tcp("address = \":8181\"\ntoken_file = \"t\""), 4,
			`listen.address is ":8181"; a host or an IP address, and a port`,
		},
		"an address with a named port": {
			tcp("address = \"127.0.0.1:http\"\ntoken_file = \"t\""), 4,
			`listen.address is "127.0.0.1:http"; a host or an IP address, and a port`,
		},
		"an address with a port too large": {
			tcp("address = \"127.0.0.1:65536\"\ntoken_file = \"t\""), 4,
			`listen.address is "127.0.0.1:65536"; a host or an IP address, and a port`,
		},
		"an address with a zone": {
			tcp("address = \"[fe80::1%eth0]:1\"\ntoken_file = \"t\""), 4,
			`listen.address is "[fe80::1%eth0]:1"; a host or an IP address, and a port`,
		},
		"an empty address": {tcp("address = \"\"\ntoken_file = \"t\""), 4, "listen.address is empty"},
		"an address twice": {
			loopback("}\nlisten \"tcp\" {\naddress = \"127.0.0.1:01\"\ntoken_file = \"t\""), 8,
			`there is an address "127.0.0.1:1" already in line 4`,
		},
		"every address without TLS": {
			tcp("address = \"0.0.0.0:1\"\ntoken_file = \"t\""), 4,
			`listen.address is "0.0.0.0:1", which is not loopback: it needs TLS`,
		},
		"a private address without TLS": {
			tcp("address = \"10.0.0.1:1\"\ntoken_file = \"t\""), 4,
			`which is not loopback: it needs TLS`,
		},
		"an address by name without TLS": {
			tcp("address = \"recall.internal:1\"\ntoken_file = \"t\""), 4,
			`which is not loopback: it needs TLS`,
		},
		"tcp for everybody": {
			tcp(`address = "127.0.0.1:1"`), 3,
			`the block "listen" needs "token_file" or "tls_client_ca"`,
		},
		"tcp for everybody with TLS": {
			tcp("address = \"10.0.0.1:1\"\ntls_cert = \"c\"\ntls_key = \"k\""), 3,
			`the block "listen" needs "token_file" or "tls_client_ca"`,
		},
		"a certificate without a key": {loopback(`tls_cert = "c"`), 3, `the block "listen" needs "tls_key"`},
		"a key without a certificate": {loopback(`tls_key = "c"`), 3, `the block "listen" needs "tls_cert"`},
		"a client CA without a certificate": {
			tcp("address = \"127.0.0.1:1\"\ntls_client_ca = \"c\""), 3,
			`the block "listen" needs "tls_cert"`,
		},
		"users on tcp":  {loopback("allow_uids = [1]"), 6, `a block "listen" "tcp" has no "allow_uids"`},
		"admin on tcp":  {loopback("admin = true"), 6, `a block "listen" "tcp" has no "admin"`},
		"a mode on tcp": {loopback("mode = \"0660\""), 6, `a block "listen" "tcp" has no "mode"`},
		"a host with a port": {
			loopback(`host_names = ["a:1"]`), 6,
			`listen.host_names[0] is "a:1"; a name or an IP address, without a port`,
		},
		"an empty host": {
			loopback(`host_names = [""]`), 6,
			`listen.host_names[0] is ""; a name or an IP address, without a port`,
		},
		"every host": {
			loopback(`host_names = ["*"]`), 6,
			`listen.host_names[0] is "*"; a name or an IP address, without a port`,
		},
		"a host twice":        {loopback("host_names = [\"a\",\n\"A\"]"), 7, `listen.host_names[1] is there twice`},
		"a host that is null": {loopback("host_names = [null]"), 6, `listen.host_names[0] is not a text`},

		"a step without a name": {with("step { pull = true }"), 3, `the block "step" has no label`},
		"a step with an empty name": {
			with("step \"\" { pull = true }"), 3,
			`the label of the block "step" is empty`,
		},
		"a step with two names": {
			with("step \"a\" \"b\" { pull = true }"), 3,
			`the block "step" has more than one label`,
		},
		"a bad name of a step": {
			with("step \"A b\" { pull = true }"), 3,
			`"A b" is no step name: 1 to 64 of a-z, 0-9, _ and -`,
		},
		"a step twice": {
			with("step \"a\" { pull = true }\nstep \"a\" { pull = true }"), 4,
			`there is a step "a" already in line 3`,
		},
		"too many steps":                 {steps(many(33)...), 3 + 32*4, "there are 33 steps; at most 32"},
		"an unknown attribute of a step": {pull("at_time = 1"), 5, `a block "step" has no "at_time"`},
		"a block in a step":              {pull("retry {\n}"), 5, `a block "step" has no block "retry"`},
		"neither pull nor webhook": {
			with("step \"a\" { at_a_time = 1 }"), 3,
			`the block "step" needs "pull" or "webhook"`,
		},
		"pull that is false": {
			with("step \"a\" { pull = false }"), 3,
			`the block "step" needs "pull" or "webhook"`,
		},
		"both pull and webhook": {
			pull(`webhook = "https://a"`), 5,
			"step.webhook is set for a step that is pulled",
		},
		"a socket with pull": {pull(`socket = "/s"`), 5, "step.socket is set for a step that is pulled"},
		"a secret_file with pull": {
			pull(`secret_file = "s"`), 5,
			"step.secret_file is set for a step that is pulled",
		},
		"notify on one node": {
			pull("each_node = false"), 5,
			"step.each_node is false, but every node carries out notify",
		},
		"each_node that is no flag": {pull("each_node = 1"), 5, "step.each_node is true or false"},
		"a short timeout":           {pull(`timeout = "999ms"`), 5, "step.timeout is 999ms; 1s to 1h0m0s"},
		"a long timeout":            {pull(`timeout = "1h1s"`), 5, "step.timeout is 1h0m1s; 1s to 1h0m0s"},
		"a timeout without a unit": {
			pull(`timeout = "30"`), 5,
			`step.timeout is "30"; a duration such as "1m0s", 1s to 1h`,
		},
		"a timeout that is a number": {pull("timeout = 30"), 5, "step.timeout is not a text"},
		"no attempt":                 {pull("at_a_time = 0"), 5, "step.at_a_time is 0; 1 to 128"},
		"too many attempts":          {webhook("https://a", "at_a_time = 129"), 6, "step.at_a_time is 129; 1 to 128"},
		"a webhook without secrets": {
			with("step \"a\" { webhook = \"https://a\" }"), 3,
			`the block "step" needs "secret_file"`,
		},
		"an empty webhook": {webhook("", ""), 4, "step.webhook is empty"},
		"a webhook without a scheme": {
			webhook("chat.example.com/hook", ""), 4,
			"step.webhook is neither http:// nor https://",
		},
		"a webhook with another scheme": {
			webhook("ftp://a", ""), 4,
			"step.webhook is neither http:// nor https://",
		},
		"a webhook that is no address": {webhook("https://a b/%zz", ""), 4, "step.webhook is not an address"},
		"a webhook without a host":     {webhook("https:///hook", ""), 4, "step.webhook has no valid host and port"},
		"a webhook without slashes": {
			webhook("https:chat/hook", ""), 4,
			"step.webhook has no valid host and port",
		},
		"a webhook with port 0": {webhook("https://a:0", ""), 4, "step.webhook has no valid host and port"},
		"a webhook with a port too large": {
			webhook("https://a:65536", ""), 4,
			"step.webhook has no valid host and port",
		},
		"a webhook with half a port": {webhook("https://a:", ""), 4, "step.webhook has no valid host and port"},
		"a webhook with a user":      {webhook("https://user@a", ""), 4, "step.webhook holds a user or a password"},
		"a webhook with a password": {
			webhook("https://user:pass@a", ""), 4,
			"step.webhook holds a user or a password",
		},
		"a webhook with a fragment": {
			webhook("https://a/#", ""), 4,
			"step.webhook has a fragment, which is not sent",
		},
		"http to an address": {
			webhook("http://10.0.0.1/", ""), 4,
			"step.webhook is http:// to a host that is not loopback",
		},
		"http to an IPv6 address": {
			webhook("http://[fd00::1]/", ""), 4,
			"step.webhook is http:// to a host that is not loopback",
		},
		"http to a name": {
			webhook("http://localhost.example.com/", ""), 4,
			"step.webhook is http:// to a host that is not loopback",
		},
		"a link-local webhook": {
			webhook("https://169.254.169.254/", ""), 4,
			"step.webhook has a link-local, multicast or unspecified address",
		},
		"a link-local webhook in IPv6": {
			webhook("https://[::ffff:169.254.169.254]/", ""), 4,
			"step.webhook has a link-local, multicast or unspecified address",
		},
		"a webhook for all": {
			webhook("https://[::]/", ""), 4,
			"step.webhook has a link-local, multicast or unspecified address",
		},
		"https with a socket": {
			webhook("https://a", `socket = "/s"`), 4,
			"step.webhook is https://, and there is a socket",
		},
		"a long path of a webhook socket": {
			webhook("http://a", "socket = \"/"+strings.Repeat("x", 107)+"\""), 6,
			"step.socket has 108 bytes",
		},
		"a socket that a shell replaces": {
			webhook("http://a", "socket = \"$RUN/s\""), 6,
			"step.socket begins with $RUN",
		},
		"after that is empty":     {steps(`a []`), 5, "step.after is a list of at least one text"},
		"after outside of a list": {steps(`a "b"`), 5, "step.after is a list of at least one text"},
		"after that is null":      {steps(`a [null]`), 5, "step.after[0] is not a text"},
		"after itself":            {steps(`a ["a"]`), 5, "step.after[0] a waits for itself"},
		"after an unknown step": {
			steps(`a null`, `b ["a", "c"]`), 9,
			`step.after[1] "c" is no step of this host`,
		},
		"after one step twice": {steps(`a null`, `b ["a", "a"]`), 9, "step.after[1] a is there twice"},
		"notify after a step": {
			steps(`a null`, `notify ["a"]`), 9,
			`step.after[0] is "a"; notify comes first and waits for no step`,
		},
		"steps in a circle": {
			steps(`a ["b"]`, `b ["c"]`, `c ["a"]`), 5,
			"step.after[0] b waits for a: steps must not wait in a circle",
		},
		"a step after one that is refused": {steps(`a [1]`, `b ["a"]`), 5, "step.after[0] is not a text"},
	} {
		t.Run(name, func(t *testing.T) {
			f, ds := Parse("/p/sidecar.hcl", []byte(c.text))
			if f != nil || len(ds) != 1 || ds[0].Severity != hclfile.Error || ds[0].Line != c.line ||
				!strings.HasPrefix(ds[0].Summary, c.want) && !strings.HasSuffix(ds[0].Summary, c.want) {
				t.Errorf("got %+v with\n%swant only %q in line %d of\n%s", f, ds, c.want, c.line, c.text)
			}
		})
	}
}

// many returns steps for steps().
func many(n int) (of []string) {
	for i := range n {
		of = append(of, fmt.Sprintf("s%d null", i))
	}
	return of
}

func TestParse_Limits(t *testing.T) {
	for name, text := range map[string]string{
		"one request in flight":        with("max_in_flight = 1"),
		"the most requests in flight":  with("max_in_flight = 65536"),
		"the longest path of a socket": with("listen \"unix\" { path = \"/" + strings.Repeat("x", 106) + "\" }"),
		"a mode of three digits":       unix(`mode = "600"`),
		"the widest mode":              unix(`mode = "0770"`),
		"port 0":                       tcp("address = \"127.0.0.1:0\"\ntoken_file = \"t\""),
		"loopback by name":             tcp("address = \"LocalHost:1\"\ntoken_file = \"t\""),
		"loopback in IPv6":             tcp("address = \"[::1]:65535\"\ntoken_file = \"t\""),
		"loopback in IPv6 of IPv4":     tcp("address = \"[::ffff:127.0.0.2]:1\"\ntoken_file = \"t\""),
		"another address with TLS": tcp("address = \"10.0.0.1:1\"\n" +
			"tls_cert = \"c\"\ntls_key = \"k\"\ntls_client_ca = \"a\""),
		"a socket and an address":        loopback(""),
		"the most steps":                 steps(many(32)...),
		"the longest name of a step":     steps(strings.Repeat("s", shared.MaxStepBytes) + " null"),
		"steps in a diamond":             steps(`a null`, `b ["a"]`, `c ["a"]`, `d ["b", "c"]`),
		"a step after one further down":  steps(`a ["b"]`, `b null`),
		"http to loopback":               webhook("http://127.0.0.1:65535/hook", ""),
		"http to loopback in IPv6":       webhook("http://[::1]/hook", ""),
		"http to loopback by name":       webhook("http://LOCALHOST:1/hook", ""),
		"https to a private address":     webhook("https://10.0.0.1/hook", ""),
		"http to any name over a socket": webhook("http://chat.example.com/hook", `socket = "/s"`),
		"pull that is false with a hook": webhook("https://a", "pull = false"),
		"each_node of another step":      webhook("https://a", "each_node = false"),
	} {
		t.Run(name, func(t *testing.T) {
			f, ds := Parse("/p/sidecar.hcl", []byte(text))
			if f == nil || len(ds) > 0 {
				t.Fatalf("was refused:\n%sfor\n%s", ds, text)
			}
			checkValid(t, f)
		})
	}
}

// Every mistake is reported at once.
func TestParse_ManyMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.hcl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			f, ds := Load(file)
			if f != nil || !ds.HasErrors() {
				t.Fatalf("was taken: %+v", f)
			}
			golden.Check(t, strings.TrimSuffix(file, ".hcl")+".golden", ds.String())
		})
	}
}

func TestLoad_NotAFile(t *testing.T) {
	dir := t.TempDir()
	for file, want := range map[string]string{
		filepath.Join(dir, "absent.hcl"): "cannot be read: no such file",
		dir:                              "cannot be read: it is a directory, not a regular file",
	} {
		if f, ds := Load(file); f != nil || !strings.Contains(ds.String(), file+": error: "+want) {
			t.Errorf("%s: got %+v with %q, want %q", file, f, ds, want)
		}
	}
}

// checkValid fails the test if a file that was taken is not valid.
func checkValid(t *testing.T, f *File) {
	t.Helper()
	absolute := func(needed bool, paths ...string) {
		for _, path := range paths {
			if path == "" && needed || path != "" && (!filepath.IsAbs(path) || path != filepath.Clean(path)) {
				t.Errorf("path %q in %+v", path, f)
			}
		}
	}
	wrong := func(is bool, what string, value any) {
		if is {
			t.Errorf("%s: %+v", what, value)
		}
	}
	absolute(true, f.PluginFile)
	absolute(false, f.RunDir)
	wrong(f.MaxInFlight < 1 || f.MaxInFlight > 65536, "max_in_flight", f.MaxInFlight)
	wrong(len(f.Listeners) == 0, "listeners", f)
	places := map[string]bool{}
	for _, l := range f.Listeners {
		place := l.Path + l.Address
		wrong(places[place], "twice", l)
		places[place] = true
		switch l.Network {
		case Unix:
			absolute(true, l.Path)
			wrong(len(l.Path) > 107, "socket", l)
			wrong(l.Mode&0o600 != 0o600 || l.Mode&^0o770 != 0, "mode", l)
			wrong(l.Address+l.TokenFile+l.TLSCert+l.TLSKey+l.TLSClientCA != "" || l.HostNames != nil, "tcp on unix", l)
		case TCP:
			local := strings.HasPrefix(l.Address, "127.") || strings.HasPrefix(l.Address, "[::1]:") ||
				strings.HasPrefix(l.Address, "localhost:")
			absolute(false, l.TokenFile, l.TLSCert, l.TLSKey, l.TLSClientCA)
			wrong(!strings.Contains(l.Address, ":"), "address", l)
			wrong(l.TLSCert == "" && !local, "no TLS", l)
			wrong((l.TLSCert == "") != (l.TLSKey == ""), "certificate and key", l)
			wrong(l.TokenFile+l.TLSClientCA == "" || l.TLSClientCA != "" && l.TLSCert == "", "for everybody", l)
			wrong(l.Path != "" || l.Mode != 0 || l.Admin || l.AllowUIDs != nil, "unix on tcp", l)
		default:
			t.Errorf("network: %+v", l)
		}
	}
	var plan []wire.StepPlan
	for _, s := range f.Steps {
		plan = append(plan, wire.StepPlan{Name: s.Name, After: s.After, EachNode: s.EachNode})
		wrong(s.Timeout < time.Second || s.Timeout > time.Hour, "timeout", s)
		wrong(s.AtATime < 1 || s.AtATime > 128, "at_a_time", s)
		wrong(s.Pull != (s.Webhook == nil), "pull and webhook", s)
		absolute(!s.Pull, s.SecretFile)
		absolute(false, s.Socket)
		wrong(s.Pull && s.Socket+s.SecretFile != "" || len(s.Socket) > 107, "socket and secrets", s)
		if s.Webhook != nil {
			wrong(s.Webhook.Hostname() == "" || s.Webhook.User != nil || s.Webhook.Fragment != "", "webhook", s)
			wrong(s.Webhook.Scheme != "http" && (s.Webhook.Scheme != "https" || s.Socket != ""), "scheme", s)
		}
	}
	if err := wire.ValidateSteps(plan); err != nil {
		t.Error(err)
	}
}

// FuzzParse checks that no file makes Parse panic, that a file that is refused has a diagnostic, and that a file that
// is taken is valid.
func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte(loopback("host_names = [\"a\"]\ntls_cert = \"c\"\ntls_key = \"k\"")))
	f.Add([]byte(steps(`a ["b"]`, `b ["c"]`, `c ["a", "d"]`)))
	files, _ := filepath.Glob("testdata/*.hcl")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file, ds := Parse("/p/sidecar.hcl", text)
		if (file == nil) != ds.HasErrors() {
			t.Fatalf("file %+v with %s", file, ds)
		}
		for _, d := range ds {
			if d.Summary == "" {
				t.Fatalf("a diagnostic without a summary: %+v", d)
			}
		}
		if file != nil {
			checkValid(t, file)
		}
	})
}
