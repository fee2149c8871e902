package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/lib/pq"
	"github.com/mattermost/mattermost/server/public/model"
	"github.com/mattermost/mattermost/server/public/plugin"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

const (
	tenant         = "mattermost"
	callTimeout    = 20 * time.Second
	expireEvery    = time.Hour
	maxConnections = 6 // to the database; more steps at once wait
)

// A service is everything that runs while the plugin is open.
type service struct {
	log         hclog.Logger
	db          *sql.DB
	platform    platform
	folder      string // of the index
	bundle      string // of this plugin
	host        *host.Host
	adapter     *adapter.Adapter
	bypassed    *bypassLog
	permissions *permissions
	handler     http.Handler

	mu       sync.Mutex
	settings settings
	roles    *adapter.Follower[role]
	running  sync.WaitGroup
	stop     context.CancelFunc
}

// open opens the service. started is the context of the plugin: the service ends with it, or with close.
func open(started context.Context, api plugin.API, log hclog.Logger) (_ *service, err error) {
	set, err := loadSettings(api)
	if err != nil {
		return nil, err
	}
	config := api.GetUnsanitizedConfig()
	if config == nil || config.SqlSettings.DataSource == nil {
		return nil, errors.New("the Mattermost server does not answer with its configuration")
	}
	if err := supported(config); err != nil {
		return nil, err
	}
	s := &service{log: log, settings: set}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if s.bundle, err = api.GetBundlePath(); err != nil {
		return nil, err
	}
	if s.bundle, err = filepath.Abs(s.bundle); err != nil {
		return nil, err
	}
	if s.folder, err = set.dataFolder(config); err != nil {
		return nil, err
	}
	if err := set.writeRules(s.rulesFile(), s.bundle); err != nil {
		return nil, err
	}
	if s.db, err = connect(started, *config.SqlSettings.DataSource); err != nil {
		return nil, err
	}
	s.platform = platform{s.db}
	admin := &admin{api, s.db}
	kept := archive{filepath.Join(s.folder, "archive")}
	work := &steps{api: api, db: s.db, admin: admin, archive: kept, log: log}
	s.host, err = host.Open(started, host.Config{
		Plugin: host.PluginConfig{Binary: filepath.Join(s.bundle, "server", recallPlugin), SHA256: recallPluginSHA256},
		Index:  host.IndexConfig{Path: filepath.Join(s.folder, "index")},
		Rules:  host.RulesConfig{Paths: []string{s.rulesFile()}},
		RunDir: filepath.Join(s.folder, "run"), Steps: work.all(), EndWithParent: true, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	// The host has the data folder for itself now.
	if s.bypassed, err = openBypassLog(filepath.Join(s.folder, "bypassed.jsonl")); err != nil {
		return nil, err
	}
	s.adapter = adapter.New(adapter.Config{Tenant: tenant, Platform: s.platform, Log: log})
	s.adapter.Attach(s.host)
	s.permissions = &permissions{admin: admin, db: s.db, file: filepath.Join(s.folder, "taken.json"), log: log,
		on: set.TakeDeletePost}
	s.handler = s.newHandler()
	s.follow(started, work, kept)
	return s, nil
}

// supported refuses what this adapter cannot serve.
func supported(c *model.Config) error {
	if driver := value(c.SqlSettings.DriverName); driver != model.DatabaseDriverPostgres {
		return fmt.Errorf("the database of this server is %q: Recall for Mattermost needs PostgreSQL", driver)
	}
	if value(c.ClusterSettings.Enable) {
		return errors.New("this server is in a cluster: Recall for Mattermost needs a single server")
	}
	return nil
}

// connect opens connections of our own to the database. The driver of the plugin API goes through the server, and
// reports success when the server is gone.
func connect(ctx context.Context, source string) (*sql.DB, error) {
	connector, err := pq.NewConnector(source)
	if err != nil {
		return nil, fmt.Errorf("SqlSettings.DataSource: %w", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(maxConnections)
	db.SetConnMaxIdleTime(time.Minute)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("database of the server: %w", err), db.Close())
	}
	return db, nil
}

func (s *service) rulesFile() string { return filepath.Join(s.folder, "rules.hcl") }

// follow keeps up with what happens on the server.
func (s *service) follow(ctx context.Context, work *steps, kept archive) {
	ctx, s.stop = context.WithCancel(ctx)
	index := s.adapter.Index(s.log, func(_ context.Context, m shared.Message, r shared.IndexResult) error {
		if r.Status == shared.IndexInvalid { // a conflict is of a post that was edited since: it was indexed before
			s.log.Error("post cannot be indexed, and so not be recalled", "post_id", m.ID, "field", r.Field,
				"problem", r.Problem)
		}
		return nil
	})
	posts := created(s.db).follow("posts", filepath.Join(s.folder, "posts.cursor"), s.log,
		func(ctx context.Context, posts []post) error {
			for some := range slices.Chunk(messages(posts), shared.MaxIndexBatch) {
				if err := index(ctx, some); err != nil {
					return err
				}
			}
			return nil
		})
	judge := &deletions{recall: s.host, adapter: s.adapter, list: s.bypassed, log: s.log}
	deletions := deleted(s.db).follow("deleted posts", filepath.Join(s.folder, "deletions.cursor"), s.log, judge.judge)
	back := &updates{recall: s.host, steps: work}
	updates := updated(s.db).follow("updated posts", filepath.Join(s.folder, "updates.cursor"), s.log, back.again)
	s.roles = s.permissions.follower()
	expired := &adapter.Follower[struct{}]{What: "archived posts", Every: expireEvery, Log: s.log,
		Read: func(context.Context, string) (adapter.Page[struct{}], error) {
			return adapter.Page[struct{}]{}, kept.expire(time.Now())
		}}
	for _, run := range []func(context.Context){posts.Run, updates.Run, deletions.Run, s.roles.Run, expired.Run} {
		s.running.Go(func() {
			defer recoverPanic(s.log, "follower")
			run(ctx)
		})
	}
}

// configure puts changed settings in force, all but the data folder.
func (s *service) configure(set settings) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if set.DataFolder != s.settings.DataFolder {
		s.log.Warn("the data folder changed: disable and enable the plugin to put it in force", "in_force", s.folder)
	}
	s.settings = set
	s.permissions.set(set.TakeDeletePost)
	s.roles.Wake()
	if err := set.writeRules(s.rulesFile(), s.bundle); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	diagnostics, err := s.host.Reload(ctx)
	if err != nil {
		return err
	}
	return diagnostics.Err()
}

func (s *service) state() (state, error) {
	taken, err := s.permissions.readTaken()
	s.mu.Lock()
	defer s.mu.Unlock()
	return state{State: s.host.State(), DataFolder: s.folder, TakeDeletePost: s.settings.TakeDeletePost,
		AdapterVersion: version, Bypassed: s.bypassed.len(), TakenFrom: len(taken)}, err
}

// close ends the service. Steps that run are given up after a moment, and run again when it is opened.
func (s *service) close() error {
	s.stop()
	s.running.Wait()
	return s.release()
}

// release closes the host, files and connections.
func (s *service) release() error {
	var errs error
	if s.host != nil {
		errs = s.host.Close()
	}
	if s.bypassed != nil {
		errs = errors.Join(errs, s.bypassed.close())
	}
	if s.db != nil {
		errs = errors.Join(errs, s.db.Close())
	}
	return errs
}
