package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/internal/hclfile"
)

// ClusterBlock says where the log is that the nodes of a cluster share, and which node this one is.
type ClusterBlock struct {
	Node     string   // unique in the cluster, and the same after a restart
	URLs     []string // of the NATS servers
	Stream   string   // name of the stream that is the log
	Replicas int      // of the stream

	Credentials       string // path of a file; empty: none
	SystemCredentials string // path of a file, of the account that may ask the servers how they store
	Unchecked         bool   // do not ask them
	CA, Cert, Key     string // paths of PEM files for TLS; empty: the CAs of the machine, and no client certificate

	Lease           time.Duration // how long a node may be silent before the others take over its steps
	ForgetAfter     time.Duration // how long what a node that is gone misses is kept for it
	SnapshotEntries int           // entries of the log between two snapshots
}

// The defaults of the block "cluster".
const (
	DefaultStream          = "RECALL"
	DefaultReplicas        = 3
	DefaultLease           = 15 * time.Second
	DefaultForgetAfter     = 24 * time.Hour
	DefaultSnapshotEntries = 200_000
)

const (
	minLease, maxLease                     = 3 * time.Second, 10 * time.Minute // 6 beats a lease, of at least 0.5 s
	minForgetAfter, maxForgetAfter         = time.Minute, 30 * 24 * time.Hour
	minSnapshotEntries, maxSnapshotEntries = 1000, 100_000_000
	maxURLs                                = 16

	maxCredentialsBytes = 64 << 10
	maxPEMBytes         = 1 << 20 // all CAs of a machine have about 250 KB

	durabilityChecked   = "checked"
	durabilityUnchecked = "unchecked"
)

