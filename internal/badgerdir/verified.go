package badgerdir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/cespare/xxhash/v2"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/chat-recall/recall/internal/hclfile"
)

// verifiedFile lists the tables that were read and found whole. A restart need not read them again, and a table that
// was exchanged for another one under its name is noticed. Without the file, Open reads every table.
const verifiedFile = "VERIFIED"

// verifiedFormat is the format of the list. A list of another format is read as empty.
const verifiedFormat = 1

// maxVerifiedBytes bounds what is read of it. A table takes about 150 bytes, and 10 million messages have some hundred
// tables.
const maxVerifiedBytes = 16 << 20

// fileIdentity differs between any two files since the machine booted, and changes when a file is written to: the
// kernel sets the change time at each write.
type fileIdentity struct {
	Size   int64  `json:"size"`
	Inode  uint64 `json:"inode"`
	Change int64  `json:"change"` // time, in nanoseconds
}

func identityOf(info fs.FileInfo) fileIdentity {
	id := fileIdentity{Size: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.Inode, id.Change = st.Ino, st.Ctim.Nano()
	}
	return id
}

// verifiedTable is a table that was read whole.
type verifiedTable struct {
	fileIdentity
	Sum         uint64                  `json:"sum,string"` // of all its checksums, see tableFacts
	MaxVersion  uint64                  `json:"max_version"`
	Compression options.CompressionType `json:"compression,omitempty"`
}

// verifiedTables are the tables of a database that were read whole, by their name.
type verifiedTables struct {
	mu     sync.Mutex
	boot   string // of the machine, when their identities were taken
	tables map[string]verifiedTable
}

// verifiedList is what verifiedFile holds.
type verifiedList struct {
	Format int                      `json:"format"`
	Boot   string                   `json:"boot"`
	Tables map[string]verifiedTable `json:"tables"`
}

// bootID identifies the current boot of the machine; "" if the kernel does not say.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// loadVerified reads the list. A missing or damaged one is empty.
func loadVerified(folder string) *verifiedTables {
	v := &verifiedTables{boot: bootID(), tables: map[string]verifiedTable{}}
	text, err := hclfile.Read(filepath.Join(folder, verifiedFile), maxVerifiedBytes)
	if err != nil {
		return v
	}
	sum, list, ok := strings.Cut(string(text), "\n")
	var read verifiedList
	if !ok || sum != listSum(list) || json.Unmarshal([]byte(list), &read) != nil || read.Format != verifiedFormat ||
		read.Tables == nil {
		return v
	}
	v.tables = read.Tables
	if v.boot == "" || read.Boot != v.boot { // the identities are worthless, the sums are not
		for name, t := range v.tables {
			t.fileIdentity = fileIdentity{Size: t.Size}
			v.tables[name] = t
		}
	}
	return v
}

func listSum(list string) string { return fmt.Sprintf("%016x", xxhash.Sum64String(list)) }

// save replaces the list. It is not synced: a list that a power failure tears is read as empty.
func (v *verifiedTables) save(folder string) error {
	v.mu.Lock()
	list, err := json.Marshal(verifiedList{Format: verifiedFormat, Boot: v.boot, Tables: v.tables})
	v.mu.Unlock()
	if err != nil {
		return err
	}
	name := filepath.Join(folder, verifiedFile)
	temp := name + ".new"
	text := append([]byte(listSum(string(list))+"\n"), list...)
	if err := os.WriteFile(temp, text, 0o600); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, name)
}

// has reports whether a file is the table that was read under this name, unchanged.
func (v *verifiedTables) has(name string, info fs.FileInfo) (verifiedTable, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t, ok := v.tables[name]
	return t, ok && t.Inode != 0 && t.fileIdentity == identityOf(info)
}

// listed returns what was read under this name.
func (v *verifiedTables) listed(name string) (verifiedTable, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t, ok := v.tables[name]
	return t, ok
}

func (v *verifiedTables) add(name string, t verifiedTable) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tables[name] = t
}

// keep drops every table that is not named, and reports whether there was any to drop.
func (v *verifiedTables) keep(named func(name string) bool) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	before := len(v.tables)
	maps.DeleteFunc(v.tables, func(name string, _ verifiedTable) bool { return !named(name) })
	return len(v.tables) != before
}
