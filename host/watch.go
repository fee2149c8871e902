package host

import (
	"context"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
)

// watchEvery is how often the binary's file is looked at. A look is one stat, which works on every file system.
const watchEvery = time.Second

// A watcher upgrades to the file at the binary's path whenever there is another one (plugin.watch).
type watcher struct {
	file    string // plugin.hcl
	seen    os.FileInfo
	logger  hclog.Logger
	upgrade func(context.Context, Binary) (UpgradeReport, error)
}

// run looks until ctx ends. A new file is taken when it has stayed as it is from one look to the next, so that one
// which is still being written is not tried; putting it there by rename is better all the same. One that is refused is
// not tried again until it changes.
func (w *watcher) run(ctx context.Context, path string) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var fresh os.FileInfo
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		info, err := os.Stat(path)
		switch {
		case err != nil || sameFile(info, w.seen):
			fresh = nil
			continue
		case !sameFile(info, fresh):
			fresh = info
			continue
		}
		w.seen, fresh = info, nil
		w.take(ctx)
	}
}

// take upgrades to the file, with the checksum that plugin.hcl has by now.
func (w *watcher) take(ctx context.Context) {
	settings, err := readSettings(w.file)
	if err != nil {
		w.logger.Error("new plugin binary not taken", "error", err)
		return
	}
	w.logger.Info("new plugin binary", "path", settings.binary.Path)
	report, err := w.upgrade(ctx, settings.binary)
	if err != nil {
		w.logger.Error("new plugin binary not taken, the old plugin stays", "path", settings.binary.Path, "error", err)
		return
	}
	w.logger.Info("upgraded", "from", report.From.Version, "to", report.To.Version, "calls_held_for", report.Held)
}

// sameFile tells whether two looks saw the same file, unchanged.
func sameFile(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
