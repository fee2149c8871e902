package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// patience bounds every wait of a test. It is long: several packages are tested at a time on few cores.
const patience = 30 * time.Second

const (
	nsRetract0  = "urn:xmpp:message-retract:0"
	nsRetract1  = "urn:xmpp:message-retract:1"
	nsModerate0 = "urn:xmpp:message-moderate:0"
	nsModerate1 = "urn:xmpp:message-moderate:1"
	nsFasten    = "urn:xmpp:fasten:0"
	nsSM        = "urn:xmpp:sm:3"
	nsMAM       = "urn:xmpp:mam:2"
)

// node is an element of XML.
type node struct {
	XMLName xml.Name
	Attrs   []xml.Attr `xml:",any,attr"`
	Nodes   []node     `xml:",any"`
	Text    string     `xml:",chardata"`
	Inner   string     `xml:",innerxml"`
}

func (n node) attr(name string) string {
	for _, a := range n.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// find returns the first element inside of n, at any depth, with this name and namespace.
func (n node) find(space, name string) *node {
	for i := range n.Nodes {
		c := &n.Nodes[i]
		if c.XMLName.Local == name && (space == "" || c.XMLName.Space == space) {
			return c
		}
		if found := c.find(space, name); found != nil {
			return found
		}
	}
	return nil
}

// failure is the condition and the type of a stanza error, such as "forbidden auth", and what is in ours: the code.
func (n node) failure() (condition, kind, code string) {
	e := n.find("", "error")
	if e == nil {
		return "", "", ""
	}
	for _, c := range e.Nodes {
		switch c.XMLName.Space {
		case "urn:ietf:params:xml:ns:xmpp-stanzas":
			if c.XMLName.Local != "text" {
				condition = c.XMLName.Local
			}
		case "urn:recall:0":
			code = c.XMLName.Local
		}
	}
	return condition, e.attr("type"), code
}

// retracted returns the ids that a message retracts, in the elements of both generations.
func (n node) retracted() (v0, v1 string) {
	if a := n.find(nsFasten, "apply-to"); a != nil && a.find(nsRetract0, "retract") != nil {
		v0 = a.attr("id")
	}
	if r := n.find(nsRetract1, "retract"); r != nil {
		v1 = r.attr("id")
	}
	return v0, v1
}

// client is one stream of a user. Its methods are for the goroutine of the test.
type client struct {
	d    *server
	user string
	jid  string // full
	conn net.Conn
	dec  *xml.Decoder
	sm   string // to resume the stream; empty: it cannot be
	ids  int

	mu      sync.Mutex
	got     []node
	arrived chan struct{} // closed and replaced with each stanza
	closed  bool
	acked   bool // answer requests for acknowledgement
	handled int  // stanzas, for stream management
}

func escape(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

// connect authenticates a user and binds a resource. It is not available to others until present.
func (d *server) connect(user string) *client {
	d.t.Helper()
	c, err := d.dial(user)
	if err != nil {
		d.t.Fatalf("%s cannot connect: %v", user, err)
	}
	return c.bind()
}

// dial authenticates a user.
func (d *server) dial(user string) (*client, error) {
	c := &client{d: d, user: user, jid: user + "@localhost", acked: true, arrived: make(chan struct{})}
	var err error
	if c.conn, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", portC2S+d.offset)); err != nil {
		return nil, err
	}
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	d.part.Cleanup(func() { c.conn.Close() })
	if err := c.open(); err != nil {
		return nil, err
	}
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00pw-" + user))
	c.send(`<auth xmlns="urn:ietf:params:xml:ns:xmpp-sasl" mechanism="PLAIN">` + plain + `</auth>`)
	if n, err := c.read(); err != nil || n.XMLName.Local != "success" {
		return nil, fmt.Errorf("authenticate: %v %v", n, err)
	}
	if err := c.open(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *client) open() error {
	c.send(`<stream:stream xmlns="jabber:client" xmlns:stream="http://etherx.jabber.org/streams"
		to="localhost" version="1.0">`)
	c.dec = xml.NewDecoder(c.conn)
	for {
		tok, err := c.dec.Token()
		if err != nil {
			return err
		}
		if _, ok := tok.(xml.StartElement); ok {
			break
		}
	}
	n, err := c.read()
	if err == nil && n.XMLName.Local != "features" {
		err = fmt.Errorf("no features: %v", n)
	}
	return err
}

func (c *client) read() (n node, err error) {
	for {
		tok, err := c.dec.Token()
		if err != nil {
			return n, err
		}
		switch el := tok.(type) {
		case xml.StartElement:
			return n, c.dec.DecodeElement(&n, &el)
		case xml.EndElement:
			return n, io.EOF
		}
	}
}

func (c *client) bind() *client {
	c.d.t.Helper()
	_ = c.conn.SetDeadline(time.Time{})
	go c.listen()
	n := c.iq("set", "", `<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"><resource>`+rand.Text()[:6]+`</resource></bind>`)
	c.jid = n.find("", "jid").Text
	return c
}

// listen keeps what arrives.
func (c *client) listen() {
	for {
		n, err := c.read()
		c.mu.Lock()
		if err != nil {
			c.closed = true
		} else {
			c.got = append(c.got, n)
		}
		switch {
		case n.XMLName.Space == "jabber:client":
			c.handled++
		case n.XMLName.Local == "enabled": // what came before does not count
			c.handled = 0
		}
		handled, acked := c.handled, c.acked
		close(c.arrived)
		c.arrived = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
		if n.XMLName.Space == nsSM && n.XMLName.Local == "r" && acked {
			c.send(fmt.Sprintf(`<a xmlns=%q h="%d"/>`, nsSM, handled))
		}
	}
}

func (c *client) send(text string) { _, _ = io.WriteString(c.conn, text) } // an end of the stream shows when it is read

// await waits for the first stanza for which is is true, among all that have arrived.
func (c *client) await(what string, is func(node) bool) node {
	c.d.t.Helper()
	n, ok := c.awaitOr(is)
	if !ok {
		c.d.t.Fatalf("%s got no %s; it got:\n%s", c.user, what, c.log())
	}
	return n
}

func (c *client) awaitOr(is func(node) bool) (node, bool) {
	timeout := time.After(patience)
	for i := 0; ; {
		c.mu.Lock()
		for ; i < len(c.got); i++ {
			if n := c.got[i]; is(n) {
				c.mu.Unlock()
				return n, true
			}
		}
		arrived, closed := c.arrived, c.closed
		c.mu.Unlock()
		if closed {
			return node{}, false
		}
		select {
		case <-arrived:
		case <-timeout:
			return node{}, false
		}
	}
}

// log is all that has arrived, as text.
func (c *client) log() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, n := range c.got {
		fmt.Fprintf(&b, "  <%s id=%q from=%q type=%q> %s\n",
			n.XMLName.Local, n.attr("id"), n.attr("from"), n.attr("type"), n.Inner)
	}
	return b.String()
}

// ended reports whether the stream has ended.
func (c *client) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// forget drops what has arrived.
func (c *client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = nil
}

func (c *client) id() string {
	c.ids++
	return fmt.Sprintf("%s-%d-%s", c.user, c.ids, rand.Text()[:8])
}

// iq makes a request and returns its answer.
func (c *client) iq(kind, to, payload string) node {
	c.d.t.Helper()
	id := c.id()
	if to != "" {
		to = fmt.Sprintf(" to=%q", to)
	}
	c.send(fmt.Sprintf(`<iq type=%q id=%q%s>%s</iq>`, kind, id, to, payload))
	return c.await("answer to "+payload, func(n node) bool { return n.XMLName.Local == "iq" && n.attr("id") == id })
}

// sync returns when the server has handled all that was sent before.
func (c *client) sync() { c.d.t.Helper(); c.iq("get", "localhost", `<ping xmlns="urn:xmpp:ping"/>`) }

// present makes the user available, and asks for carbons.
func (c *client) present() *client {
	c.d.t.Helper()
	c.iq("set", "", `<enable xmlns="urn:xmpp:carbons:2"/>`)
	c.send(`<presence/>`)
	c.sync()
	return c
}

// leave closes the stream.
func (c *client) leave() {
	c.d.t.Helper()
	c.send(`</stream:stream>`)
	c.awaitOr(func(node) bool { return false })
	c.conn.Close()
}

// message sends a message with a new id, and returns the id. more is XML that it contains too.
func (c *client) message(to, kind, body string, more ...string) string {
	c.d.t.Helper()
	id := c.id()
	c.messageWith(to, kind, id, `<body>`+escape(body)+`</body>`+strings.Join(more, ""))
	return id
}

func (c *client) messageWith(to, kind, id, content string) {
	if to != "" {
		to = fmt.Sprintf(" to=%q", to)
	}
	if kind != "" {
		kind = fmt.Sprintf(" type=%q", kind)
	}
	c.send(fmt.Sprintf(`<message%s%s id="%s">%s</message>`, to, kind, escape(id), content))
}

// The orders to recall a message, by the name of their generation.
var retractions = map[string]string{
	"v0": `<apply-to xmlns="` + nsFasten + `" id="%s"><retract xmlns="` + nsRetract0 + `"/></apply-to>` + fallback,
	"v1": `<retract xmlns="` + nsRetract1 + `" id="%s"/>` + fallback,
}

const fallback = `<body>This person retracted a message</body><store xmlns="urn:xmpp:hints"/>`

// retract asks for the recall of an own message and returns the id of that stanza.
func (c *client) retract(to, kind, version, target string) string {
	id := c.id()
	c.messageWith(to, kind, id, fmt.Sprintf(retractions[version], escape(target)))
	return id
}

// refused waits for the error that answers a message.
func (c *client) refused(id string) (condition, kind, code string) {
	c.d.t.Helper()
	return c.await("error for "+id, func(n node) bool {
		return n.XMLName.Local == "message" && n.attr("id") == id && n.attr("type") == "error"
	}).failure()
}

// wantRefused retracts, and fails the test unless the answer is this error.
func (c *client) wantRefused(to, kind, version, target, want string) {
	c.d.t.Helper()
	condition, _, code := c.refused(c.retract(to, kind, version, target))
	if condition != want {
		c.d.t.Errorf("%s retracts %.80q: the answer is %q with code %q; want %q", c.user, target, condition, code, want)
	}
}

// awaitText waits for a message with a text in any place.
func (c *client) awaitText(text string) node {
	c.d.t.Helper()
	return c.await("message with "+text, func(n node) bool {
		return n.XMLName.Local == "message" && strings.Contains(n.Inner, text)
	})
}

// awaitRetraction waits for a retraction of both generations.
func (c *client) awaitRetraction(target string) node {
	c.d.t.Helper()
	return c.await("retraction of "+target, func(n node) bool {
		v0, v1 := n.retracted()
		return v0 == target && v1 == target && n.attr("type") != "error"
	})
}

// archive returns what an archive has: that of a room, or the user's own with somebody.
func (c *client) archive(room, with string) []node {
	c.d.t.Helper()
	query := c.id()
	form := `<field var="FORM_TYPE" type="hidden"><value>` + nsMAM + `</value></field>`
	if with != "" {
		form += `<field var="with"><value>` + with + `</value></field>`
	}
	var all []node
	after := ""
	for {
		answer := c.iq("set", room, fmt.Sprintf(`<query xmlns=%q queryid=%q><x xmlns="jabber:x:data" type="submit">%s</x>
			<set xmlns="http://jabber.org/protocol/rsm"><max>50</max>%s</set></query>`, nsMAM, query, form, after))
		fin := answer.find(nsMAM, "fin")
		if fin == nil {
			c.d.t.Fatalf("the archive answers %s", answer.Inner)
		}
		last := fin.find("", "last")
		if fin.attr("complete") == "true" || last == nil {
			break
		}
		after = `<after>` + last.Text + `</after>`
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.got {
		if r := n.find(nsMAM, "result"); r != nil && r.attr("queryid") == query {
			all = append(all, *r)
		}
	}
	return all
}

// archived reports whether an archive has a text.
func (c *client) archived(room, with, text string) bool {
	c.d.t.Helper()
	for _, r := range c.archive(room, with) {
		if strings.Contains(r.Inner, text) {
			return true
		}
	}
	return false
}

// join enters a room.
func (c *client) join(room, nick string) *client {
	c.d.t.Helper()
	c.send(fmt.Sprintf(`<presence to="%s/%s"><x xmlns="http://jabber.org/protocol/muc"/></presence>`, room, nick))
	c.await("presence in "+room, func(n node) bool {
		return n.XMLName.Local == "presence" && n.attr("from") == room+"/"+nick && strings.Contains(n.Inner, "110")
	})
	return c
}

// create makes a room with a configuration, joins it and returns its address.
func (c *client) create(nick string, config map[string]string) string {
	c.d.t.Helper()
	room := strings.ToLower("room-"+rand.Text()[:8]) + "@rooms.localhost"
	c.join(room, nick)
	form := `<field var="FORM_TYPE"><value>http://jabber.org/protocol/muc#roomconfig</value></field>`
	for key, value := range config {
		form += fmt.Sprintf(`<field var="muc#roomconfig_%s"><value>%s</value></field>`, key, value)
	}
	answer := c.iq("set", room, `<query xmlns="http://jabber.org/protocol/muc#owner">
		<x xmlns="jabber:x:data" type="submit">`+form+`</x></query>`)
	if answer.attr("type") != "result" {
		c.d.t.Fatalf("configure the room: %s", answer.Inner)
	}
	return room
}

// say sends a message to a room, and returns the id that the room gave it.
func (c *client) say(room, text string, more ...string) (stanzaID, id string) {
	c.d.t.Helper()
	id = c.message(room, "groupchat", text, more...)
	n := c.await("own message "+text, func(n node) bool {
		return n.XMLName.Local == "message" && n.attr("type") == "groupchat" && strings.HasPrefix(n.attr("from"), room) &&
			n.attr("id") == id
	})
	s := n.find("urn:xmpp:sid:0", "stanza-id")
	if s == nil {
		c.d.t.Fatalf("the room gave no id: %s", n.Inner)
	}
	return s.attr("id"), id
}

// moderate asks for the recall of a message of a room, and returns the condition and code of the refusal, if any.
func (c *client) moderate(room, version, target, reason string) (condition, code string) {
	c.d.t.Helper()
	because := ""
	if reason != "" {
		because = `<reason>` + escape(reason) + `</reason>`
	}
	order := map[string]string{
		"v0": `<apply-to xmlns="` + nsFasten + `" id="%s"><moderate xmlns="` + nsModerate0 + `">` +
			`<retract xmlns="` + nsRetract0 + `"/>%s</moderate></apply-to>`,
		"v1": `<moderate xmlns="` + nsModerate1 + `" id="%s"><retract xmlns="` + nsRetract1 + `"/>%s</moderate>`,
	}[version]
	condition, _, code = c.iq("set", room, fmt.Sprintf(order, escape(target), because)).failure()
	return condition, code
}

// upload puts a file and returns its address.
func (c *client) upload(name, content, mime string) string {
	c.d.t.Helper()
	slot := c.iq("get", "files.localhost", fmt.Sprintf(
		`<request xmlns="urn:xmpp:http:upload:0" filename=%q size="%d" content-type=%q/>`, name, len(content), mime))
	put, get := slot.find("", "put"), slot.find("", "get")
	if put == nil {
		c.d.t.Fatalf("no slot: %s", slot.Inner)
	}
	req, err := http.NewRequestWithContext(c.d.t.Context(), http.MethodPut, put.attr("url"), strings.NewReader(content))
	if err != nil {
		c.d.t.Fatal(err)
	}
	req.Header.Set("Authorization", put.find("", "header").Text)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.d.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		c.d.t.Fatalf("upload: %s", res.Status)
	}
	return get.attr("url")
}

// download returns the status of a file.
func (c *client) download(address string) int {
	c.d.t.Helper()
	req, err := http.NewRequestWithContext(c.d.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		c.d.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.d.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// manage enables stream management, so that the stream can be resumed.
func (c *client) manage() *client {
	c.d.t.Helper()
	c.send(`<enable xmlns="` + nsSM + `" resume="true"/>`)
	c.sm = c.await("stream management", func(n node) bool { return n.XMLName.Local == "enabled" }).attr("id")
	return c
}

// drop ends the connection without a word: the session waits to be resumed.
func (c *client) drop() {
	c.conn.Close()
	c.awaitOr(func(node) bool { return false })
}

// resume continues a stream on a new connection, with what had arrived by a moment acknowledged.
func (c *client) resume() *client {
	c.d.t.Helper()
	next, err := c.d.dial(c.user)
	if err != nil {
		c.d.t.Fatal(err)
	}
	_ = next.conn.SetDeadline(time.Time{})
	next.jid, next.sm = c.jid, c.sm
	go next.listen()
	next.send(fmt.Sprintf(`<resume xmlns=%q previd=%q h="%d"/>`, nsSM, c.sm, c.handled))
	next.await("resumption", func(n node) bool { return n.XMLName.Local == "resumed" })
	next.sync()
	return next
}
