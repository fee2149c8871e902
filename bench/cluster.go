package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// clusterBench breaks a cluster of three servers of the log and three chat nodes in many ways, each under load, and
// compares the answers that the clients got with what every node has.
func clusterBench(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("cluster", flag.ContinueOnError)
	var faults []clusterFault
	help := "`names` of faults, with commas between them (default: all, and --speed)\n" + faultsHelp()
	set.Func("faults", help, func(text string) (err error) {
		faults, err = parseFaults(text)
		return err
	})
	speed := set.Bool("speed", false, "measure the speed, compared with a single machine; without --faults nothing else")
	seconds := whole(set, "seconds", 40, 1, "length of the load, and longer where the fault takes longer")
	asJSON := set.Bool("json", false, "print one JSON object")
	if err := parse(set, args); err != nil {
		return err
	}
	if faults == nil && !*speed {
		faults, *speed = clusterFaults, true
	}
	dir, err := os.MkdirTemp("", "recall-bench")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	binaries, err := buildClusterBinaries(ctx, bin)
	if err != nil {
		return err
	}
	result := struct {
		Runs  []*clusterReport `json:"runs"`
		Speed []clusterRow     `json:"speed"`
	}{[]*clusterReport{}, []clusterRow{}}
	good := true
	for _, f := range faults {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r := runFault(ctx, filepath.Join(dir, f.name), binaries, f, time.Duration(*seconds)*time.Second)
		r.print()
		result.Runs, good = append(result.Runs, r), good && r.isGood()
	}
	if *speed {
		folder := filepath.Join(dir, "speed")
		if err := os.Mkdir(folder, 0o700); err != nil {
			return err
		}
		result.Speed, err = measureCluster(ctx, folder, binaries)
		for i := range result.Speed {
			result.Speed[i].print()
		}
		if err = errors.Join(err, os.RemoveAll(folder)); err != nil {
			return err
		}
	}
	if *asJSON {
		if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
			return err
		}
	}
	if !good {
		return errBad
	}
	return nil
}

// faultsHelp lists the faults.
func faultsHelp() string {
	var text strings.Builder
	for _, f := range clusterFaults {
		fmt.Fprintf(&text, "  %-16s %s\n", f.name, f.help)
	}
	return strings.TrimSuffix(text.String(), "\n")
}

func parseFaults(text string) (list []clusterFault, err error) {
	for name := range strings.SplitSeq(text, ",") {
		found := false
		for _, f := range clusterFaults {
			if f.name == name {
				list, found = append(list, f), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no fault %q", name)
		}
	}
	return list, nil
}

// runFault runs a cluster in a folder under load, with one fault. The folder stays if the run shows a failure.
func runFault(ctx context.Context, dir string, b clusterBinaries, f clusterFault, d time.Duration) *clusterReport {
	r := &clusterReport{Fault: f.name, Failed: []string{}}
	began := now()
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = r.run(ctx, dir, b, f, d)
	}
	if err != nil {
		r.fail(nil, "%v", err)
	}
	r.Seconds = tenths(now() - began)
	if r.isGood() {
		_ = os.RemoveAll(dir)
	} else {
		progress("the files of the run are in %s", dir)
	}
	return r
}

func (r *clusterReport) run(ctx context.Context, dir string, b clusterBinaries, f clusterFault, d time.Duration) error {
	var o clusterOptions
	if f.options != nil {
		f.options(&o)
	}
	c, err := startCluster(ctx, dir, b, o)
	defer c.close()
	if err != nil {
		return err
	}
	progress("%s: %s", f.name, f.help)
	until := time.Now().Add(d)
	c.load = startLoad(ctx, c)
	err = f.run(ctx, c)
	if err == nil && f.check == nil {
		err = c.wait(ctx, time.Until(until))
		c.load.finish()
	} else {
		c.load.abandon()
	}
	r.addLoad(c.load)
	switch {
	case err != nil:
		return fmt.Errorf("the fault: %w", err)
	case f.check != nil:
		return f.check(ctx, c, r)
	}
	return c.check(ctx, r)
}
