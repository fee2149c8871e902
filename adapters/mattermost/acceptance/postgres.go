package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	_ "github.com/lib/pq" // the driver "postgres"
)

// postgres is a database server of our own on loopback. It refuses to run as root: then it runs as the user postgres.
type postgres struct {
	*sql.DB // of the server's database
	port    int
	bin     string
	owner   *syscall.SysProcAttr
	cmd     *exec.Cmd
	log     bytes.Buffer
}

// startPostgres starts a server with an empty database "mattermost".
func startPostgres(ctx context.Context, folder string, port int) (*postgres, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return nil, fmt.Errorf("PostgreSQL is not installed: there is no /usr/lib/postgresql/*/bin/initdb")
	}
	p := &postgres{port: port, bin: filepath.Dir(slices.Max(found)),
		owner: &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT}}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		if err := p.asPostgres(folder); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "PG_VERSION")); err != nil {
		cmd := p.command("initdb", "-D", folder, "-A", "trust", "-U", "postgres", "--no-locale", "-E", "UTF8")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("initdb: %w\n%s", err, out)
		}
	}
	p.cmd = p.command("postgres", "-D", folder, "-k", folder, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1",
		"-c", "max_connections=200", "-c", "shared_buffers=64MB")
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	first, err := sql.Open("postgres", p.source("postgres"))
	if err != nil {
		return nil, err
	}
	defer first.Close()
	if err := wait(ctx, 30*time.Second, func() error { return first.PingContext(ctx) }); err != nil {
		p.stop()
		return nil, fmt.Errorf("postgres does not answer: %w\n%s", err, p.log.Bytes())
	}
	if _, err := first.ExecContext(ctx, `CREATE DATABASE mattermost`); err != nil {
		say("using the database that is there: %v", err)
	}
	p.DB, err = sql.Open("postgres", p.source("mattermost"))
	return p, err
}

// asPostgres gives the folder to the user postgres, who has to get there.
func (p *postgres) asPostgres(folder string) error {
	u, err := user.Lookup("postgres")
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	p.owner.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if err := os.Chmod(filepath.Dir(folder), 0o711); err != nil {
		return err
	}
	return os.Chown(folder, uid, gid)
}

func (p *postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Dir, cmd.SysProcAttr = "/", p.owner
	return cmd
}

func (p *postgres) source(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable&connect_timeout=10", p.port, database)
}

// dump is everything in the database, as text.
func (p *postgres) dump() ([]byte, error) {
	return p.command("pg_dump", "-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-U", "postgres", "mattermost").Output()
}

func (p *postgres) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGINT) // a fast shutdown
	_ = p.cmd.Wait()
}
