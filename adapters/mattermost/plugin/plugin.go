package main

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/mattermost/mattermost/server/public/plugin"
)

const pluginID = "com.chat-recall.recall"

// The build sets these.
var (
	version            = "0.0.0"
	recallPlugin       = "recall-plugin" // file name in the folder server of the bundle
	recallPluginSHA256 = ""              // empty: any binary is started
)

// Plugin is the Mattermost plugin.
type Plugin struct {
	plugin.MattermostPlugin

	log     hclog.Logger
	service atomic.Pointer[service] // nil until it is open
	failure atomic.Pointer[error]   // why it is not open
	site    atomic.Pointer[string]  // the address of the server; nil: not known
	stop    context.CancelFunc
	done    sync.WaitGroup
}

var errStarting = errors.New("recall is starting")

// OnActivate returns at once: after an error, or after three processes that ended within an hour, Mattermost gives a
// plugin up until an administrator comes. So the service is opened in the background, again and again.
func (p *Plugin) OnActivate() error {
	p.log = newLogger(p.API)
	started, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.failure.Store(&errStarting)
	p.done.Go(func() {
		defer recoverPanic(p.log, "start")
		p.openService(started)
	})
	go p.endWithServer(os.Getppid())
	return nil
}

const (
	firstOpenWait = time.Second
	maxOpenWait   = 30 * time.Second
)

// openService opens the service, and tries again if that fails.
func (p *Plugin) openService(started context.Context) {
	for wait := firstOpenWait; ; wait = min(2*wait, maxOpenWait) {
		err := p.API.RegisterCommand(command())
		if err == nil {
			var s *service
			if s, err = open(started, p.API, p.log); err == nil {
				p.service.Store(s)
				_ = p.OnConfigurationChange() // what changed while it opened
				p.log.Info("recall is ready", "version", version, "data_folder", s.folder)
				return
			}
		}
		if started.Err() != nil {
			return
		}
		p.failure.Store(&err)
		p.log.Error("recall did not open; trying again", "in", wait, "error", err)
		select {
		case <-started.Done():
			return
		case <-time.After(wait):
		}
	}
}

// OnDeactivate has ten seconds before Mattermost kills the process.
func (p *Plugin) OnDeactivate() error {
	p.stop()
	p.done.Wait()
	if s := p.service.Swap(nil); s != nil {
		return s.close()
	}
	return nil
}

// OnConfigurationChange puts new settings in force. It is also called before OnActivate.
func (p *Plugin) OnConfigurationChange() error {
	if c := p.API.GetConfig(); c != nil {
		site := value(c.ServiceSettings.SiteURL)
		p.site.Store(&site)
	}
	s := p.service.Load()
	if s == nil {
		return nil // it reads them when it opens
	}
	set, err := loadSettings(p.API)
	if err == nil {
		err = s.configure(set)
	}
	if err != nil {
		p.log.Error("new settings are not in force; those before stay", "error", err)
	}
	return nil
}

// parentEvery is how often endWithServer looks.
const parentEvery = time.Second

// endWithServer ends this process when the server has ended: plugins outlive a server that was killed, and nothing
// that a step does reaches it any more. The host has ended by itself then, so that the plugin of the next server gets
// the index.
func (p *Plugin) endWithServer(server int) {
	for os.Getppid() == server {
		time.Sleep(parentEvery)
	}
	_ = p.OnDeactivate()
	os.Exit(0)
}

// recoverPanic keeps a panic from ending the process: Mattermost gives up a plugin that ends three times in an hour.
func recoverPanic(log hclog.Logger, where string) {
	if v := recover(); v != nil {
		log.Error("panic", "where", where, "value", v, "stack", string(debug.Stack()))
	}
}

func main() { plugin.ClientMain(&Plugin{}) }
