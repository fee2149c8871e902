package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mattermost/mattermost/server/public/model"
	"github.com/mattermost/mattermost/server/public/plugin"
)

// admin calls what only the REST API has: to change roles, and to empty caches. It acts in a session of a minute of a
// system admin.
type admin struct {
	api plugin.API
	db  *sql.DB
}

const (
	adminSession = time.Minute
	maxAdmins    = 5 // that are tried: the first ones may be barred, such as by multi-factor authentication
)

// do makes a call. body is sent as JSON, unless it is nil.
func (a *admin) do(ctx context.Context, method, path string, body any) error {
	c := a.api.GetConfig()
	if c == nil || c.ServiceSettings.ListenAddress == nil {
		return errors.New("the Mattermost server does not answer with its configuration")
	}
	base, err := baseURL(c)
	if err != nil {
		return err
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	admins, err := a.admins(ctx)
	if err != nil {
		return err
	}
	failed := errors.New("there is no active system admin")
	for _, user := range admins {
		if failed = a.as(ctx, user, method, base+path, text); failed == nil {
			return nil
		}
	}
	return fmt.Errorf("%s %s as a system admin: %w", method, path, failed)
}

// admins are the system admins, with their roles, oldest first.
func (a *admin) admins(ctx context.Context) (users []model.User, err error) {
	rows, err := a.db.QueryContext(ctx, `SELECT id, roles FROM users WHERE deleteat = 0
		AND ' ' || roles || ' ' LIKE '% system_admin %' ORDER BY createat LIMIT $1`, maxAdmins)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var u model.User
		if err := rows.Scan(&u.Id, &u.Roles); err != nil {
			return nil, err
		}
		users = append(users, u)
	}
	return users, rows.Err()
}

func (a *admin) as(ctx context.Context, user model.User, method, address string, body []byte) error {
	session, aerr := a.api.CreateSession(&model.Session{
		UserId: user.Id, Roles: user.Roles, ExpiresAt: time.Now().Add(adminSession).UnixMilli(),
	})
	if aerr != nil {
		return aerr
	}
	if session == nil || session.Token == "" {
		return errors.New("the Mattermost server does not answer with a session")
	}
	defer func() { _ = a.api.RevokeSession(session.Id) }() // it ends by itself in a minute
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+session.Token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := loopback.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(answer)))
	}
	return err
}

// loopback calls the server on this machine. Its certificate is for its public name.
var loopback = &http.Client{
	Timeout:       20 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
}

// baseURL is where the server listens, with the path under which it is installed.
func baseURL(c *model.Config) (string, error) {
	host, port, err := net.SplitHostPort(value(c.ServiceSettings.ListenAddress))
	if err != nil {
		return "", fmt.Errorf("ServiceSettings.ListenAddress: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(host, port)}
	if value(c.ServiceSettings.ConnectionSecurity) == model.ConnSecurityTLS {
		u.Scheme = "https"
	}
	if site, err := url.Parse(value(c.ServiceSettings.SiteURL)); err == nil {
		u.Path = strings.TrimSuffix(site.Path, "/")
	}
	return u.String(), nil
}
