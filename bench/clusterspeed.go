package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
)

const (
	speedRounds   = 5
	speedRun      = 2 * time.Second
	speedCallers  = 8
	speedBatch    = 100
	bareBytes     = 160 // about what the entry of one message has
	bareStream    = "BARE"
	speedSwaps    = 10
	speedSwapRate = 300       // messages a second
	speedMessages = 1_000_000 // that a new node has to get
)

// clusterSpeed are the chat servers that are measured, in this process, and their plugins and the servers of the log.
type clusterSpeed struct {
	*cluster
	single *host.Host
	hosts  []*host.Host // of the nodes
	all    []*host.Host
	rows   []clusterRow
	known  int // messages of the cluster, but for some hundreds
}

// measureCluster compares a cluster with a single machine, and then measures how fast a new node gets what there is.
func measureCluster(ctx context.Context, dir string, b clusterBinaries) (_ []clusterRow, err error) {
	c, err := startServers(ctx, dir, b, clusterOptions{})
	s := &clusterSpeed{cluster: c}
	defer func() { err = errors.Join(err, s.close()) }()
	if err == nil {
		err = s.open(ctx)
	}
	if err == nil {
		err = s.measure(ctx)
	}
	if err == nil {
		err = s.measureSwaps(ctx)
	}
	if err == nil {
		err = s.measureNewNodes(ctx)
	}
	return s.rows, err
}

func (s *clusterSpeed) close() (err error) {
	for _, h := range s.all {
		err = errors.Join(err, h.Close())
	}
	s.cluster.close()
	return err
}

// open opens a host on its own, one for each node, and connections to the servers.
func (s *clusterSpeed) open(ctx context.Context) error {
	single := filepath.Join(s.dir, "single")
	if err := os.MkdirAll(filepath.Join(single, dataDir), 0o700); err != nil {
		return err
	}
	if err := writeConfig(filepath.Join(single, configFile), s.binaries.plugin, indexDir); err != nil {
		return err
	}
	var err error
	if s.single, err = s.openHost(ctx, single); err != nil {
		return err
	}
	for range clusterNodes {
		h, err := s.openNode(ctx)
		if err != nil {
			return err
		}
		s.hosts = append(s.hosts, h)
	}
	var made struct{}
	create := fmt.Sprintf(`{"name":%q,"subjects":["bare"],"num_replicas":3,"storage":"file","retention":"limits"}`,
		bareStream)
	return s.servers.API(ctx, "STREAM.CREATE."+bareStream, []byte(create), &made)
}

func (s *clusterSpeed) openNode(ctx context.Context) (*host.Host, error) {
	n, err := s.addNode()
	if err != nil {
		return nil, err
	}
	return s.openHost(ctx, n.dir)
}

func (s *clusterSpeed) openHost(ctx context.Context, dir string) (*host.Host, error) {
	done := host.Step{Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
		return shared.OutcomeDone, nil
	}}
	h, err := host.Open(ctx, host.Config{
		File: filepath.Join(dir, configFile), RunDir: filepath.Join(dir, "run"),
		Logger: hclog.New(&hclog.LoggerOptions{Output: io.Discard}),
		Steps: map[string]host.Step{
			shared.StepNotify: done, shared.StepHistory: done, shared.StepAttachments: done,
		},
	})
	if err == nil {
		s.all = append(s.all, h)
	}
	return h, err
}

// speedFigures are those of every round.
type speedFigures struct{ publish, index, recall, rate, cpu [2][]float64 }

// Of the single machine, and of the cluster.
const (
	onSingle = iota
	onCluster
)

func (s *clusterSpeed) measure(ctx context.Context) error {
	var f speedFigures
	var applied, servers []float64
	p50 := func(do func(n int) (time.Duration, error)) (float64, error) {
		one := &load{callers: 1, do: func(_ context.Context, _, n int) (time.Duration, error) { return do(n) }}
		took, err := one.call(ctx, speedRun)
		return milliseconds(quantile(took, 0.5)), err
	}
	for round := range speedRounds {
		progress("speed: round %d of %d", round+1, speedRounds)
		for side, h := range []*host.Host{s.single, s.hosts[round%len(s.hosts)]} {
			index, err := p50(func(int) (time.Duration, error) { return indexMessage(ctx, h) })
			if err != nil {
				return fmt.Errorf("index: %w", err)
			}
			recall, err := p50(func(int) (time.Duration, error) { return recallMessage(ctx, h) })
			if err != nil {
				return fmt.Errorf("recall: %w", err)
			}
			f.index[side], f.recall[side] = append(f.index[side], index), append(f.recall[side], recall)
		}
		do, end, err := s.publish(ctx)
		var publish float64
		if err == nil {
			publish, err = p50(do)
		}
		end()
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		f.publish[onSingle] = append(f.publish[onSingle], publish)
		progress("one caller: publish %.2f ms, index %.2f ms, recall %.2f ms", publish, f.index[onCluster][round],
			f.recall[onCluster][round])
		for side, h := range []*host.Host{s.single, s.hosts[0]} {
			b, err := s.batches(ctx, h)
			if err != nil {
				return fmt.Errorf("index batches: %w", err)
			}
			f.rate[side], f.cpu[side] = append(f.rate[side], b.rate), append(f.cpu[side], b.written)
			if side == onCluster {
				applied, servers = append(applied, b.applied), append(servers, b.servers)
			}
		}
	}
	s.compare("index_1_ms", "p50 of one caller that indexes one message", f.index, target{})
	s.compare("recall_1_ms", "p50 of one caller that recalls one message, until the answer", f.recall, target{})
	s.compare("index_1_of_publish",
		"p50 of one caller that indexes one message, compared with a bare publication of an entry with three replicas",
		[2][]float64{f.publish[onSingle], f.index[onCluster]}, atMost(3))
	s.compare("recall_1_of_index", "p50 of a recall, compared with that of an index", [2][]float64{f.index[onCluster],
		f.recall[onCluster]}, atMost(2))
	s.compare("batches_per_s", fmt.Sprintf("messages a second of %d callers in batches of %d", speedCallers, speedBatch),
		f.rate, target{})
	s.bound("written_cpu_us", "processor time of the plugin for a message that its node writes", f.cpu, 15)
	s.bound("applied_cpu_us", "processor time of a plugin for a message that another node writes",
		[2][]float64{f.cpu[onSingle], applied}, 8)
	s.bound("servers_cpu_us", "processor time of the three servers for a message",
		[2][]float64{f.cpu[onSingle], servers}, 0)
	return nil
}

