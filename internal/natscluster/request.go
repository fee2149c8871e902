package natscluster

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

const (
	// requestTimeout is the time of one request to one server. Servers without a leader do not answer.
	requestTimeout = 2 * time.Second
	requestRetry   = 200 * time.Millisecond

	inboxes = "_INBOX." // of answers; each connection has one of its own
)

// errRefused says that a server has answered, and will not do what it is asked for.
var errRefused = errors.New("the NATS server refuses")

// Request sends a request to the servers, one after the other until one answers, as a user ("name:password"). It
// speaks the protocol of NATS itself, so that whoever uses this package links no client.
func (s *Servers) Request(ctx context.Context, user, subject string, body []byte) (answer []byte, err error) {
	for {
		for i := range s.options.Count {
			if !s.isRunning(i) {
				continue
			}
			if answer, err = s.request(ctx, i, user, subject, body); err == nil || errors.Is(err, errRefused) {
				return answer, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no NATS server answers %s: %w", subject, errors.Join(ctx.Err(), err))
		case <-time.After(requestRetry):
		}
	}
}

func (s *Servers) request(ctx context.Context, i int, user, subject string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	c, err := s.Connect(ctx, i, user)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Request(ctx, subject, body)
}

// Conn is a connection to one server. It is for one goroutine.
type Conn struct {
	net.Conn
	in    *bufio.Reader
	inbox string
}

// Connect connects to a server as a user ("name:password").
func (s *Servers) Connect(ctx context.Context, i int, user string) (*Conn, error) {
	conn, err := s.dial(ctx, i)
	if err != nil {
		return nil, err
	}
	c := &Conn{conn, bufio.NewReader(conn), inboxes + rand.Text()}
	if s.options.TLS != nil {
		if err := c.encrypt(ctx, s.options.TLS, s.host(i)); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	name, password, _ := strings.Cut(user, ":")
	options, err := json.Marshal(map[string]any{"user": name, "pass": password, "verbose": false, "pedantic": false})
	if err == nil {
		_, err = fmt.Fprintf(c, "CONNECT %s\r\nSUB %s 1\r\n", options, c.inbox)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// encrypt goes on with TLS behind the first line of the server.
func (c *Conn) encrypt(ctx context.Context, files *TLS, host string) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := c.in.ReadString('\n'); err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(files.CA)
	if err != nil {
		return err
	}
	config := &tls.Config{ServerName: host, Certificates: []tls.Certificate{cert}, RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(ca)
	conn := tls.Client(c.Conn, config)
	c.Conn, c.in = conn, bufio.NewReader(conn)
	return conn.HandshakeContext(ctx)
}

// Request sends a request, and waits for its answer until ctx ends; after that the connection is of no more use.
func (c *Conn) Request(ctx context.Context, subject string, body []byte) ([]byte, error) {
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := fmt.Fprintf(c, "PUB %s %s %d\r\n%s\r\n", subject, c.inbox, len(body), body); err != nil {
		return nil, err
	}
	for {
		line, err := c.in.ReadString('\n')
		switch {
		case err != nil:
			return nil, err
		case strings.HasPrefix(line, "-ERR"):
			return nil, fmt.Errorf("%w: %s", errRefused, strings.TrimSpace(line))
		case strings.HasPrefix(line, "PING"):
			if _, err := io.WriteString(c, "PONG\r\n"); err != nil {
				return nil, err
			}
		case strings.HasPrefix(line, "MSG"):
			var size int
			if _, err := fmt.Sscanf(line, "MSG "+c.inbox+" 1 %d", &size); err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			answer := make([]byte, size+len("\r\n"))
			_, err := io.ReadFull(c.in, answer)
			return answer[:size], err
		}
	}
}

func (s *Servers) isRunning(i int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running[i] != nil
}

// API sends a request of the API of JetStream, such as "STREAM.INFO.RECALL", as [User], and decodes its answer.
func (s *Servers) API(ctx context.Context, what string, body []byte, answer any) error {
	data, err := s.Request(ctx, User, "$JS.API."+what, body)
	if err != nil {
		return err
	}
	var refused struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := errors.Join(json.Unmarshal(data, &refused), json.Unmarshal(data, answer)); err != nil {
		return fmt.Errorf("the answer to %s: %w", what, err)
	}
	if refused.Error != nil {
		return fmt.Errorf("%s: %s", what, refused.Error.Description)
	}
	return nil
}

// streamInfo is what the servers say of a stream.
type streamInfo struct {
	Cluster struct {
		Leader   string `json:"leader"`
		Replicas []struct {
			Current bool `json:"current"`
		} `json:"replicas"`
	} `json:"cluster"`
}

// leader is the number of the server that leads the stream; ok is false if none does.
func (i *streamInfo) leader() (server int, ok bool) {
	_, err := fmt.Sscanf(i.Cluster.Leader, "s%d", &server)
	return server, err == nil
}

// isCurrent reports whether every server has all of the stream.
func (i *streamInfo) isCurrent() bool {
	_, current := i.leader()
	for _, r := range i.Cluster.Replicas {
		current = current && r.Current
	}
	return current
}

// stream waits until the state of a stream is as wanted.
func (s *Servers) stream(ctx context.Context, name string, wanted func(*streamInfo) bool) (*streamInfo, error) {
	for {
		var info streamInfo
		if err := s.API(ctx, "STREAM.INFO."+name, nil, &info); err != nil {
			return nil, err
		}
		if wanted(&info) {
			return &info, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the stream %s is %+v: %w", name, info, ctx.Err())
		case <-time.After(requestRetry):
		}
	}
}

// Leader is the number of the server that leads a stream. It waits until one does.
func (s *Servers) Leader(ctx context.Context, stream string) (int, error) {
	info, err := s.stream(ctx, stream, func(i *streamInfo) bool { _, ok := i.leader(); return ok })
	if err != nil {
		return 0, err
	}
	server, _ := info.leader()
	return server, nil
}

// WaitUntilCurrent waits until every server has all of a stream.
func (s *Servers) WaitUntilCurrent(ctx context.Context, stream string) error {
	_, err := s.stream(ctx, stream, (*streamInfo).isCurrent)
	return err
}
