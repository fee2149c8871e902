package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// powerBench takes the power from the disk of an index again and again while callers work: an ext4 file system of its
// own is shut down without writing anything that was not synced, and mounted again. What was acknowledged before is
// held against what the last host finds. It needs root and a loop device.
func powerBench(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("power", flag.ContinueOnError)
	rounds := whole(set, "rounds", 50, 1, "how often the power goes")
	callers := whole(set, "callers", 32, 1, "goroutines that index and recall throughout")
	asJSON := set.Bool("json", false, "print one JSON object")
	if err := parse(set, args); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("power: mounting a file system needs root; run it with sudo")
	}
	dir, config, remove, err := workplace()
	if err != nil {
		return err
	}
	defer remove()
	disk, err := newLoopDisk(filepath.Join(dir, "disk"), loopDiskBytes)
	if err != nil {
		return err
	}
	defer disk.unmount()
	if err := writeConfig(config, filepath.Join(dir, "recall-plugin"), filepath.Join(disk.folder, "index")); err != nil {
		return err
	}
	j := newJournal()
	start := time.Now()
	for i := range *rounds {
		if _, err := hostOnce(ctx, j, config, fmt.Sprintf("power%d", i), *callers, disk.cutPower); err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
		if err := disk.restore(); err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
		progress("%d of %d rounds, %d calls", i+1, *rounds, j.count())
	}
	h, err := openFilled(ctx, dir, config, j, 0)
	if err != nil {
		return err
	}
	f, err := j.verify(ctx, h)
	if err := errors.Join(err, h.Close()); err != nil {
		return err
	}
	figures := append([]figure{{"rounds", *rounds}}, j.figures(f)...)
	result(*asJSON, append(figures, figure{"seconds", int(time.Since(start).Seconds())}))
	return j.verdict(f)
}

// loopDisk is a file system in a file.
type loopDisk struct{ image, folder string }

const loopDiskBytes = 2 << 30 // sparse; an index wants 256 MiB free

// newLoopDisk makes a disk, and mounts it on a new folder.
func newLoopDisk(folder string, size int64) (*loopDisk, error) {
	d := &loopDisk{image: folder + ".ext4", folder: folder}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Create(d.image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		f.Truncate(size),
		f.Close(),
		run("mkfs.ext4", "-q", "-m", "0", d.image), // nothing is kept back for root
	); err != nil {
		return nil, err
	}
	return d, d.mount()
}

func (d *loopDisk) mount() error { return run("mount", "-o", "loop", d.image, d.folder) }

// unmount takes effect at once, also while a process that was killed is still ending.
func (d *loopDisk) unmount() { _ = run("umount", "--lazy", d.folder) }

// EXT4_IOC_SHUTDOWN and EXT4_GOING_FLAGS_NOLOGFLUSH: nothing more is written, not even the journal. <linux/ext4.h>
const (
	ext4Shutdown   = 0x8004587d
	withoutJournal = 2
)

// cutPower ends all writing to the disk, at once.
func (d *loopDisk) cutPower() error {
	f, err := os.Open(d.folder)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, withoutJournal); err != nil {
		return fmt.Errorf("shut the file system down: %w", err)
	}
	time.Sleep(deadDiskTime)
	return nil
}

// deadDiskTime is how long callers go on beside a dead disk: an answer that was given by then counts as acknowledged.
const deadDiskTime = 50 * time.Millisecond

// restore mounts the disk again once the processes of the host that died have let go of it.
func (d *loopDisk) restore() error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := run("umount", d.folder)
		if err == nil {
			return d.mount()
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}
