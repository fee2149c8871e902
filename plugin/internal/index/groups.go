package index

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/chat-recall/recall/plugin/internal/index/indexpb"
)

// A group lists the messages that one commit indexed, in its order: what a walk over all messages in the order of their
// indexing reads. It holds what a walk filters by, in short; the record of a message has the rest. One key a commit
// costs nothing that can be measured; a key a message, ordered by sender, cost a third of the throughput of batches.
//
// groupWriter puts one together.
type groupWriter struct {
	parts    []*groupPart
	byTenant map[string]*groupPart
	count    int
}

// groupPart is the part of a tenant.
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

// senderSum stands for a sender in a group. Senders may share one.
func senderSum(sender string) uint32 { return crc32.Checksum([]byte(sender), castagnoli) }

// memberBytes is at most what a message takes in a group.
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
	shared := 0
	for shared < min(len(p.id), len(m.id)) && p.id[shared] == m.id[shared] {
		shared++
	}
	ids := binary.AppendUvarint(p.pb.Ids, uint64(shared))
	ids = binary.AppendUvarint(ids, uint64(len(m.id)-shared))
	p.pb.Ids = append(ids, m.id[shared:]...)
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
		ids, id, sentAt := part.Ids, "", int64(0)
		if len(part.Senders) != len(part.SentAt) {
			return nil, fmt.Errorf("%w: a group with %d senders and %d times", ErrCorrupt, len(part.Senders), len(part.SentAt))
		}
		for i := range part.Senders {
			shared, n := binary.Uvarint(ids)
			more, k := binary.Uvarint(ids[max(n, 0):])
			if n <= 0 || k <= 0 || shared > uint64(len(id)) || more > uint64(len(ids)-n-k) {
				return nil, fmt.Errorf("%w: a group whose ids end within one", ErrCorrupt)
			}
			ids = ids[n+k:]
			id = id[:shared] + string(ids[:more])
			ids = ids[more:]
			if strings.IndexByte(id, 0) >= 0 {
				return nil, fmt.Errorf("%w: a group with the id %q", ErrCorrupt, id)
			}
			sentAt += part.SentAt[i]
			out = append(out, member{part.Tenant, id, part.Senders[i], sentAt})
		}
		if len(ids) > 0 {
			return nil, fmt.Errorf("%w: a group with %d bytes behind its ids", ErrCorrupt, len(ids))
		}
	}
	return out, nil
}
