package config

import (
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/internal/hclfile"
)

// The networks of a Listener.
const (
	Unix = "unix"
	TCP  = "tcp"
)

// Listener is a block "listen": where requests arrive, and who may send them.
type Listener struct {
	Network string // Unix or TCP

	// Of a unix socket.
	Path      string      // at most 107 bytes
	Mode      fs.FileMode // no access for others; DefaultMode by default
	AllowUIDs []int       // the users who may connect; nil: all that the mode allows
	Admin     bool        // serve the calls that administrate the sidecar

	// Of a TCP address. There is a TokenFile or a TLSClientCA. If the address is not loopback, there is a TLSCert.
	Address     string   // host:port
	TokenFile   string   // path of the bearer tokens; "": none
	HostNames   []string // that requests may be for, besides those of loopback; lower case, without a port
	TLSCert     string   // path of a PEM file; "": no TLS
	TLSKey      string   // path of a PEM file; set if TLSCert is
	TLSClientCA string   // path of a PEM file; "": clients need no certificate
}

const (
	// DefaultMode is the default mode of a unix socket.
	DefaultMode fs.FileMode = 0o660

	// maxSocketBytes is what sun_path of Linux holds, without the NUL at its end.
	maxSocketBytes = 107
	// maxUID is the largest user id. The one above it is -1, which stands for no user.
	maxUID = math.MaxUint32 - 1
)

// listenAttributes are the attributes of the block "listen", for each network.
var listenAttributes = map[string][]string{
	Unix: {"path", "mode", "allow_uids", "admin"},
	TCP:  {"address", "token_file", "host_names", "tls_cert", "tls_key", "tls_client_ca"},
}

func (d *decoder) listeners(name string, blocks []*hclsyntax.Block) (listeners []Listener) {
	const example = `listen "unix" { path = "/run/recall/recall.sock" }`
	if len(blocks) == 0 {
		d.Errorf(hcl.Range{Filename: name}, "Say where requests arrive: "+example, "there is no block %q", listenBlock)
	}
	first := map[string]hcl.Range{}
	for _, b := range blocks {
		network := d.label(b, example)
		known, ok := listenAttributes[network]
		switch {
		case ok:
		case network != "":
			d.Errorf(b.LabelRanges[0], "", "the network is %.80q; it is one of %q", network, []string{TCP, Unix})
			continue
		default:
			continue
		}
		d.CheckBody(b, fmt.Sprintf("a block %q %q", listenBlock, network), known)
		l := Listener{Network: network}
		if network == Unix {
			d.unix(&l, b, first)
		} else {
			d.tcp(&l, b, first)
		}
		listeners = append(listeners, l)
	}
	return listeners
}

func (d *decoder) unix(l *Listener, b *hclsyntax.Block, first map[string]hcl.Range) {
	l.Path = d.NeedPath(b, "path", `the socket: path = "/run/recall/recall.sock"`)
	if l.Path != "" && d.socket(b, "path", l.Path) {
		d.unique(first, l.Path, hclfile.Value(b, "path").Range(), "a socket")
	}
	l.Mode = d.mode(b)
	l.AllowUIDs = d.uids(b)
	l.Admin = d.Flag(b, "admin")
}

// socket checks the length of the path of a unix socket.
func (d *decoder) socket(b *hclsyntax.Block, name, path string) bool {
	if len(path) > maxSocketBytes {
		d.Invalidf(b, name, "Choose a shorter path.", "has %d bytes, from the root on; at most %d", len(path), maxSocketBytes)
		return false
	}
	return true
}

var octal = regexp.MustCompile(`^0?[0-7]{3}$`)

func (d *decoder) mode(b *hclsyntax.Block) fs.FileMode {
	const name = "mode"
	text := d.Text(b, name)
	if text == "" {
		return DefaultMode
	}
	bits, err := strconv.ParseUint(text, 8, 32)
	mode := fs.FileMode(bits)
	switch {
	case err != nil || !octal.MatchString(text):
		d.Invalidf(b, name, "", `is %.80q; octal digits such as "0660"`, text)
	case mode&0o007 != 0:
		d.Invalidf(b, name, `Write "0660", and put those who may connect into the group of the socket.`,
			"is %q, which gives others access", text)
	case mode&0o600 != 0o600:
		d.Invalidf(b, name, "", `is %q; the owner reads and writes, as with "0600"`, text)
	}
	return mode
}

