package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/chat-recall/recall/shared"
)

const (
	// askedFirst is how long the first server may take to say how it stores, and askedNext each further one.
	askedFirst = 2 * time.Second
	askedNext  = 300 * time.Millisecond
)

// checkDurability asks every server that the system account reaches whether it syncs what it acknowledges. By default a
// server of NATS does not: then a power failure of all of them loses whole streams.
func checkDurability(ctx context.Context, o *Options) error {
	if o.Unchecked {
		o.Logger.Warn("cluster.durability is \"unchecked\": if the servers do not sync what they acknowledge " +
			"(jetstream { sync_interval: always }), a power failure loses recalls")
		return nil
	}
	nc, err := connect(ctx, o, o.SystemCredentials)
	if err != nil {
		return fmt.Errorf("ask the servers how they store: %w", err)
	}
	defer nc.Close()
	answers, err := nc.SubscribeSync(nc.NewRespInbox())
	if err != nil {
		return fmt.Errorf("ask the servers how they store: %w", err)
	}
	if err := nc.PublishRequest("$SYS.REQ.SERVER.PING.JSZ", answers.Subject, []byte(`{"config":true}`)); err != nil {
		return fmt.Errorf("ask the servers how they store: %w", err)
	}
	servers, err := ask(ctx, answers)
	if err != nil {
		return err
	}
	var lazy []string
	for _, s := range servers {
		if !s.syncs {
			lazy = append(lazy, s.name)
		}
	}
	switch {
	case len(servers) == 0:
		return fmt.Errorf("%w: no server with JetStream says how it stores; is cluster.system_credentials of the system "+
			"account?", shared.ErrUnavailable)
	case len(lazy) > 0:
		slices.Sort(lazy)
		return fmt.Errorf("the servers %s acknowledge before they sync: a power failure would lose recalls. Set "+
			"jetstream { sync_interval: always } on every server", strings.Join(lazy, ", "))
	}
	return nil
}

// server is the answer of one server.
type server struct {
	name  string
	syncs bool
}

// ask collects the answers of the servers that have JetStream.
func ask(ctx context.Context, answers *nats.Subscription) (servers []server, err error) {
	for wait := askedFirst; ; wait = askedNext {
		try, cancel := context.WithTimeout(ctx, wait)
		msg, err := answers.NextMsgWithContext(try)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w: ask the servers how they store: %w", shared.ErrUnavailable, ctx.Err())
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrNoResponders):
			return servers, nil
		case err != nil:
			return nil, fmt.Errorf("ask the servers how they store: %w", err)
		}
		var answer struct {
			Server struct {
				Name string `json:"name"`
			} `json:"server"`
			Data struct {
				Disabled bool `json:"disabled"`
				Config   struct {
					SyncAlways bool `json:"sync_always"`
				} `json:"config"`
			} `json:"data"`
		}
		if err := json.Unmarshal(msg.Data, &answer); err != nil {
			return nil, fmt.Errorf("a server says how it stores in a way that this version does not know: %w", err)
		}
		if !answer.Data.Disabled {
			servers = append(servers, server{answer.Server.Name, answer.Data.Config.SyncAlways})
		}
	}
}

// maxCredentialsBytes bounds a file of credentials.
const maxCredentialsBytes = 64 << 10

// login are the options by which a file of credentials is used; none for an empty path. The file is read again for each
// connection.
func login(file string) ([]nats.Option, error) {
	if file == "" {
		return nil, nil
	}
	data, err := readCredentials(file)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(data, []byte("-----BEGIN NATS USER JWT-----")) {
		return []nats.Option{nats.UserCredentials(file)}, nil
	}
	user, password, err := userAndPassword(file, data)
	if err != nil {
		return nil, err
	}
	return []nats.Option{nats.UserInfoHandler(func() (string, string) {
		if data, err := readCredentials(file); err == nil {
			if u, p, err := userAndPassword(file, data); err == nil {
				user, password = u, p
			}
		}
		return user, password // while the file is being replaced, the last that was in it
	})}, nil
}

func readCredentials(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the credentials: %w", err)
	}
	if len(data) > maxCredentialsBytes {
		return nil, fmt.Errorf("%s has %d bytes; credentials have at most %d", file, len(data), maxCredentialsBytes)
	}
	return data, nil
}

// userAndPassword are those of a file with one line "user:password".
func userAndPassword(file string, data []byte) (user, password string, err error) {
	user, password, ok := strings.Cut(strings.TrimSpace(string(data)), ":")
	if !ok || user == "" || strings.ContainsAny(password, "\r\n") {
		return "", "", fmt.Errorf("%s has no credentials: it is a .creds file of NATS, or one line with user:password", file)
	}
	return user, password, nil
}
