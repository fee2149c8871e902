package badgerdir

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/badgerdir/dirtest"
)

func TestOpen_CompressedTables(t *testing.T) {
	path, keys := crashed(t)
	if err := clean(path, &survey{fresh: true}, false); err != nil {
		t.Fatal(err)
	}
	opts := BadgerOptions(path, testMemtable, hclog.NewNullLogger()).
		WithCompression(options.Snappy).WithBlockCacheSize(1 << 20)
	for _, want := range []bool{false, true} { // the first makes a table of the log when it is closed
		db, err := openBadger(opts)
		if err != nil {
			t.Fatal(err)
		}
		compressed := func(t badger.TableInfo) bool { return t.OnDiskSize < t.UncompressedSize }
		if want && !slices.ContainsFunc(db.Tables(), compressed) {
			t.Error("no table is compressed")
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, path); n != keys {
		t.Errorf("%d of %d keys", n, keys)
	}
}

func TestOpen_AfterACrash(t *testing.T) {
	path, keys := crashed(t)
	if n := count(t, path); n != keys {
		t.Errorf("%d of %d keys", n, keys)
	}
}

func TestOpen_FileBeingCreatedOrRemoved(t *testing.T) {
	for name, size := range map[string]int{
		"09999.mem": 0, "009999.sst": 0, "009998.sst": 4096, "009999.vlog": 0, "MANIFEST-REWRITE": 10,
	} {
		t.Run(name, func(t *testing.T) {
			path, keys := crashed(t)
			if err := os.WriteFile(filepath.Join(path, name), make([]byte, size), 0o600); err != nil {
				t.Fatal(err)
			}
			if n := count(t, path); n != keys {
				t.Errorf("%d of %d keys", n, keys)
			}
		})
	}
}

func TestOpen_DamagedFile(t *testing.T) {
	for name, c := range map[string]struct {
		file   string
		damage func([]byte) []byte // nil: the file is removed
	}{
		"log cut in an entry":      {"*.mem", func(b []byte) []byte { return b[:usedBytes(b)-1000] }},
		"log cut in its header":    {"*.mem", func(b []byte) []byte { return b[:10] }},
		"value in the log flipped": {"*.mem", func(b []byte) []byte { b[200] ^= 1; return b }},
		"sizes in the log flipped": {"*.mem", func(b []byte) []byte { b[22] ^= 0xff; return b }},
		"page of the log zeroed":   {"*.mem", func(b []byte) []byte { clear(b[4096:8192]); return b }},
		"manifest flipped":         {"MANIFEST", func(b []byte) []byte { b[len(b)-2] ^= 1; return b }},
		"manifest's magic":         {"MANIFEST", func(b []byte) []byte { b[0] ^= 1; return b }},
		"manifest cut":             {"MANIFEST", func(b []byte) []byte { return b[:len(b)-3] }},
		"manifest empty":           {"MANIFEST", func(b []byte) []byte { return nil }},
		"manifest gone":            {"MANIFEST", nil},
		"table gone":               {"*.sst", nil},
		"table cut":                {"*.sst", func(b []byte) []byte { return b[:len(b)/2] }},
		"table's footer flipped":   {"*.sst", func(b []byte) []byte { b[len(b)-1] ^= 0xff; return b }},
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := crashed(t)
			file := dirtest.One(t, path, c.file)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if c.damage == nil {
				err = os.Remove(file)
			} else {
				err = os.WriteFile(file, c.damage(data), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := tryOpen(t, path); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "backup") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestOpen_LastTransactionTorn(t *testing.T) {
	tear := func(t *testing.T) (path string, keys int) {
		path, keys = crashed(t)
		dirtest.Edit(t, dirtest.One(t, path, "*.mem"), func(b []byte) []byte {
			end := usedBytes(b)
			clear(b[end-3000 : end-1000]) // pages that never reached the disk; later ones did
			return b
		})
		return path, keys
	}
	t.Run("not acknowledged: dropped whole", func(t *testing.T) {
		path, keys := tear(t)
		id, _, err := readMarker(filepath.Join(path, markerFile))
		if err != nil {
			t.Fatal(err)
		}
		id.Version-- // a crash in the middle of a commit comes before its version is in the marker
		m, err := createMarker(filepath.Join(path, markerFile), id)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.close(); err != nil {
			t.Fatal(err)
		}
		if n := count(t, path); n != keys-100 {
			t.Errorf("%d keys, want %d", n, keys-100)
		}
	})
	t.Run("acknowledged: refused", func(t *testing.T) {
		path, _ := tear(t)
		wantDamage(t, path, "commits 7 to 7 are missing")
	})
}

func TestOpen_LostLog(t *testing.T) {
	for name, lose := range map[string]func([]byte) []byte{
		"removed": nil,
		"emptied": func([]byte) []byte { return nil },
		"cut after a transaction": func(b []byte) []byte {
			for end := logHeaderBytes; ; {
				e, _ := parseLogEntry(b[end:])
				if end += e.size; e.mark {
					return b[:end]
				}
			}
		},
		"tail zeroed": func(b []byte) []byte { clear(b[4096:]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := crashed(t)
			file := dirtest.One(t, path, "*.mem")
			if lose == nil {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			} else {
				dirtest.Edit(t, file, lose)
			}
			wantDamage(t, path, "")
		})
	}
}

func TestOpen_TornManifest(t *testing.T) {
	path, keys := crashed(t)
	dirtest.Edit(t, filepath.Join(path, badger.ManifestFilename), func(b []byte) []byte {
		return append(b, 0, 0, 0, 30, 1, 2, 3)
	})
	if n := count(t, path); n != keys {
		t.Errorf("%d of %d keys", n, keys)
	}
}