func (d *decoder) uids(b *hclsyntax.Block) (uids []int) {
	const name = "allow_uids"
	for i, e := range d.List(b, name, "For example allow_uids = [1000]", "number") {
		uid, ok := hclfile.Number(e)
		switch {
		case !ok || uid > maxUID:
			d.Errorf(e.Range(), "Write the digits that id -u prints.", "listen.%s[%d] is not the id of a user; 0 to %d", name, i,
				maxUID)
		case slices.Contains(uids, uid):
			d.Errorf(e.Range(), "Remove one of them.", "listen.%s[%d] is there twice", name, i)
		default:
			uids = append(uids, uid)
		}
	}
	return uids
}

func (d *decoder) tcp(l *Listener, b *hclsyntax.Block, first map[string]hcl.Range) {
	const example = `address = "127.0.0.1:8181"`
	loopback := true // also if the address is not known: one mistake, one diagnostic
	if hclfile.Value(b, "address") == nil {
		d.Missing(b, "address", "For example "+example)
	} else if text := d.Text(b, "address"); text != "" {
		host, port, ok := splitAddress(text)
		if !ok {
			d.Invalidf(b, "address", "For example "+example, "is %.80q; a host or an IP address, and a port", text)
		} else {
			l.Address, loopback = net.JoinHostPort(host, port), isLoopback(host)
			d.unique(first, l.Address, hclfile.Value(b, "address").Range(), "an address")
		}
	}
	l.TokenFile = d.Path(b, "token_file")
	l.HostNames = d.hostNames(b)
	l.TLSCert, l.TLSKey, l.TLSClientCA = d.Path(b, "tls_cert"), d.Path(b, "tls_key"), d.Path(b, "tls_client_ca")

	set := func(name string) bool { return hclfile.Value(b, name) != nil }
	switch tls := set("tls_cert") || set("tls_key") || set("tls_client_ca"); {
	case !tls && !loopback:
		d.Invalidf(b, "address", `Set tls_cert and tls_key, or listen on loopback: `+example,
			"is %q, which is not loopback: it needs TLS", l.Address)
	case tls && !set("tls_cert"):
		d.Missing(b, "tls_cert", "TLS needs a certificate and its key, as PEM files.")
	case tls && !set("tls_key"):
		d.Missing(b, "tls_key", "TLS needs a certificate and its key, as PEM files.")
	}
	if !set("token_file") && !set("tls_client_ca") {
		d.Errorf(b.TypeRange, "Every process of the machine can connect to TCP. Name a file of bearer tokens, one a line: "+
			`token_file = "token"`, "the block %q needs %q or %q", b.Type, "token_file", "tls_client_ca")
	}
}

// splitAddress returns the host of an address in lower case, and its port. Port 0 lets the system choose one.
func splitAddress(text string) (host, port string, ok bool) {
	host, port, err := net.SplitHostPort(text)
	if err != nil || !hclfile.IsHost(host) {
		return "", "", false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return canonical(host), strconv.FormatUint(n, 10), err == nil
}

// canonical returns the one spelling of a host.
func canonical(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String()
	}
	return strings.ToLower(host)
}

// isLoopback reports whether a canonical host is this machine, and only this machine can reach it.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func (d *decoder) hostNames(b *hclsyntax.Block) (names []string) {
	const name, example = "host_names", `For example host_names = ["recall.internal"]`
	texts, at := d.Texts(b, name, example)
	for i, text := range texts {
		if at[i] == nil {
			continue
		}
		host := canonical(text)
		switch {
		case !hclfile.IsHost(text):
			d.Errorf(at[i].Range(), example, "listen.%s[%d] is %.80q; a name or an IP address, without a port", name, i, text)
		case slices.Contains(names, host):
			d.Errorf(at[i].Range(), "Remove one of them.", "listen.%s[%d] is there twice", name, i)
		default:
			names = append(names, host)
		}
	}
	return names
}
