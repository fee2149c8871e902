package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/badgerdir/dirtest"
	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// states are what an index knows of the messages of fill, by number.
func states(t *testing.T, x *Index, n int) (live, recalled, unknown map[int]bool) {
	t.Helper()
	live, recalled, unknown = map[int]bool{}, map[int]bool{}, map[int]bool{}
	for i := range n {
		r, err := x.Messages("acme", []string{fmt.Sprintf("m%06d", i)})
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case r[0] == nil:
			unknown[i] = true
		case r[0].Tombstone == nil:
			live[i] = true
		default:
			recalled[i] = true
		}
	}
	return live, recalled, unknown
}

// whole reads everything of an index that points to something else.
func whole(t *testing.T, x *Index) (events int) {
	t.Helper()
	req := shared.SinceRequest{Tenant: "acme", Conversations: []shared.Conversation{message("m").Conversation}}
	for more := true; more; {
		page, err := x.Since(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		events += len(page.Events)
		req.After, more = page.Next, page.More
	}
	open, err := x.OpenSteps(t.Context(), shared.StepNotify, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, sequence := range open {
		if e, err := x.Entry(sequence, shared.StepNotify); err != nil || e == nil {
			t.Fatalf("event %d: %+v %v", sequence, e, err)
		}
	}
	return events
}

func salvage(t *testing.T, from string) (Salvaged, *Index) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "salvaged")
	s, err := Salvage(t.Context(), from, to, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	return s, openAt(t, to)
}

func TestSalvage_WholeIndex(t *testing.T) {
	for name, make := range map[string]func(*testing.T) string{
		"closed": func(t *testing.T) string { return closedIndex(t, 4000) },
		"killed": func(t *testing.T) string { // with a log
			x := openNew(t)
			fill(t, x, 4000)
			return dirtest.Snapshot(t, x.path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			from := make(t)
			s, y := salvage(t, from)
			live, recalled, unknown := states(t, y, 4000)
			if len(live) != 2000 || len(recalled) != 2000 || len(unknown) != 0 || whole(t, y) != 2000 {
				t.Errorf("live %d, recalled %d, unknown %d", len(live), len(recalled), len(unknown))
			}
			if len(s.Lost) > 0 || s.Messages != 4000 || s.Recalls != 2000 || s.FactsLost+s.LedgersLost+s.RecalledByLedger != 0 {
				t.Errorf("%+v", s)
			}
			apply(t, y, recall("later", message("later")))
		})
	}
}

func TestSalvage_DamagedBlocks(t *testing.T) {
	from := closedIndex(t, 4000)
	file := dirtest.Tables(t, from)[0]
	dirtest.Edit(t, file, func(b []byte) []byte {
		for i := 100; i < len(b)*9/10; i += len(b) / 9 { // some blocks of every kind of key
			b[i] ^= 1
		}
		return b
	})
	s, y := salvage(t, from)
	live, recalled, unknown := states(t, y, 4000)
	for i := range live {
		if i%2 == 0 {
			t.Fatalf("the recalled message %d is live", i)
		}
	}
	events := whole(t, y)
	if len(s.Lost) == 0 || len(recalled) < 1500 || len(unknown) == 0 || events < 1000 {
		t.Errorf("recalled %d, unknown %d, events %d, %+v", len(recalled), len(unknown), events, s)
	}
	if s.Messages != len(live)+len(recalled) || s.Recalls != len(recalled) {
		t.Errorf("%d of them live and %d recalled: %+v", len(live), len(recalled), s)
	}
}

// blocks calls visit with the offset and the last key of each block of a table, which is not compressed.
//
// A table ends with its index, the size of the index, a checksum and the size of that; a block with the offsets of its
// entries, their number, a checksum and the size of that. (badger v4.9.6: table/builder.go)
func blocks(t *testing.T, file string, visit func(offset int, last []byte)) {
	t.Helper()
	table, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cut := func(data []byte) []byte { // without its checksum
		return data[:len(data)-4-int(binary.BigEndian.Uint32(data[len(data)-4:]))]
	}
	rest := cut(table)
	end := len(rest) - 4
	toc := fb.GetRootAsTableIndex(rest[end-int(binary.BigEndian.Uint32(rest[end:])):end], 0)
	for i := range toc.OffsetsLength() {
		var b fb.BlockOffset
		toc.Offsets(&b, i)
		block := cut(table[b.Offset() : b.Offset()+b.Len()])
		last := block[binary.LittleEndian.Uint32(block[len(block)-8:]):]
		shared, own := binary.LittleEndian.Uint16(last), binary.LittleEndian.Uint16(last[2:])
		visit(int(b.Offset()), append(bytes.Clone(b.KeyBytes()[:shared]), last[4:4+own]...))
	}
}

// damageNewer damages the blocks of all tables but the oldest in which the last key is of a kind.
func damageNewer(t *testing.T, path string, kinds ...byte) {
	t.Helper()
	damaged := 0
	for _, file := range dirtest.Tables(t, path)[1:] {
		blocks(t, file, func(offset int, last []byte) {
			if slices.Contains(kinds, last[0]) {
				damaged++
				dirtest.Edit(t, file, dirtest.Flip(offset+20))
			}
		})
	}
	if damaged == 0 {
		t.Fatalf("no block of the kinds %q", kinds)
	}
}

// What was settled, failed or recalled has left keys in an older table that are deleted in a newer one, and that is
// lost.
func TestSalvage_DeletedInADamagedBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	x := openAt(t, path)
	const messages = 600
	var ops []Op
	for i := range messages {
		m := message(fmt.Sprintf("m%06d", i), fmt.Sprint("file-", i))
		ops = append(ops, put(m))
		if i < messages/2 {
			ops = append(ops, recall("r", m))
		}
	}
	apply(t, x, ops...)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = openAt(t, path)
	ops = nil
	for i := range uint64(messages / 2) {
		if i%2 == 0 {
			ops = append(ops, settle(i+1, shared.StepNotify, shared.OutcomeDone))
		} else {
			ops = append(
				ops,
				Op{Settle: &Settle{Sequence: i + 1, Step: shared.StepNotify, Outcome: shared.OutcomeFailed, Attempt: 1, At: start}},
			)
		}
	}
	for i := messages / 2; i < messages; i++ {
		ops = append(ops, recall("r2", message(fmt.Sprintf("m%06d", i), fmt.Sprint("file-", i))))
	}
	apply(t, x, ops...)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	damageNewer(t, path, 'a', 'e', 'm', 'w')
	s, y := salvage(t, path)
	if _, recalled, _ := states(t, y, messages); len(recalled) != messages {
		t.Errorf("recalled %d", len(recalled))
	}
	keys := map[byte]int{}
	done, failed := 0, 0 // of what came of notify that is left
	err := y.dir.View(func(txn *badger.Txn) error {
		return each(t.Context(), txn, nil, nil, func(item *badger.Item) (bool, error) {
			keys[item.Key()[0]]++
			var a indexpb.Attempts
			if item.Key()[0] != 's' {
				return true, nil
			}
			err := decode(item, &a)
			if settled(&a) {
				done++
			} else {
				failed++
			}
			return true, err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	// Of the first 300 all of the ledger is left: of 150 notify was settled, so that the other steps are queued, and
	// of 150 it failed. Of the others, and where what came of it is lost, notify is queued.
	others := len(shared.StandardSteps()) - 1
	last := messages/2 - s.LedgersLost
	if n := len(grouped(t, y)); n != messages || done == 0 || failed == 0 {
		t.Errorf("%d messages in groups, %d attempts done and %d failed", n, done, failed)
	}
	if keys['a'] != 0 || keys['w'] != 150+last || keys['b'] != failed || keys['e'] != last+300-done-failed+150*others ||
		keys['q'] != messages-s.LedgersLost {
		t.Errorf("uses of attachments %d, gates %d, backing off %d, queued %d, events %d: %+v",
			keys['a'], keys['w'], keys['b'], keys['e'], keys['q'], s)
	}
	for sequence := uint64(1); sequence <= messages; sequence++ {
		for _, step := range shared.StandardSteps() {
			_, err := y.Append(t.Context(), []Op{settle(sequence, step, shared.OutcomeDone)})
			if err != nil && !errors.Is(err, shared.ErrInvalid) { // an event whose ledger is lost does not exist
				t.Fatal(err)
			}
		}
	}
	if open, err := y.CountOpen(t.Context(), nil); err != nil || len(open) > 0 {
		t.Errorf("open after all was settled: %v %v", open, err)
	}
}

func TestSalvage_TombstoneInAnOlderTableOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	x := openAt(t, path)
	var ops []Op
	for i := range 400 {
		ops = append(ops, put(message(fmt.Sprintf("m%06d", i))))
	}
	apply(t, x, ops...)
	if err := x.Close(); err != nil { // a table with live records
		t.Fatal(err)
	}
	x = openAt(t, path)
	for i := 0; i < 400; i += 2 {
		apply(t, x, recall("r", message(fmt.Sprintf("m%06d", i))))
	}
	if err := x.Close(); err != nil { // and one with their tombstones
		t.Fatal(err)
	}
	damageNewer(t, path, 'm')
	s, y := salvage(t, path)
	live, recalled, _ := states(t, y, 400)
	for i := range live {
		if i%2 == 0 {
			t.Fatalf("the recalled message %d is live", i)
		}
	}
	if s.RecalledByLedger == 0 || len(recalled) != 200 {
		t.Errorf("recalled %d: %+v", len(recalled), s)
	}
}

func TestSalvage_UsesOfAttachmentsByLostMessages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	x := openAt(t, path)
	apply(t, x, put(message("recalled", "file")), put(message("other", "file")), put(message("lost", "photo")),
		put(message("another", "photo")))
	apply(t, x, recall("r", message("recalled", "file")))
	removeKeysUnder(t, x, messageKey("acme", "recalled"), messageKey("acme", "lost"))
	txn := x.dir.NewTransaction(true)
	defer txn.Discard()
	if err := errors.Join(txn.Set(attachmentKey("acme", "file", "recalled"), nil), x.commitTxn(txn)); err != nil {
		t.Fatal(err) // which the recall has deleted
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	s, y := salvage(t, path)
	if s.FactsLost != 1 || s.Messages != 3 {
		t.Errorf("%+v", s)
	}
	for _, c := range []struct {
		message, attachment string
		released            int
		why                 string
	}{
		{"other", "file", 1, "the message that uses it too is recalled"},
		{"another", "photo", 0, "the message that uses it too is lost, and may be live"},
	} {
		apply(t, y, recall("r-"+c.message, message(c.message, c.attachment)))
		entries := ledger(t, y, "acme", "r-"+c.message).Entries
		if len(entries) != 1 || len(entries[0].Event.Attachments) != c.released {
			t.Errorf("%s: %+v; %s", c.attachment, entries, c.why)
		}
	}
}

func TestSalvage_LostFiles(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"list of tables": func(t *testing.T, path string) { remove(t, filepath.Join(path, "MANIFEST")) },
		"list of tables, damaged": func(t *testing.T, path string) {
			dirtest.Edit(t, filepath.Join(path, "MANIFEST"), dirtest.Flip(9))
		},
		"marker": func(t *testing.T, path string) { remove(t, filepath.Join(path, "MARKER")) },
	} {
		t.Run(name, func(t *testing.T) {
			path := closedIndex(t, 4000)
			damage(t, path)
			_, y := salvage(t, path)
			if live, recalled, _ := states(t, y, 4000); len(live) != 2000 || len(recalled) != 2000 {
				t.Errorf("live %d, recalled %d", len(live), len(recalled))
			}
		})
	}
	t.Run("table", func(t *testing.T) {
		path := closedIndex(t, 4000)
		remove(t, dirtest.Tables(t, path)[0])
		s, y := salvage(t, path)
		if len(s.Lost) != 1 || s.Messages != 0 {
			t.Errorf("%+v", s)
		}
		apply(t, y, put(message("m")))
	})
	t.Run("pipes in their place", func(t *testing.T) {
		path := closedIndex(t, 4000)
		for _, file := range []string{badger.ManifestFilename, "00099.mem", "000099.sst"} {
			file = filepath.Join(path, file)
			if err := errors.Join(os.RemoveAll(file), syscall.Mkfifo(file, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if s, _ := salvage(t, path); s.Messages != 4000 || len(s.Lost) < 3 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("middle of the log", func(t *testing.T) {
		path, messages := crashed(t)
		dirtest.Edit(t, dirtest.One(t, path, "*.mem"), func(b []byte) []byte { clear(b[4096:8192]); return b })
		s, y := salvage(t, path)
		if len(s.Lost) == 0 || s.Messages < messages-120 || s.Messages >= messages {
			t.Errorf("%d of %d messages: %+v", s.Messages, messages, s)
		}
		apply(t, y, put(message("m")))
	})
}

func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}
