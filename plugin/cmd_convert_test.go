package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/internal/natscluster"
	"github.com/chat-recall/recall/internal/natscluster/natstest"
	"github.com/chat-recall/recall/plugin/internal/convert"
	"github.com/chat-recall/recall/plugin/internal/journal/jetstream"
	"github.com/chat-recall/recall/shared"
)

// machineIndex makes the closed index of a single machine, with a recall for every ten messages, and returns what it
// holds.
func machineIndex(t *testing.T, path string, messages int) index.Content {
	t.Helper()
	x, err := index.Open(t.Context(), index.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	for first := 0; first < messages; first += 500 {
		var ops []index.Op
		for i := first; i < min(first+500, messages); i++ {
			m := shared.Message{
				Tenant: "acme", ID: fmt.Sprint("m", i), Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"},
				Sender: "ann", Type: shared.TypeText, SentAt: time.UnixMilli(1_700_000_000_000 + int64(i)),
			}
			ops = append(ops, index.Op{Put: &m})
			if i%10 == 0 {
				ops = append(ops, index.Op{Recall: &index.Recall{
					Steps: []string{shared.StepNotify, shared.StepHistory}, Event: shared.Event{
						Tenant: "acme", RecallID: "r-" + m.ID, Actor: shared.Actor{ID: "ann"}, Role: shared.RoleMember,
						RecalledAt: m.SentAt, Message: m, Disposition: shared.DispositionErase,
					},
				}})
			}
		}
		if _, err := x.Apply([][]index.Op{ops}); err != nil {
			t.Fatal(err)
		}
	}
	content, err := x.Content(t.Context(), nil)
	if err := errors.Join(err, x.Close()); err != nil {
		t.Fatal(err)
	}
	return content
}

// clusterConfig writes the plugin.hcl of a node, with its index in the folder of the file.
func clusterConfig(t *testing.T, servers *natscluster.Servers, node, stream string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "plugin.hcl")
	text := fmt.Sprintf(`plugin { binary = "p" }
index { path = "index" }
cluster {
  node               = %q
  urls               = ["%s"]
  stream             = %q
  replicas           = 1
  credentials        = %q
  system_credentials = %q
}
`, node, strings.Join(servers.URLs(), `", "`), stream, natstest.Credentials(t, natscluster.User),
		natstest.Credentials(t, natscluster.SystemUser))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// connectTo connects to the log of a plugin.hcl.
func connectTo(t *testing.T, file string, change func(*jetstream.Options)) *jetstream.Stream {
	t.Helper()
	f, ds := config.Plugin.Load(file)
	if f == nil {
		t.Fatal(ds)
	}
	o := jetstream.OptionsOf(f.Cluster, hclog.NewNullLogger())
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), connectTimeout)
	defer cancel()
	log, err := jetstream.Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// killedByHand runs the binary and kills it after a random time, several times, and then runs it to its end.
func killedByHand(t *testing.T, into any, args ...string) {
	t.Helper()
	most := 50 * time.Millisecond
	killed := 0
	for range 8 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.Int64N(int64(most))))
		began := time.Now()
		out, err := exec.CommandContext(ctx, binary, args...).CombinedOutput()
		timeIsUp := ctx.Err() != nil
		cancel()
		switch {
		case err == nil:
			most = time.Since(began) // it takes less
		case !timeIsUp:
			t.Fatalf("%s: %v\n%s", args, err, out)
		default:
			killed++
			most = min(most*2, time.Second)
		}
	}
	t.Logf("killed %d times in up to %v", killed, most)
	stdout, stderr, code := byHand(t, args...)
	if code != 0 || json.Unmarshal([]byte(stdout), into) != nil {
		t.Fatalf("%s: exit %d\n%s%s", args, code, stdout, stderr)
	}
}

