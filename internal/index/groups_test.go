package index

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
)

// grouped reads all groups, in order.
func grouped(t *testing.T, x *Index) (all []member) {
	t.Helper()
	err := x.dir.View(func(txn *badger.Txn) error {
		return each(t.Context(), txn, newKey('t'), nil, func(item *badger.Item) (bool, error) {
			var pb indexpb.Group
			if err := decode(item, &pb); err != nil {
				return false, err
			}
			more, err := members(&pb)
			all = append(all, more...)
			return true, err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestGroups_OneKeyForEachEntry(t *testing.T) {
	x := openNew(t)
	a, b, c := message("a"), message("b"), message("c")
	b.Tenant, b.Sender = "other", "bob"
	apply(t, x, put(a), put(b), recall("r", c)) // a message that is brought along with its recall is new, too
	apply(t, x, put(a), recall("r", a))         // nothing new
	apply(t, x, put(message("d")))
	var ids []string
	for _, m := range grouped(t, x) {
		ids = append(ids, m.tenant+" "+m.id)
	}
	if want := []string{"acme a", "acme c", "other b", "acme d"}; !slices.Equal(ids, want) {
		t.Errorf("%q, want %q", ids, want)
	}
	keys, err := x.numbers(t.Context(), newKey('t'), 0, 10)
	if err != nil || len(keys) != 2 || keys[1] != x.dir.Version() {
		t.Errorf("groups at %v, committed %d: %v", keys, x.dir.Version(), err)
	}
}

func TestGroups_LargestEntry(t *testing.T) {
	x := openNew(t)
	var ops []Op
	for i := range 3000 { // more than one transaction
		m := message(fmt.Sprintf("%d-%s", i, strings.Repeat("i", 240)))
		m.Tenant = strings.Repeat("t", 200)
		ops = append(ops, put(m))
	}
	apply(t, x, ops...)
	if n := len(grouped(t, x)); n != len(ops) {
		t.Errorf("%d messages in groups, want %d", n, len(ops))
	}
}

func TestMembers_Damaged(t *testing.T) {
	good := func() *indexpb.GroupPart {
		var g groupWriter
		for i := range 3 {
			g.add(&member{"t", fmt.Sprint("id-", i), uint32(i), int64(i)})
		}
		return g.parts[0].pb
	}
	for name, damage := range map[string]func(*indexpb.GroupPart){
		"cut ids":          func(p *indexpb.GroupPart) { p.Ids = p.Ids[:len(p.Ids)-1] },
		"no ids":           func(p *indexpb.GroupPart) { p.Ids = nil },
		"more ids":         func(p *indexpb.GroupPart) { p.Ids = append(p.Ids, 0, 4, 'x') },
		"long shared part": func(p *indexpb.GroupPart) { p.Ids[0] = 9 },
		"endless number":   func(p *indexpb.GroupPart) { p.Ids = slices.Repeat([]byte{0xff}, 20) },
		"a NUL": func(p *indexpb.GroupPart) {
			p.Ids, p.Senders, p.SentAt = appendText([]byte{0}, "i\x00d"), p.Senders[:1], p.SentAt[:1]
		},
		"a sender less": func(p *indexpb.GroupPart) { p.Senders = p.Senders[:2] },
	} {
		t.Run(name, func(t *testing.T) {
			p := good()
			damage(p)
			if _, err := members(&indexpb.Group{Parts: []*indexpb.GroupPart{p}}); !errors.Is(err, ErrCorrupt) {
				t.Error(err)
			}
		})
	}
}

func FuzzText(f *testing.F) {
	for _, text := range []string{"", "deadbeef", "01JD8Z", "user_Id-9", "user.9", "\xff\x00", strings.Repeat("a", 300)} {
		f.Add(text, []byte(text))
	}
	f.Fuzz(func(t *testing.T, text string, junk []byte) {
		b := appendText([]byte("before"), text)
		b = append(b, junk...)
		got, size, err := readText(b[6:])
		if err != nil || got != text || size != len(b)-6-len(junk) {
			t.Fatalf("%q became %q (%d of %d bytes): %v", text, got, size, len(b)-6-len(junk), err)
		}
		if text, size, err := readText(junk); err == nil && (size > len(junk) || len(text) > 2*len(junk)) {
			t.Fatalf("%d characters from %d of %d bytes", len(text), size, len(junk))
		}
	})
}
