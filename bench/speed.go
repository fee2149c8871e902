package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/chat-recall/recall/rules"
)

// speedBench measures every call beside the limit of the machine.
func speedBench(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("speed", flag.ContinueOnError)
	messages := whole(set, "messages", 0, 0, "messages in the large index; 0: 10,000,000, with --quick 200,000")
	quick := set.Bool("quick", false, "short runs and a smaller index: under a minute, and noisier")
	asJSON := set.Bool("json", false, "print one JSON object")
	readme := set.String("readme", "", "a README.md to put the table into; the plots are written beside it")
	if err := parse(set, args); err != nil {
		return err
	}
	s := &speed{messages: 10_000_000, rounds: 5, run: time.Second, warm: time.Second}
	if *quick {
		s = &speed{messages: 200_000, rounds: 3, run: 120 * time.Millisecond, warm: 100 * time.Millisecond}
	}
	if *messages > 0 {
		s.messages = int64(*messages)
	}
	s.base = min(100_000, max(s.messages/10, 1))
	dir, config, remove, err := workplace()
	if err != nil {
		return err
	}
	defer remove()
	start := time.Now()
	if err := s.measure(ctx, dir, filepath.Join(filepath.Dir(config), "recall-plugin")); err != nil {
		return err
	}
	result := speedResult{
		Messages: s.messages, Rounds: s.rounds, Seconds: rounded(time.Since(start).Seconds()), Postgres: s.postgresNote,
		Machine: machine(dir), Restarts: s.restarts, Rows: s.rows(),
	}
	if *readme != "" {
		if err := s.write(*readme, &result); err != nil {
			return err
		}
	}
	if *asJSON {
		out, err := result.json()
		if err != nil {
			return err
		}
		fmt.Println(out)
		return nil
	}
	fmt.Println(result.text())
	return nil
}

// speed is one run of the command and what it found.
type speed struct {
	messages, base int64 // in the large index and in the small one
	rounds         int
	run, warm      time.Duration // of one load

	all          []round
	sizes        []int64 // of the large index while it grew, and what its calls cost then
	bySize       []round
	postgresNote string // empty: it was there

	anonymous, mapped int64 // most memory of the plugin with the large index, in bytes
	hostAnonymous     int64 // of a process that is nothing but the SDK and its callers
	diskBytes         int64 // of the large index after compaction
	coldClean         time.Duration
	coldKilled        time.Duration
	decide            time.Duration
	restarts          int
}

const recallCalls = 4000 // at most in one run, so that not too many have to be indexed for it

func (s *speed) measure(ctx context.Context, dir, binary string) error {
	small, err := newChat(dir, "small", binary, "")
	if err != nil {
		return err
	}
	large, err := newChat(dir, "large", binary, "@large")
	if err != nil {
		return err
	}
	if err := s.grow(ctx, large); err != nil {
		return err
	}
	defer func() {
		if large.host != nil {
			large.host.Close()
		}
	}()
	if err := small.open(ctx); err != nil {
		return err
	}
	defer small.host.Close()
	small.reserve(s.base)
	if err := small.grow(ctx, s.base); err != nil {
		return err
	}
	e, err := startEcho(ctx, dir)
	if err != nil {
		return err
	}
	defer e.close()
	d, err := openDisk(filepath.Join(dir, "disk"))
	if err != nil {
		return err
	}
	defer d.close()
	loads := []*load{
		e.unary(1), d.messages("commit/1", 1, 1), small.index("index/1", 1, 1), large.index("index/1", 1, 1),
		d.recalls("commit-recall/1", 1), small.recall("recall/1", 1, recallCalls, false), large.recall("recall/1", 1, recallCalls, false),
		small.check("check/1", 1), large.check("check/1", 1), small.status("status/1", 1), large.status("status/1", 1),
		small.recall("event/1", 1, recallCalls, true), large.recall("event/1", 1, recallCalls, true),
		d.messages("disk/4", 4, 1), small.index("index/4", 4, 1), d.messages("disk/16", 16, 1), small.index("index/16", 16, 1),
		d.messages("disk/64", 64, 1), small.index("index/64", 64, 1), large.index("index/64", 64, 1),
		d.messages("disk/256", 256, 1), small.index("index/256", 256, 1), large.index("index/256", 256, 1),
		d.messages("disk/batch", batchesInFlight, batch), small.index("index/batch", batchesInFlight, batch),
		large.index("index/batch", batchesInFlight, batch),
		d.recalls("disk-recall/64", 64), small.recall("recall/64", 64, 4*recallCalls, false),
		large.recall("recall/64", 64, 4*recallCalls, false),
		e.unary(64), e.overStream(64), small.check("check/64", 64), large.check("check/64", 64),
		small.status("status/64", 64), large.status("status/64", 64),
	}
	switch p, err := startPostgres(ctx, dir); {
	case errors.Is(err, errNoPostgres):
		s.postgresNote = "PostgreSQL is not installed: left out"
	case err != nil:
		return err
	default:
		defer p.close()
		loads = append(loads, p.insert("pg-index/1", 1, 1), p.insert("pg-index/4", 4, 1), p.insert("pg-index/16", 16, 1),
			p.insert("pg-index/64", 64, 1), p.insert("pg-index/256", 256, 1), p.insert("pg-index/batch", batchesInFlight, batch),
			p.recall("pg-recall/1", 1, recallCalls), p.recall("pg-recall/64", 64, 2*recallCalls))
	}
	if s.decide, err = decideAlone(); err != nil {
		return err
	}
	if _, err := rounds(ctx, loads, 1, s.warm/10, func() {}); err != nil {
		return err
	}
	s.all, err = rounds(ctx, loads, s.rounds, s.run, func() {
		if anonymous, mapped, err := memory(large.host.State().PID); err == nil {
			s.anonymous, s.mapped = max(s.anonymous, anonymous), max(s.mapped, mapped)
		}
	})
	return err
}

