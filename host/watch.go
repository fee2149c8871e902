package host

import (
	"context"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	watchEvery = time.Second      // how often the file is looked at: one stat, which works on every file system
	watchAgain = 30 * time.Second // after which a file that was refused is tried again
)

// A watcher upgrades to the file at the binary's path whenever there is another one (plugin.watch).
type watcher struct {
	file    string // plugin.hcl
	seen    os.FileInfo
	logger  hclog.Logger
	upgrade func(context.Context, Binary) (UpgradeReport, error)
}

// run looks until ctx ends. A new file is taken when it has stayed as it is from one look to the next, so that one
// which is still being written is not tried; putting it there by rename is better all the same. One that is refused is
// tried again when it changes, and after a while: what was wrong may have been the rules, or the checksum in
// plugin.hcl.
func (w *watcher) run(ctx context.Context, path string) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var fresh os.FileInfo
	var again time.Time // when to try a refused file again; zero: none was refused
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		info, err := os.Stat(path)
		switch {
		case err == nil && sameFile(info, w.seen) && !again.IsZero() && time.Now().After(again):
		case err != nil || sameFile(info, w.seen):
			fresh = nil
			continue
		case !sameFile(info, fresh):
			fresh = info
			continue
		}
		w.seen, fresh, again = info, nil, time.Time{}
		if !w.take(ctx) {
			again = time.Now().Add(watchAgain)
		}
	}
}

// take upgrades to the file, with the checksum that plugin.hcl has by now, and tells whether it is in force.
func (w *watcher) take(ctx context.Context) bool {
	settings, err := readSettings(w.file)
	if err != nil {
		w.logger.Error("new plugin binary not taken", "error", err)
		return false
	}
	w.logger.Info("new plugin binary", "path", settings.Plugin.Binary)
	report, err := w.upgrade(ctx, settings.binary())
	if err != nil {
		w.logger.Error("new plugin binary not taken, the old plugin stays", "path", settings.Plugin.Binary, "error", err)
		return false
	}
	w.logger.Info("upgraded", "from", report.From.Version, "to", report.To.Version, "calls_held_for", report.Held)
	return true
}

// sameFile tells whether two looks saw the same file, unchanged.
func sameFile(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