var (
	nodeName   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`) // index.MaxNodeBytes
	streamName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)  // NATS allows no dots, blanks and wildcards
	urlSchemes = []string{"nats", "tls"}
	replicas   = []int{1, 3, 5}

	replicasLimit = "1, 3 or 5 (three survive the loss of one server, five that of two)"
	leaseLimit    = fmt.Sprintf("%s to %s", minLease, maxLease)
	forgetLimit   = fmt.Sprintf("%s to %s", minForgetAfter, maxForgetAfter)
	entriesLimit  = fmt.Sprintf("%d to %d", minSnapshotEntries, maxSnapshotEntries)
)

// A Problem is what is wrong with one attribute of a block.
type Problem struct {
	Attribute string // as plugin.hcl names it
	Element   int    // of a list, from 0; -1: the attribute as a whole
	Missing   bool   // the attribute is empty and must not be
	Text      string // what is wrong, and the limit; it follows the name of the attribute
	Advice    string // how to say it in plugin.hcl
}

// Check returns what is wrong with the block, wherever it comes from. It opens no file.
func (c *ClusterBlock) Check() (found []Problem) {
	wrong := func(attribute, format string, args ...any) {
		found = append(found, Problem{Attribute: attribute, Element: -1, Text: fmt.Sprintf(format, args...)})
	}
	missing := func(attribute, text, advice string) {
		found = append(found, Problem{Attribute: attribute, Element: -1, Missing: true, Text: text, Advice: advice})
	}
	switch {
	case c.Node == "":
		missing("node", "is empty: name this node, differently from all others",
			`Name this node, differently from all others: node = "n0"`)
	case !nodeName.MatchString(c.Node):
		wrong("node", "is %.80q; a name is 1 to 64 letters, digits, '.', '_' and '-'", c.Node)
	}
	if !streamName.MatchString(c.Stream) {
		wrong("stream", "is %.80q; a name is 1 to 64 letters, digits, '_' and '-'", c.Stream)
	}
	switch {
	case len(c.URLs) == 0:
		missing("urls", "is empty: name the NATS servers", exampleURLs)
	case len(c.URLs) > maxURLs:
		wrong("urls", "has %d servers; 1 to %d", len(c.URLs), maxURLs)
	default:
		found = append(found, checkURLs(c.URLs)...)
	}
	if !slices.Contains(replicas, c.Replicas) {
		wrong("replicas", "is %d; %s", c.Replicas, replicasLimit)
	}
	if c.Lease < minLease || c.Lease > maxLease {
		wrong("lease", "is %s; %s", c.Lease, leaseLimit)
	}
	if c.ForgetAfter < minForgetAfter || c.ForgetAfter > maxForgetAfter {
		wrong("forget_after", "is %s; %s", c.ForgetAfter, forgetLimit)
	}
	if c.SnapshotEntries < minSnapshotEntries || c.SnapshotEntries > maxSnapshotEntries {
		wrong("snapshot_entries", "is %d; %s", c.SnapshotEntries, entriesLimit)
	}
	const pair = "A client certificate needs both cert and key."
	switch {
	case c.Cert != "" && c.Key == "":
		missing("key", "is empty, and the certificate of the client is set: it needs both", pair)
	case c.Cert == "" && c.Key != "":
		missing("cert", "is empty, and the key of the client is set: it needs both", pair)
	}
	switch {
	case c.Unchecked && c.SystemCredentials != "":
		wrong("durability", "is unchecked, and there are system credentials to check it with: remove one of them")
	case !c.Unchecked && c.SystemCredentials == "":
		missing("system_credentials", "is empty: only the system account may ask the servers whether they sync what they "+
			"acknowledge. To do without that check, say that durability is unchecked",
			"By default, NATS acknowledges before it syncs. The plugin asks every server with the credentials of the system "+
				`account: system_credentials = "sys.creds". To do without that check, write durability = "unchecked".`)
	}
	return found
}

const exampleURLs = `For example urls = ["tls://10.0.0.1:4222", "tls://10.0.0.2:4222"]`

// checkURLs returns what is wrong with addresses of servers. It quotes none, since one may hold a secret.
func checkURLs(urls []string) (found []Problem) {
	wrong := func(i int, text, advice string) {
		found = append(found, Problem{Attribute: "urls", Element: i, Text: text, Advice: advice})
	}
	for i, text := range urls {
		u, err := url.Parse(text)
		switch {
		case err == nil && u.User != nil:
			wrong(i, "holds a user or a password: put them into the file that credentials names",
				`Write user:password into a file that only the server can read: credentials = "recall.creds"`)
		case err != nil || !isServer(u):
			wrong(i, "is not the address of a server: nats:// or tls://, a host, and a port if it is not 4222", exampleURLs)
		case slices.Contains(urls[:i], text):
			wrong(i, "is there twice", "Remove one of them.")
		}
	}
	return found
}

// isServer reports whether u is the address of a server and nothing more.
func isServer(u *url.URL) bool {
	host, port := u.Hostname(), u.Port()
	if !hclfile.IsHost(host) {
		return false
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return false
	}
	plain := url.URL{Scheme: u.Scheme, Host: u.Host}
	return slices.Contains(urlSchemes, u.Scheme) && *u == plain
}

// cluster reads the block "cluster".
func (d *decoder) cluster(b *hclsyntax.Block) *ClusterBlock {
	c := &ClusterBlock{
		Stream: DefaultStream, Replicas: DefaultReplicas, Lease: DefaultLease, ForgetAfter: DefaultForgetAfter,
		SnapshotEntries: DefaultSnapshotEntries,
	}
	c.Node = d.Text(b, "node")
	if stream := d.Text(b, "stream"); stream != "" {
		c.Stream = stream
	}
	var servers []hclsyntax.Expression
	c.URLs, servers = d.Texts(b, "urls", exampleURLs)
	d.Number(b, "replicas", replicasLimit, &c.Replicas)
	d.Number(b, "snapshot_entries", entriesLimit, &c.SnapshotEntries)
	d.Duration(b, "lease", leaseLimit, &c.Lease)
	d.Duration(b, "forget_after", forgetLimit, &c.ForgetAfter)
	for _, file := range c.files() {
		*file.path = d.Path(b, file.attribute)
	}
	switch word := d.Text(b, "durability"); word {
	case "", durabilityChecked:
	case durabilityUnchecked:
		c.Unchecked = true
		d.Warnf(hclfile.Value(b, "durability").Range(),
			`Name the credentials of the system account: system_credentials = "sys.creds"`,
			"nobody checks that the servers sync what they acknowledge: if they do not, a power failure loses recalls")
	default:
		d.Invalidf(b, "durability", "", "is %q; it is one of %q", word, []string{durabilityChecked, durabilityUnchecked})
	}
	for _, p := range c.Check() {
		switch e := hclfile.Value(b, p.Attribute); {
		case e == nil:
			d.Missing(b, p.Attribute, p.Advice)
		case p.Missing: // what is set could not be read, which is reported
		case p.Element < 0:
			d.Invalidf(b, p.Attribute, p.Advice, "%s", p.Text)
		case servers[p.Element] != nil:
			d.Mistakef(servers[p.Element].Range(), p.Advice, "cluster.%s[%d] %s", p.Attribute, p.Element, p.Text)
		}
	}
	if d.view.opensFiles {
		d.checkFiles(b, c)
	}
	return c
}

// clusterFile is an attribute that names a file.
type clusterFile struct {
	attribute string
	path      *string
	limit     int64 // bytes
}

// files are the attributes of the block that name files.
func (c *ClusterBlock) files() []clusterFile {
	return []clusterFile{
		{"credentials", &c.Credentials, maxCredentialsBytes},
		{"system_credentials", &c.SystemCredentials, maxCredentialsBytes},
		{"ca", &c.CA, maxPEMBytes}, {"cert", &c.Cert, maxPEMBytes}, {"key", &c.Key, maxPEMBytes},
	}
}

// checkFiles reports files that cannot be read, or cannot be what the block says that they are. The plugin would only
// find out when it connects, and take it for a server that is away.
func (d *decoder) checkFiles(b *hclsyntax.Block, c *ClusterBlock) {
	content := map[string][]byte{}
	for _, file := range c.files() {
		if *file.path == "" {
			continue
		}
		text, err := hclfile.Read(*file.path, file.limit)
		if err == nil && len(text) == 0 {
			err = errors.New("it is empty")
		}
		if err != nil {
			var path *fs.PathError
			if errors.As(err, &path) {
				err = path.Err
			}
			d.Mistakef(hclfile.Value(b, file.attribute).Range(),
				"A path is relative to this file. The user that runs the server must be able to read it.",
				"cluster.%s: %s cannot be read: %v", file.attribute, *file.path, err)
			continue
		}
		content[file.attribute] = text
	}
	if ca := content["ca"]; ca != nil && !x509.NewCertPool().AppendCertsFromPEM(ca) {
		d.Mistakef(hclfile.Value(b, "ca").Range(), "", "cluster.ca: %s has no certificate in PEM", c.CA)
	}
	if cert, key := content["cert"], content["key"]; cert != nil && key != nil {
		if _, err := tls.X509KeyPair(cert, key); err != nil {
			d.Mistakef(hclfile.Value(b, "cert").Range(), "Both are PEM files, and the key is not encrypted.",
				"cluster.cert and cluster.key are not a certificate and its key: %v", err)
		}
	}
}