// batchFigures are those of a load of batches. Processor times are in microseconds for a message.
type batchFigures struct{ rate, written, applied, servers float64 }

// batches has callers index batches on a host, and waits until all nodes have applied them.
func (s *clusterSpeed) batches(ctx context.Context, h *host.Host) (b batchFigures, err error) {
	one := &load{callers: speedCallers, per: speedBatch, do: func(ctx context.Context, _, _ int) (time.Duration, error) {
		msgs := newMessages(speedBatch)
		return timed(func() error {
			_, err := h.Index(ctx, msgs)
			return err
		})
	}}
	cpu := func() (all []time.Duration) {
		for _, h := range append(s.hosts[:len(s.hosts):len(s.hosts)], s.single) {
			all = append(all, cpuOf(h.State().PID))
		}
		servers := time.Duration(0)
		for i := range clusterServers {
			servers += cpuOf(s.servers.PID(i))
		}
		return append(all, servers)
	}
	waitForQuiet(ctx)
	before, start := cpu(), time.Now()
	took, err := one.call(ctx, speedRun)
	if err != nil {
		return b, err
	}
	elapsed := time.Since(start)
	if err := s.waitUntilApplied(ctx, h); err != nil {
		return b, err
	}
	messages := float64(len(took) * speedBatch)
	after := cpu()
	of := func(i int) float64 { return microseconds(after[i]-before[i]) / messages }
	b.rate = messages / elapsed.Seconds()
	if h == s.single {
		b.written = of(len(s.hosts))
		return b, nil
	}
	s.known += len(took) * speedBatch
	b.written, b.applied, b.servers = of(0), of(1), of(len(s.hosts)+1)
	return b, nil
}

// waitUntilApplied waits until every node has applied what one has.
func (s *clusterSpeed) waitUntilApplied(ctx context.Context, h *host.Host) error {
	if h == s.single {
		return nil
	}
	position := uint64(0)
	for i := 0; i < len(s.hosts); {
		metric, err := metricOf(ctx, s.hosts[i], "recall_cluster_position")
		switch {
		case err != nil:
			return err
		case uint64(metric) > position: // begin anew: all must be at the same one
			position, i = uint64(metric), 0
		case uint64(metric) == position:
			i++
		default:
			if err := s.wait(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

func metricOf(ctx context.Context, h *host.Host, name string) (float64, error) {
	metrics, err := h.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range metrics {
		if m.Name == name {
			return m.Value, nil
		}
	}
	return 0, fmt.Errorf("the plugin has no metric %s", name)
}

// measureSwaps replaces plugins under load.
func (s *clusterSpeed) measureSwaps(ctx context.Context) error {
	var held [2][]float64
	for side, h := range []*host.Host{s.single, s.hosts[1]} {
		progress("speed: %d swaps", speedSwaps)
		working, stop := context.WithCancel(ctx)
		j := newJournal()
		done := make(chan struct{})
		go func() {
			defer close(done)
			drive(working, h, j, fmt.Sprint("swap", side), speedCallers, speedSwapRate)
		}()
		for range speedSwaps {
			err := s.wait(ctx, time.Second)
			var report host.UpgradeReport
			if err == nil {
				report, err = h.Upgrade(ctx, host.Binary{Path: s.binaries.plugin})
			}
			if err != nil {
				stop()
				<-done
				return fmt.Errorf("swap: %w", err)
			}
			held[side] = append(held[side], milliseconds(report.Held))
			progress("held %s: %v", report.Held.Round(time.Millisecond), report.Steps)
		}
		stop()
		<-done
		if j.failures+j.wrongAnswers > 0 {
			return fmt.Errorf("%d calls failed, and %d were answered wrongly", j.failures, j.wrongAnswers)
		}
	}
	for side := range held {
		held[side] = []float64{quantile(held[side], 0.99)}
	}
	s.bound("swap_held_ms", fmt.Sprintf("longest of %d times for which a swap held calls", speedSwaps), held, 200)
	return nil
}
