package index

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// A group lists the messages that one entry of the log indexed, in its order. A walk over all messages in the order of
// their indexing reads groups. A group holds what such a walk filters by, in short; the record of a message has the
// rest. One key for each entry costs nothing measurable. A key for each message, ordered by sender, cost a third of the
// throughput of batches.
//
// A message that was erased has an empty id, no sender, and the time of the one before it: so the places of the others
// stay.
//
// groupWriter builds a group.
type groupWriter struct {
	parts    []*groupPart
	byTenant map[string]*groupPart
	count    int
}

// groupPart is the part of one tenant.
type groupPart struct {
	pb     *indexpb.GroupPart
	id     string // the last one
	sentAt int64
}

// member is a message in a group.
type member struct {
	tenant, id string
	sender     uint32 // senderSum
	sentAt     int64  // milliseconds since 1970
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// senderSum stands for a sender in a group. Senders may share one.
func senderSum(sender string) uint32 { return crc32.Checksum([]byte(sender), castagnoli) }

func newMember(m *shared.Message) member {
	return member{m.Tenant, m.ID, senderSum(m.Sender), m.SentAt.UnixMilli()}
}

// memberBytes is an upper bound of what a message takes in a group.
func memberBytes(m *member) int64 {
	return int64(len(m.tenant)+len(m.id)) + 4*binary.MaxVarintLen32 + 4 + binary.MaxVarintLen64
}

func (g *groupWriter) add(m *member) {
	g.count++
	p := g.byTenant[m.tenant]
	if p == nil {
		if g.byTenant == nil {
			g.byTenant = map[string]*groupPart{}
		}
		p = &groupPart{pb: &indexpb.GroupPart{Tenant: m.tenant}}
		g.byTenant[m.tenant] = p
		g.parts = append(g.parts, p)
	}
	common := 0
	for common < min(len(p.id), len(m.id)) && p.id[common] == m.id[common] {
		common++
	}
	p.pb.Ids = appendText(binary.AppendUvarint(p.pb.Ids, uint64(common)), m.id[common:])
	p.pb.Senders = append(p.pb.Senders, m.sender)
	p.pb.SentAt = append(p.pb.SentAt, m.sentAt-p.sentAt)
	p.id, p.sentAt = m.id, m.sentAt
}

func (g *groupWriter) encode() ([]byte, error) {
	pb := &indexpb.Group{}
	for _, p := range g.parts {
		pb.Parts = append(pb.Parts, p.pb)
	}
	return encode(pb)
}

// members reads the messages of a group.
func members(pb *indexpb.Group) ([]member, error) {
	var out []member
	for _, part := range pb.Parts {
		r, err := newPartReader(part)
		if err != nil {
			return nil, err
		}
		for range part.Senders {
			m, err := r.next()
			if err != nil {
				return nil, err
			}
			if m.id != "" {
				out = append(out, m)
			}
		}
		if err := r.end(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// partReader reads the messages of a part, one for each sender.
type partReader struct {
	part *indexpb.GroupPart
	at   int // of the next message
	read int // bytes of the ids
	last member
}

func newPartReader(part *indexpb.GroupPart) (partReader, error) {
	if n, times := len(part.Senders), len(part.SentAt); n != times {
		return partReader{}, fmt.Errorf("%w: a group with %d senders and %d times", ErrCorrupt, n, times)
	}
	return partReader{part: part}, nil
}

func (r *partReader) next() (member, error) {
	ids, before := r.part.Ids[r.read:], r.last.id
	common, n := binary.Uvarint(ids)
	if n <= 0 || common > uint64(len(before)) {
		return member{}, fmt.Errorf("%w: a group whose ids end within one", ErrCorrupt)
	}
	rest, k, err := readText(ids[n:])
	if err != nil {
		return member{}, err
	}
	id := before[:common] + rest
	if strings.IndexByte(id, 0) >= 0 {
		return member{}, fmt.Errorf("%w: a group with the id %q", ErrCorrupt, id)
	}
	r.last = member{r.part.Tenant, id, r.part.Senders[r.at], r.last.sentAt + r.part.SentAt[r.at]}
	r.at, r.read = r.at+1, r.read+n+k
	return r.last, nil
}

// end checks that there is nothing behind the last message.
func (r *partReader) end() error {
	if rest := len(r.part.Ids) - r.read; rest > 0 {
		return fmt.Errorf("%w: a group with %d bytes after its ids", ErrCorrupt, rest)
	}
	return nil
}

type alphabet struct {
	bits   uint // a character
	digits string
	number [256]int8 // of a character; -1: it is not in the alphabet
}

func (a *alphabet) has(text string) bool {
	for i := range len(text) {
		if a.number[text[i]] < 0 {
			return false
		}
	}
	return true
}

// alphabets of ids: any text, lower-case hex, the base 32 of ULIDs, and the base 64 of URLs. A random id is the largest
// part of a group.
var alphabets = [...]alphabet{
	{bits: 8},
	{bits: 4, digits: "0123456789abcdef"},
	{bits: 5, digits: "0123456789ABCDEFGHJKMNPQRSTVWXYZ"},
	{bits: 6, digits: "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"},
}

func init() {
	for i := range alphabets {
		a := &alphabets[i]
		for c := range a.number {
			a.number[c] = int8(strings.IndexByte(a.digits, byte(c)))
		}
	}
}

// appendText appends a text in the narrowest alphabet that contains all of its characters: its length and the number of
// the alphabet (uvarint, length*4 + number), then its characters.
func appendText(b []byte, text string) []byte {
	for n := 1; n < len(alphabets); n++ {
		a := &alphabets[n]
		if !a.has(text) {
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(text))<<2|uint64(n))
		acc, bits := uint(0), uint(0)
		for i := range len(text) {
			acc, bits = acc<<a.bits|uint(a.number[text[i]]), bits+a.bits
			if bits >= 8 {
				bits -= 8
				b = append(b, byte(acc>>bits))
			}
		}
		if bits > 0 {
			b = append(b, byte(acc<<(8-bits)))
		}
		return b
	}
	return append(binary.AppendUvarint(b, uint64(len(text))<<2), text...)
}

// readText reads what appendText wrote, and returns how many bytes it took.
func readText(b []byte) (text string, size int, err error) {
	head, n := binary.Uvarint(b)
	a, length := &alphabets[head&3], head>>2
	if n <= 0 || length > uint64(len(b))*2 || (length*uint64(a.bits)+7)/8 > uint64(len(b)-n) {
		return "", 0, fmt.Errorf("%w: a group whose ids end within one", ErrCorrupt)
	}
	size = n + int(length*uint64(a.bits)+7)/8
	if a.bits == 8 {
		return string(b[n:size]), size, nil
	}
	out := make([]byte, 0, length)
	acc, bits := uint(0), uint(0)
	for _, c := range b[n:size] {
		acc, bits = acc<<8|uint(c), bits+8
		for bits >= a.bits && len(out) < int(length) {
			bits -= a.bits
			out = append(out, a.digits[acc>>bits&(1<<a.bits-1)])
		}
	}
	return string(out), size, nil
}
