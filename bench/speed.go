package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"slices"
	"time"

	"github.com/chat-recall/recall/rules"
)

// speed is one run of the command.
type speed struct {
	messages, base int64 // in the large index and in the small one
	rounds         int
	repeats        int           // at most, of what varies
	run            time.Duration // of one load
	match          *regexp.Regexp
	profiles       string // a folder; empty: no profiles

	started []backend
}

// speedBench measures every call, the limits of the machine, and PostgreSQL.
func speedBench(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("speed", flag.ContinueOnError)
	messages := whole(set, "messages", 0, 0, "messages in the large index; 0: 10,000,000, with --quick 200,000")
	quick := set.Bool("quick", false, "short runs and a smaller large index: a minute or two, and noisier")
	match := regexp.MustCompile("")
	set.Func("rows", "measure only the rows whose names match this regular expression", func(text string) (err error) {
		match, err = regexp.Compile(text)
		return err
	})
	profiles := set.String("profile", "", "a folder for CPU profiles of the host, one a row and round")
	asJSON := set.Bool("json", false, "print one JSON object")
	readme := set.String("readme", "", "a README.md to put the tables into; the plots are written into its folder")
	if err := parse(set, args); err != nil {
		return err
	}
	if *readme != "" && match.String() != "" {
		fmt.Fprintln(os.Stderr, "bench speed: --readme needs all rows; leave out --rows")
		return errUsage
	}
	s := &speed{messages: 10_000_000, rounds: 5, repeats: 3, run: time.Second, match: match, profiles: *profiles}
	if *quick {
		s.messages, s.rounds, s.repeats, s.run = 200_000, 3, 1, 120*time.Millisecond
	}
	if *messages > 0 {
		s.messages = int64(*messages)
	}
	if s.profiles != "" {
		if err := os.MkdirAll(s.profiles, 0o755); err != nil {
			return err
		}
	}
	s.base = min(100_000, max(s.messages/2, 1000))
	result, sizes, err := s.measure(ctx)
	if err != nil {
		return err
	}
	if *readme != "" {
		if err := result.write(*readme, plots(result.Figures, sizes)); err != nil {
			return err
		}
	}
	out := result.text()
	if *asJSON {
		if out, err = result.json(); err != nil {
			return err
		}
	}
	fmt.Println(out)
	return nil
}

// lookTime is how long the machine is watched before the run.
const lookTime = 2 * time.Second

func (s *speed) measure(ctx context.Context) (*speedResult, []sizeFigures, error) {
	result := &speedResult{Load: lookAround(lookTime), Messages: s.messages, Rounds: s.rounds}
	progress("%s", result.Load)
	start, during := time.Now(), watch()
	dir, config, remove, err := workplace()
	if err != nil {
		return nil, nil, err
	}
	defer remove()
	result.Machine = machine(dir)
	setup, err := newSetup(ctx, dir, filepath.Join(filepath.Dir(config), "recall-plugin"), s.base, s.messages, s.run)
	if err != nil {
		return nil, nil, err
	}
	if setup.postgres == nil {
		result.Postgres = "PostgreSQL is not installed: the rows that compare with it are left out."
	}
	decide, err := decideAlone()
	if err != nil {
		return nil, nil, err
	}
	comparisons := only(setup.comparisons(microseconds(decide)), s.match)
	singles := slices.ContainsFunc(largeRows, s.match.MatchString)
	if len(comparisons) == 0 && !singles {
		return nil, nil, fmt.Errorf("--rows: no row matches %q. %s", s.match, result.Postgres)
	}
	if singles {
		err = s.startOnce(ctx, setup.large)
	}
	if err == nil {
		err = s.compare(ctx, comparisons)
	}
	if err := errors.Join(err, s.end()); err != nil {
		return nil, nil, err
	}
	result.Seconds, result.Load.During = rounded(time.Since(start).Seconds()), rounded(during())
	result.Restarts = setup.large.restarts
	result.addAll(comparisons)
	for _, r := range setup.large.rows() {
		if s.match.MatchString(r.Name) {
			result.Rows = append(result.Rows, r)
		}
	}
	return result, setup.large.sizes, nil
}

// compare starts what the comparisons run on and measures them, after a short run of each that does not count.
func (s *speed) compare(ctx context.Context, comparisons []*comparison) error {
	for _, c := range comparisons {
		for _, x := range c.sides {
			if err := s.startOnce(ctx, x.backend); err != nil {
				return fmt.Errorf("%s, %s: %w", c.what, x.label, err)
			}
		}
	}
	warm := func(ctx context.Context, c *comparison, x participant) (sample, error) {
		return s.sample(ctx, c, x, s.run/10)
	}
	if err := runRound(ctx, comparisons, false, warm); err != nil {
		return err
	}
	for _, c := range comparisons {
		c.rounds = nil
	}
	profiled := func(ctx context.Context, c *comparison, x participant) (sample, error) {
		stop, err := s.profile(c, x)
		if err != nil {
			return sample{}, err
		}
		defer stop()
		return s.sample(ctx, c, x, s.run)
	}
	return measure(ctx, comparisons, s.rounds, s.repeats, profiled)
}

func (s *speed) sample(ctx context.Context, c *comparison, x participant, d time.Duration) (sample, error) {
	err := x.backend.renew(ctx)
	var one sample
	if err == nil {
		one, err = x.load.run(ctx, d)
	}
	if err != nil {
		return sample{}, fmt.Errorf("%s, %s: %w", c.what, x.label, err)
	}
	return one, nil
}

func (s *speed) startOnce(ctx context.Context, b backend) error {
	if slices.Contains(s.started, b) {
		return nil
	}
	if err := b.start(ctx); err != nil {
		return err
	}
	s.started = append(s.started, b)
	return nil
}

// end ends what was started.
func (s *speed) end() error {
	var errs []error
	for _, b := range slices.Backward(s.started) {
		errs = append(errs, b.close())
	}
	return errors.Join(errs...)
}

// profile writes a CPU profile of this process, in which host and callers are, until stop is called.
func (s *speed) profile(c *comparison, x participant) (stop func(), err error) {
	if s.profiles == "" || x.side != recallSide && x.side != largeSide {
		return func() {}, nil
	}
	f, err := os.Create(filepath.Join(s.profiles, fmt.Sprintf("%s-%s-%d.pprof", c.name, x.side, len(c.rounds)+1)))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}

// decideAlone is what one decision of the built-in rules takes.
func decideAlone() (time.Duration, error) {
	policy := rules.Default()
	in := &rules.Input{
		Tenant: tenant, MessageID: "m", MessageType: "text", Sender: "user-1", ConversationID: "group-1",
		ConversationType: "group", ActorID: "user-1", ActorRole: "member",
		SentAt: time.Now().Add(-time.Minute), RequestedAt: time.Now(),
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