// grow fills the large index, with a look at what calls cost on the way, and starts it cold, twice.
func (s *speed) grow(ctx context.Context, large *chat) error {
	if err := large.open(ctx); err != nil {
		return err
	}
	large.reserve(s.messages)
	defer func() {
		if large.host != nil && ctx.Err() != nil {
			large.host.Close()
		}
	}()
	for size := s.messages; size >= 1000; size /= 10 {
		s.sizes = append([]int64{size}, s.sizes...)
	}
	looks := []*load{large.index("index/1", 1, 1), large.check("check/1", 1), large.recall("recall/1", 1, 1000, false)}
	for _, size := range s.sizes {
		if err := large.grow(ctx, size); err != nil {
			return err
		}
		r, err := rounds(ctx, looks, 1, s.run, func() {})
		if err != nil {
			return err
		}
		s.bySize = append(s.bySize, r[0])
	}
	if anonymous, mapped, err := memory(large.host.State().PID); err == nil {
		s.anonymous, s.mapped = anonymous, mapped
	}
	s.restarts = large.host.State().Restarts
	err := large.host.Close()
	if err != nil {
		return err
	}
	if s.diskBytes, err = compact(large.folder); err != nil {
		return err
	}
	return s.coldStarts(ctx, large)
}

// coldStarts opens the large index in a host of its own, has it work and kills it, then opens it here.
func (s *speed) coldStarts(ctx context.Context, large *chat) error {
	child, err := startSpeedChild(ctx, large.config, max(4*s.run, time.Second))
	if err != nil {
		return err
	}
	defer child.end()
	if err := child.expect("opening"); err != nil {
		return err
	}
	start := time.Now()
	if err := child.expect("open"); err != nil {
		return err
	}
	s.coldClean = time.Since(start)
	if err := child.expect("worked"); err != nil {
		return err
	}
	if s.hostAnonymous, _, err = memory(child.cmd.Process.Pid); err != nil {
		return err
	}
	child.end() // with its plugin, while callers work
	start = time.Now()
	if err := large.open(ctx); err != nil {
		return err
	}
	s.coldKilled = time.Since(start)
	return nil
}

// decideAlone is what one decision of the built-in rules takes.
func decideAlone() (time.Duration, error) {
	policy := rules.Default()
	in := &rules.Input{
		Tenant: tenant, MessageID: "m", MessageType: "text", Sender: "user-1", ConversationID: "group-1", ConversationType: "group",
		ActorID: "user-1", ActorRole: "member", SentAt: time.Now().Add(-time.Minute), RequestedAt: time.Now(),
	}
	const n = 200_000
	start := time.Now()
	for range n {
		if !policy.Decide(in).Permit {
			return 0, errors.New("the built-in rules refuse a sender within the window")
		}
	}
	return time.Since(start) / n, nil
}

// memory tells the anonymous and the mapped memory of a process that is in RAM, in bytes.
func memory(pid int) (anonymous, mapped int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for l := range strings.Lines(string(status)) {
		var kib int64
		if _, err := fmt.Sscanf(l, "RssAnon: %d kB", &kib); err == nil {
			anonymous = kib << 10
		}
		if _, err := fmt.Sscanf(l, "RssFile: %d kB", &kib); err == nil {
			mapped = kib << 10
		}
	}
	return anonymous, mapped, nil
}

// machine says what it was measured on.
func machine(dir string) string {
	model := runtime.GOARCH
	if cpu, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for l := range strings.Lines(string(cpu)) {
			if name, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel, _ := exec.Command("uname", "-sr").Output()
	disk := "?"
	var fs syscall.Statfs_t
	if syscall.Statfs(dir, &fs) == nil {
		disk = fmt.Sprintf("file system %#x", fs.Type)
		if fs.Type == 0xef53 {
			disk = "ext4"
		}
	}
	return fmt.Sprintf("%d cores of %s, %s, %s, %s", runtime.NumCPU(), model, strings.TrimSpace(string(kernel)), disk, runtime.Version())
}