// TestIndexConvert_Killed takes an index into a cluster and back, by commands that are killed again and again. The
// index is then what it was.
func TestIndexConvert_Killed(t *testing.T) {
	servers := natstest.Start(t, 1, nil)
	from, file := filepath.Join(t.TempDir(), "single"), clusterConfig(t, servers, "n0", "RECALL")
	content := machineIndex(t, from, 20_000)

	var in convert.Imported
	killedByHand(t, &in, "index", "to-cluster", "--json", "--config", file, "--nodes", "n1,n0", from)
	if in.Messages != content.Messages || in.Recalls != content.Recalls || in.OpenSteps != content.OpenSteps {
		t.Errorf("%+v, want %+v", in, content)
	}
	log := connectTo(t, file, nil)
	defer log.Close()
	all, err := log.Snapshots(t.Context())
	if err != nil || len(all) != 1 || all[0].Position != in.Position {
		t.Fatalf("%+v %v", all, err)
	}
	if first, err := log.First(t.Context()); err != nil || first != in.Position+1 {
		t.Errorf("the log begins with %d, and the snapshot is of %d: %v", first, in.Position, err)
	}
	beginNode(t, log, file, "n0")

	var out convert.Exported
	to := filepath.Join(t.TempDir(), "back")
	killedByHand(t, &out, "index", "to-single", "--json", "--config", file, to)
	x, err := index.Open(t.Context(), index.Options{Path: to})
	if err != nil {
		t.Fatal(err)
	}
	got, err := x.Content(t.Context(), nil)
	if err := errors.Join(err, x.Close()); err != nil || got != content {
		t.Errorf("%+v %v, want %+v", got, err, content)
	}
	if left, err := filepath.Glob(to + ".*"); err != nil || len(left) != 1 { // its marker
		t.Errorf("%v %v", left, err)
	}
}

