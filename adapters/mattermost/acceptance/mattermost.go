package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	pluginID = "com.chat-recall.recall"
	password = "Password1!"
)

// mattermost is the server under test.
type mattermost struct {
	folder   string // of the binary
	data     string // its data are below
	port     int
	database string
	cmd      *exec.Cmd
	ended    chan struct{}
}

func (m *mattermost) url() string       { return "http://127.0.0.1:" + strconv.Itoa(m.port) }
func (m *mattermost) files() string     { return filepath.Join(m.data, "files") }
func (m *mattermost) logFile() string   { return filepath.Join(m.data, "mattermost.log") }
func (m *mattermost) pluginDir() string { return filepath.Join(m.data, "plugins") }

// env is the configuration: loopback only, no outbound connections, and what the checks look at switched on.
func (m *mattermost) env() []string {
	return append(os.Environ(),
		"MM_SQLSETTINGS_DRIVERNAME=postgres", "MM_SQLSETTINGS_DATASOURCE="+m.database,
		"MM_SERVICESETTINGS_LISTENADDRESS=127.0.0.1:"+strconv.Itoa(m.port), "MM_SERVICESETTINGS_SITEURL="+m.url(),
		"MM_SERVICESETTINGS_ENABLESECURITYFIXALERT=false", "MM_LOGSETTINGS_ENABLEDIAGNOSTICS=false",
		"MM_ANNOUNCEMENTSETTINGS_ADMINNOTICESENABLED=false", "MM_ANNOUNCEMENTSETTINGS_USERNOTICESENABLED=false",
		"MM_SERVICESETTINGS_ENABLELINKPREVIEWS=true", // of our own address only: the clients post no other links
		"MM_EMAILSETTINGS_SENDPUSHNOTIFICATIONS=false", "MM_EMAILSETTINGS_SENDEMAILNOTIFICATIONS=true",
		"MM_LOGSETTINGS_ENABLEFILE=false", "MM_LOGSETTINGS_CONSOLELEVEL=INFO", "MM_LOGSETTINGS_CONSOLEJSON=true",
		"MM_FILESETTINGS_DIRECTORY="+m.files()+"/", "MM_FILESETTINGS_EXTRACTCONTENT=true",
		"MM_PLUGINSETTINGS_ENABLE=true", "MM_PLUGINSETTINGS_ENABLEUPLOADS=true", "MM_PLUGINSETTINGS_ENABLEMARKETPLACE=false",
		"MM_PLUGINSETTINGS_AUTOMATICPREPACKAGEDPLUGINS=false", "MM_PLUGINSETTINGS_DIRECTORY="+m.pluginDir(),
		"MM_PLUGINSETTINGS_CLIENTDIRECTORY="+filepath.Join(m.data, "client-plugins"),
		"MM_TEAMSETTINGS_ENABLEOPENSERVER=true", "MM_METRICSSETTINGS_ENABLE=false", "MM_RATELIMITSETTINGS_ENABLE=false",
	)
}

// start starts the server and waits until it answers.
func (m *mattermost) start(ctx context.Context) error {
	for _, folder := range []string{m.files(), m.pluginDir(), filepath.Join(m.data, "client-plugins")} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(m.logFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	m.cmd = exec.Command(filepath.Join(m.folder, "mattermost"), "server", "--config", filepath.Join(m.data, "config.json"))
	m.cmd.Dir, m.cmd.Env, m.cmd.Stdout, m.cmd.Stderr = m.folder, m.env(), log, log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	m.ended = ended
	cmd := m.cmd
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	err = wait(ctx, 3*time.Minute, func() error {
		select {
		case <-ended:
			return nil
		default:
		}
		resp, err := http.Get(m.url() + "/api/v4/system/ping")
		if err != nil {
			return err
		}
		return errors.Join(statusError(resp, http.StatusOK), resp.Body.Close())
	})
	select {
	case <-ended:
		return fmt.Errorf("the server ended: see %s", m.logFile())
	default:
		return err
	}
}

// kill ends the server with SIGKILL.
func (m *mattermost) kill() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		<-m.ended
	}
}

// processes are the processes whose command line has a text, by pid.
func processes(text string) (pids []int) {
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range found {
		if line, err := os.ReadFile(file); err == nil && strings.Contains(string(line), text) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func statusError(resp *http.Response, want int) error {
	if resp.StatusCode != want {
		return fmt.Errorf("%s %s: %s, want %d", resp.Request.Method, resp.Request.URL.Path, resp.Status, want)
	}
	return nil
}
