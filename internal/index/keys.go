package index

import (
	"encoding/binary"
	"strings"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// The keys of the index. Text ends with a NUL, which no id holds; numbers are big-endian and have a fixed size. So no
// key but H/ begins another, and keys that share their first parts lie together in the order of the next.
//
//	f/                                           Format    the version of the whole, checked before anything is written
//	i/                                           Identity  which index this is, and which epoch of it
//	n/                                           Counter   the next sequence, and further numbers that go up
//	m/<tenant>/<message id>                      Record    the message and its tombstone
//	t/<position>                                 Group     the messages that an entry of the log indexed
//	a/<tenant>/<attachment key>/<message id>               a live message uses the attachment
//	u/<tenant>/<attachment key>                            its owner's use of it was recalled; live messages still use it
//	r/<tenant>/<conversation>/<sequence>         Pointer   the recalls of a conversation
//	o/<tenant>/<recall id>                       RecallID  whose recall id it is, and how many messages share it
//	l/<tenant>/<recall id>/<sequence>            Entry     the ledger: what was recalled how, and by which steps
//	q/<sequence>                                 Pointer   where the ledger entry of an event is
//	s/<sequence>/<step>                          Attempts  what came of the attempts of a step, from the first outcome on
//	e/<step>/<sequence>                                    the step queue: events whose step is open and never failed
//	b/<step>/<level>/<position>/<sequence>                 events whose step failed and backs off, oldest failure first
//	w/<sequence>                                           the gate: events whose other steps wait for notify
//	d/<sequence>                                           events with steps that wait for others, by Step.after
//	x/<tenant>/<message id>/<kind><message id>             the second one, a live message, relates to the first one
//	v/<tenant>/<message id>/<recall id>          Wait      a recall that came before its message
//	z/<sequence>                                 Cascade   events of messages with which others are still to be recalled
//	c/<number>                                   Spend     what a recall spent of a limit of the rules
//	H/                                           ForgetKey the secret of the keyed hashes
//	H/<keyed hash>                                         a recalled message that was forgotten, see secret
//	F/<tenant>/<what>                            Forget    a request to forget that is under way, see ForgetRequest
//	g/                                                     padding, see Index.Flush
//
// An index that follows the log of a cluster has these too, and a step of a node, <step>@<node>, in e/ and b/, and in
// s/ where every node carries it out:
//
//	p/                                           Log       which log, and how far it is applied
//	k/<node>                                     Member    the nodes of the cluster
//	y/<node>                                     Written   which entries of a node are applied
//	h/<sequence>/<step>                          Holders   the nodes that have an open step to carry out
type key []byte

// keyKinds are the first bytes of all keys.
const keyKinds = "finmtauroqlsebwdcgxvzHFj" + nodeKinds

// nodeKinds are those that only an index has that follows a log.
const nodeKinds = "pkyh"

func newKey(kind byte) key { return append(make(key, 0, 64), kind, '/') }

// text panics on a NUL: the operations and reads of this package refuse it before they make a key.
func (k key) text(s string) key {
	if strings.IndexByte(s, 0) >= 0 {
		panic("index: NUL in a key")
	}
	return append(append(k, s...), 0)
}

func (k key) number(n uint64) key { return binary.BigEndian.AppendUint64(k, n) }

var (
	formatKey   = newKey('f')
	identityKey = newKey('i')
	sequenceKey = newKey('n')
	paddingKey  = newKey('g')
	logKey      = newKey('p')
	secretKey   = newKey('H')
)

func messageKey(tenant, id string) key { return newKey('m').text(tenant).text(id) }

func groupKey(position uint64) key { return newKey('t').number(position) }

func attachmentPrefix(tenant, attachment string) key {
	return newKey('a').text(tenant).text(attachment)
}

func attachmentKey(tenant, attachment, id string) key {
	return attachmentPrefix(tenant, attachment).text(id)
}

func ownerRecalledKey(tenant, attachment string) key {
	return newKey('u').text(tenant).text(attachment)
}

func conversationPrefix(tenant string, c shared.Conversation) key {
	return append(newKey('r').text(tenant), byte(conversationTypes.number[c.Type])).text(c.ID)
}

func conversationKey(tenant string, c shared.Conversation, sequence uint64) key {
	return conversationPrefix(tenant, c).number(sequence)
}

func recallPrefix(tenant, recallID string) key { return newKey('l').text(tenant).text(recallID) }

func ledgerKey(tenant, recallID string, sequence uint64) key {
	return recallPrefix(tenant, recallID).number(sequence)
}

func recallIDKey(tenant, recallID string) key { return newKey('o').text(tenant).text(recallID) }

func eventKey(sequence uint64) key { return newKey('q').number(sequence) }

func attemptsKey(sequence uint64, step string) key { return newKey('s').number(sequence).text(step) }

func stepPrefix(step string) key { return newKey('e').text(step) }

func stepKey(step string, sequence uint64) key { return stepPrefix(step).number(sequence) }

func backoffPrefix(step string) key { return newKey('b').text(step) }

func backoffKey(step string, level int, position, sequence uint64) key {
	return append(backoffPrefix(step), byte(level)).number(position).number(sequence)
}

func gateKey(sequence uint64) key { return newKey('w').number(sequence) }

func dependentsKey(sequence uint64) key { return newKey('d').number(sequence) }

func relationPrefix(tenant, id string) key { return newKey('x').text(tenant).text(id) }

// relationSuffix is the last part of a relation key: a kind, and the message that has the relation.
func relationSuffix(kind shared.RelationKind, id string) []byte {
	return append(append([]byte{byte(relationKinds.number[kind])}, id...), 0)
}

func relationKey(tenant string, r shared.Relation, id string) key {
	return append(relationPrefix(tenant, r.MessageID), relationSuffix(r.Kind, id)...)
}

func cascadeKey(sequence uint64) key { return newKey('z').number(sequence) }

func memberKey(node string) key { return newKey('k').text(node) }

func writtenKey(node string) key { return newKey('y').text(node) }

func holdersKey(sequence uint64, step string) key { return newKey('h').number(sequence).text(step) }

func spendKey(number uint64) key { return newKey('c').number(number) }

func jobPrefix(tenant string) key { return newKey('j').text(tenant) }

func jobKey(tenant, id string) key { return jobPrefix(tenant).text(id) }

func runningJobPrefix() key { return newKey('j').text("") }

func runningJobKey(number uint64) key { return runningJobPrefix().number(number) }

// lastNumber reads the number that a key ends with.
func lastNumber(k []byte) uint64 { return binary.BigEndian.Uint64(k[len(k)-8:]) }

// numberBefore reads the number before the last one of a key.
func numberBefore(k []byte) uint64 { return lastNumber(k[:len(k)-8]) }

// numberAt reads the number at an offset of a key.
func numberAt(k []byte, offset int) uint64 { return binary.BigEndian.Uint64(k[offset:]) }

// textAt reads the text of a key from an offset to its NUL.
func textAt(k []byte, offset int) string {
	s, _, _ := strings.Cut(string(k[offset:]), "\x00")
	return s
}

var conversationTypes = newEnum(map[shared.ConversationType]indexpb.ConversationType{
	shared.ConversationSingle:   indexpb.ConversationType_CONVERSATION_TYPE_SINGLE,
	shared.ConversationGroup:    indexpb.ConversationType_CONVERSATION_TYPE_GROUP,
	shared.ConversationChatroom: indexpb.ConversationType_CONVERSATION_TYPE_CHATROOM,
})