// beginNode makes the closed index of a node of the newest snapshot, as its plugin does when it starts.
func beginNode(t *testing.T, log *jetstream.Stream, file, node string) {
	t.Helper()
	x, err := index.Open(t.Context(), index.Options{Path: filepath.Join(filepath.Dir(file), "index")})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Follow(t.Context(), log.ID(), node); err != nil {
		t.Fatal(err)
	}
	all, err := log.Snapshots(t.Context())
	var r io.ReadCloser
	if err == nil {
		r, err = log.OpenSnapshot(t.Context(), all[0])
	}
	if err == nil {
		_, err = x.Replace(t.Context(), r, all[0].Position, nil)
		err = errors.Join(err, r.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// refusedBy runs the binary and wants it to refuse.
func refusedBy(t *testing.T, want int, words string, args ...string) {
	t.Helper()
	stdout, stderr, code := byHand(t, args...)
	if code != want || !strings.Contains(stdout+stderr, words) {
		t.Errorf("%s: exit %d, want %d and %q\n%s%s", args, code, want, words, stdout, stderr)
	}
}

func TestIndex_Help(t *testing.T) {
	stdout, _, code := byHand(t, "index", "-h")
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	for _, c := range indexCommands {
		if !strings.Contains(stdout, "recall-plugin index "+c.name) {
			t.Errorf("it does not tell of %s: %s", c.name, stdout)
		}
		if help, _, code := byHand(t, "index", c.name, "-h"); code != 0 ||
			!strings.HasPrefix(help, "usage: recall-plugin index "+c.name+" ") || !strings.Contains(help, "-json") {
			t.Errorf("%s: exit %d: %s", c.name, code, help)
		}
	}
}

func TestIndexToCluster_Refused(t *testing.T) {
	servers := natstest.Start(t, 1, nil)
	from, file := filepath.Join(t.TempDir(), "single"), clusterConfig(t, servers, "n0", "RECALL")
	machineIndex(t, from, 10)
	to := func(more ...string) []string {
		return append([]string{"index", "to-cluster", "--config", file, "--nodes", "n0,n1"}, more...)
	}
	t.Run("wrong usage", func(t *testing.T) {
		refusedBy(t, 2, "name the folder", to()...)
		refusedBy(t, 2, "--config", "index", "to-cluster", "--nodes", "n0", from)
		refusedBy(t, 2, "--nodes", "index", "to-cluster", "--config", file, from)
		refusedBy(t, 2, "does not name n0", append(to(from), "--nodes", "n1,n2")...)
		refusedBy(t, 2, "twice", append(to(from), "--nodes", "n0,n0")...)
		refusedBy(t, 2, "bytes long", append(to(from), "--nodes", "n0,,n1")...)
	})
	t.Run("no cluster", func(t *testing.T) {
		plain := filepath.Join(t.TempDir(), "plugin.hcl")
		if err := os.WriteFile(plain, []byte("plugin { binary = \"p\" }\nindex { path = \"index\" }\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		refusedBy(t, 1, `no block "cluster"`, append(to(from), "--config", plain)...)
		refusedBy(t, 1, "cannot be read", append(to(from), "--config", plain+"x")...)
	})
	t.Run("no index", func(t *testing.T) {
		refusedBy(t, 1, "no such file", to(from+"x")...)
		refusedBy(t, 1, "holds no index", to(t.TempDir())...)
	})
	t.Run("a damaged index", func(t *testing.T) {
		damaged := filepath.Join(t.TempDir(), "damaged")
		if err := os.CopyFS(damaged, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
		tables, err := filepath.Glob(filepath.Join(damaged, "*.sst"))
		if err != nil || len(tables) == 0 {
			t.Fatal(tables, err)
		}
		data, err := os.ReadFile(tables[0])
		if err == nil {
			data[len(data)/3] ^= 1
			err = os.WriteFile(tables[0], data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		refusedBy(t, 1, "is damaged", to(damaged)...)
	})
	t.Run("an index that is open", func(t *testing.T) {
		x, err := index.Open(t.Context(), index.Options{Path: from})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		refusedBy(t, 1, "stop its server first", to(from)...)
	})
	t.Run("the servers store lazily", func(t *testing.T) {
		lazy := natstest.Start(t, 1, func(o *natscluster.Options) { o.Lazy = true })
		refusedBy(t, 1, "sync_interval", append(to(from), "--config", clusterConfig(t, lazy, "n0", "RECALL"))...)
	})
	if log, err := exists(t, file); err == nil {
		t.Errorf("a refused import has created the stream %s", log)
	}
	t.Run("a stream of others", func(t *testing.T) {
		used := clusterConfig(t, servers, "n0", "USED")
		log := connectTo(t, used, nil)
		defer log.Close()
		done := make(chan error, 1)
		log.Publish(t.Context(), []byte("x"), func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		refusedBy(t, 1, "is there already, with entries up to 1", append(to(from), "--config", used)...)
	})
	t.Run("an import that is not the same", func(t *testing.T) {
		x, err := index.Open(t.Context(), index.Options{Path: from})
		if err != nil {
			t.Fatal(err)
		}
		id := x.Identity()
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		connectTo(t, file, func(o *jetstream.Options) { // which was killed there
			o.Import = &jetstream.Import{Claim: convert.Claim(id, []string{"n0", "n1"}), After: id.Version}
		}).Close()
		other := filepath.Join(t.TempDir(), "other")
		machineIndex(t, other, 20)
		refusedBy(t, 1, "for the import of the index "+id.ID, to(other)...)
		refusedBy(t, 1, "for the nodes n0, n1", append(to(from), "--nodes", "n0,n2")...)
		refusedBy(t, 0, "goes on behind entry", to(from)...)
	})
	t.Run("the index of a node", func(t *testing.T) {
		log := connectTo(t, file, nil)
		defer log.Close()
		beginNode(t, log, file, "n0")
		refusedBy(t, 1, "of a node of a cluster already", to(filepath.Join(filepath.Dir(file), "index"))...)
	})
}

// TestIndexToCluster_Race runs imports of two indexes at once. One of them wins, and the other is refused.
func TestIndexToCluster_Race(t *testing.T) {
	servers := natstest.Start(t, 1, nil)
	file := clusterConfig(t, servers, "n0", "RECALL")
	type result struct {
		stderr string
		code   int
	}
	results := make(chan result, 2)
	for i := range 2 {
		from := filepath.Join(t.TempDir(), "single")
		machineIndex(t, from, 100*(i+1))
		go func() {
			var r result
			_, r.stderr, r.code = byHand(t, "index", "to-cluster", "--config", file, "--nodes", "n0", from)
			results <- r
		}()
	}
	one, two := <-results, <-results
	if one.code > two.code {
		one, two = two, one
	}
	if one.code != 0 || two.code != 1 || !strings.Contains(two.stderr, "for the import of the index") {
		t.Errorf("%+v and %+v", one, two)
	}
}

// exists returns the id of the log of a plugin.hcl, if it is there.
func exists(t *testing.T, file string) (id string, err error) {
	t.Helper()
	f, ds := config.Plugin.Load(file)
	if f == nil {
		t.Fatal(ds)
	}
	o := jetstream.OptionsOf(f.Cluster, hclog.NewNullLogger())
	o.Existing = true
	log, err := jetstream.Open(t.Context(), o)
	if err != nil {
		return "", err
	}
	defer log.Close()
	return log.ID(), nil
}

func TestIndexToSingle_Refused(t *testing.T) {
	servers := natstest.Start(t, 1, nil)
	file := clusterConfig(t, servers, "n0", "RECALL")
	own, from := filepath.Join(filepath.Dir(file), "index"), filepath.Join(t.TempDir(), "single")
	machineIndex(t, from, 10)
	target := filepath.Join(t.TempDir(), "new")
	args := []string{"index", "to-single", "--config", file, target}
	refusedBy(t, 2, "name the folder", args[:4]...)
	refusedBy(t, 2, "--config", "index", "to-single", target)
	refusedBy(t, 1, "no such file", args...)
	machineIndex(t, own, 10)
	refusedBy(t, 1, "of a single machine already", args...)
	if err := errors.Join(os.RemoveAll(own), os.Remove(own+".marker")); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := byHand(t, "index", "to-cluster", "--config", file, "--nodes", "n0", from); code != 0 {
		t.Fatal(stderr)
	}
	log := connectTo(t, file, nil)
	beginNode(t, log, file, "n0")
	log.Close()
	t.Run("a folder with something else", func(t *testing.T) {
		another := filepath.Join(t.TempDir(), "another")
		machineIndex(t, another, 20)
		refusedBy(t, 1, "something else", append(args[:4:4], another)...)
		other := t.TempDir()
		if err := os.WriteFile(filepath.Join(other, "a"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		refusedBy(t, 1, "holds no index", append(args[:4:4], other)...)
	})
	t.Run("another log", func(t *testing.T) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		gone := filepath.Join(filepath.Dir(file), "gone.hcl")
		if err := os.WriteFile(gone, []byte(strings.Replace(string(text), `"RECALL"`, `"GONE"`, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		refusedBy(t, 1, "the log of the cluster is gone", append(args[:2:2], "--config", gone, target)...)
		connectTo(t, gone, nil).Close()
		refusedBy(t, 1, "another log", append(args[:2:2], "--config", gone, target)...)
	})
	if files, err := filepath.Glob(target + "*"); err != nil || len(files) > 0 {
		t.Errorf("%v %v", files, err)
	}
	refusedBy(t, 0, "is verified: 10 messages, 1 recall and 1 open step\n", args...)
}

// TestIndex_BackupOfANode goes the way from the backup of a node to a new cluster, after all servers were lost.
func TestIndex_BackupOfANode(t *testing.T) {
	servers := natstest.Start(t, 1, nil)
	file := clusterConfig(t, servers, "n0", "RECALL")
	folder := filepath.Dir(file)
	first := filepath.Join(t.TempDir(), "single")
	want := machineIndex(t, first, 10)
	if _, stderr, code := byHand(t, "index", "to-cluster", "--config", file, "--nodes", "n0", first); code != 0 {
		t.Fatal(stderr)
	}
	log := connectTo(t, file, nil)
	beginNode(t, log, file, "n0")
	log.Close()
	x, err := index.Open(t.Context(), index.Options{Path: filepath.Join(folder, "index")})
	if err != nil {
		t.Fatal(err)
	}
	backup, err := os.Create(filepath.Join(folder, "backup"))
	if err == nil {
		err = errors.Join(x.Backup(t.Context(), backup), backup.Close())
	}
	if err := errors.Join(err, x.Close()); err != nil {
		t.Fatal(err)
	}
	servers.Kill(0)
	restored, single := filepath.Join(folder, "restored"), filepath.Join(folder, "single")
	if _, stderr, code := byHand(t, "index", "restore", backup.Name(), restored); code != 0 {
		t.Fatal(stderr)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(folder, "again.hcl")
	text = bytes.Replace(text, []byte(`"index"`), []byte(`"restored"`), 1)
	if err := os.WriteFile(again, bytes.Replace(text, []byte(`"RECALL"`), []byte(`"ANEW"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := byHand(t, "index", "to-single", "--config", again, "--offline", single); code != 0 {
		t.Fatal(stderr)
	}
	if err := servers.Start(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	said := fmt.Sprintf("%d messages", want.Messages)
	refusedBy(t, 0, said, "index", "to-cluster", "--config", again, "--nodes", "n0", single)
}
