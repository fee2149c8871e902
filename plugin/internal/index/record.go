package index

import (
	"encoding/binary"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/chat-recall/recall/plugin/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// enum pairs the words of the domain with the numbers on disk.
type enum[N ~int32, D ~string] struct {
	number map[D]N
	word   map[N]D
}

func newEnum[N ~int32, D ~string](number map[D]N) enum[N, D] {
	e := enum[N, D]{number: number, word: make(map[N]D, len(number))}
	for d, n := range number {
		e.word[n] = d
	}
	return e
}

var (
	messageTypes = newEnum(map[shared.MessageType]indexpb.MessageType{
		shared.Text:     indexpb.MessageType_MESSAGE_TYPE_TEXT,
		shared.Image:    indexpb.MessageType_MESSAGE_TYPE_IMAGE,
		shared.Audio:    indexpb.MessageType_MESSAGE_TYPE_AUDIO,
		shared.Video:    indexpb.MessageType_MESSAGE_TYPE_VIDEO,
		shared.File:     indexpb.MessageType_MESSAGE_TYPE_FILE,
		shared.Location: indexpb.MessageType_MESSAGE_TYPE_LOCATION,
		shared.Custom:   indexpb.MessageType_MESSAGE_TYPE_CUSTOM,
		shared.Combine:  indexpb.MessageType_MESSAGE_TYPE_COMBINE,
		shared.Command:  indexpb.MessageType_MESSAGE_TYPE_COMMAND,
	})
	roles = newEnum(map[shared.Role]indexpb.Role{
		"":            indexpb.Role_ROLE_UNSPECIFIED,
		shared.Member: indexpb.Role_ROLE_MEMBER,
		shared.Admin:  indexpb.Role_ROLE_ADMIN,
		shared.Owner:  indexpb.Role_ROLE_OWNER,
		shared.System: indexpb.Role_ROLE_SYSTEM,
	})
	dispositions = newEnum(map[shared.Disposition]indexpb.Disposition{
		shared.DispositionErase:   indexpb.Disposition_DISPOSITION_ERASE,
		shared.DispositionArchive: indexpb.Disposition_DISPOSITION_ARCHIVE,
	})
	outcomes = newEnum(map[shared.Outcome]indexpb.Outcome{
		"":                        indexpb.Outcome_OUTCOME_UNSPECIFIED,
		shared.OutcomeDone:        indexpb.Outcome_OUTCOME_DONE,
		shared.OutcomeNothingToDo: indexpb.Outcome_OUTCOME_NOTHING_TO_DO,
		shared.OutcomeUnsupported: indexpb.Outcome_OUTCOME_UNSUPPORTED,
		shared.OutcomeFailed:      indexpb.Outcome_OUTCOME_FAILED,
	})
)

func encodeTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func decodeTime(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// normal is a message as the index keeps and compares it: times to the microsecond, lists as sorted sets.
func normal(m shared.Message) shared.Message {
	m.SentAt = decodeTime(encodeTime(m.SentAt))
	m.Attachments = sortedSet(m.Attachments)
	m.Labels = sortedSet(m.Labels)
	return m
}

func sortedSet(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	set := slices.Clone(list)
	slices.Sort(set)
	return slices.Compact(set)
}

// SameFacts tells whether two messages say the same: times to the microsecond, attachments and labels in any order.
func SameFacts(a, b shared.Message) bool {
	a, b = normal(a), normal(b)
	return a.Tenant == b.Tenant && a.ID == b.ID && a.Conversation == b.Conversation && a.Sender == b.Sender &&
		a.Type == b.Type && a.SentAt.Equal(b.SentAt) &&
		slices.Equal(a.Attachments, b.Attachments) && slices.Equal(a.Labels, b.Labels)
}

func encodeRecord(r *Record) *indexpb.Record {
	m := &r.Message
	pb := &indexpb.Record{
		ConversationType: conversationTypes.number[m.Conversation.Type],
		ConversationId:   m.Conversation.ID,
		Sender:           m.Sender,
		Type:             messageTypes.number[m.Type],
		SentAt:           encodeTime(m.SentAt),
		Attachments:      m.Attachments,
		Labels:           m.Labels,
	}
	if t := r.Tombstone; t != nil {
		pb.Tombstone = &indexpb.Tombstone{
			RecallId:   t.RecallID,
			ActorId:    t.RecalledBy.ID,
			Role:       roles.number[t.RecalledBy.Role],
			RecalledAt: encodeTime(t.RecalledAt),
			Sequence:   t.Sequence,
		}
	}
	return pb
}

// encodeNew is encode(encodeRecord(&Record{Message: *m})), in a third of the time: it is done for every message.
func encodeNew(m *shared.Message) ([]byte, error) {
	size := 2*binary.MaxVarintLen64 + len(m.Conversation.ID) + len(m.Sender) + 5*(2+binary.MaxVarintLen32)
	for _, list := range [][]string{m.Attachments, m.Labels} {
		for _, text := range list {
			size += 1 + binary.MaxVarintLen32 + len(text)
		}
	}
	b, valid := make([]byte, 0, size), true
	number := func(field protowire.Number, n uint64) {
		if n != 0 {
			b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
		}
	}
	text := func(field protowire.Number, s string) {
		valid = valid && utf8.ValidString(s)
		b = protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
	}
	number(1, uint64(conversationTypes.number[m.Conversation.Type]))
	if m.Conversation.ID != "" {
		text(2, m.Conversation.ID)
	}
	if m.Sender != "" {
		text(3, m.Sender)
	}
	number(4, uint64(messageTypes.number[m.Type]))
	number(5, uint64(encodeTime(m.SentAt)))
	for _, a := range m.Attachments {
		text(6, a)
	}
	for _, l := range m.Labels {
		text(7, l)
	}
	if !valid {
		return encode(encodeRecord(&Record{Message: *m})) // which says what is wrong
	}
	return b, nil
}

func decodeRecord(tenant, id string, pb *indexpb.Record) *Record {
	r := &Record{Message: shared.Message{
		Tenant:       tenant,
		ID:           id,
		Conversation: shared.Conversation{Type: conversationTypes.word[pb.ConversationType], ID: pb.ConversationId},
		Sender:       pb.Sender,
		Type:         messageTypes.word[pb.Type],
		SentAt:       decodeTime(pb.SentAt),
		Attachments:  pb.Attachments,
		Labels:       pb.Labels,
	}}
	if t := pb.Tombstone; t != nil {
		r.Tombstone = &Tombstone{
			RecallID:   t.RecallId,
			RecalledBy: shared.Actor{ID: t.ActorId, Role: roles.word[t.Role]},
			RecalledAt: decodeTime(t.RecalledAt),
			Sequence:   t.Sequence,
		}
	}
	return r
}

// encodeEntry leaves out the steps.
func encodeEntry(e *shared.Event) *indexpb.Entry {
	return &indexpb.Entry{
		Sequence:     e.Sequence,
		ActorId:      e.Actor.ID,
		Role:         roles.number[e.Actor.Role],
		Ext:          e.Ext,
		Reason:       e.Reason,
		RecalledAt:   encodeTime(e.RecalledAt),
		Attachments:  e.Attachments,
		RuleName:     e.Rule.Name,
		RuleFile:     e.Rule.File,
		RuleLine:     int32(e.Rule.Line),
		PolicyDigest: e.PolicyDigest,
		Silent:       e.Silent,
		Tombstone:    e.Tombstone,
		Disposition:  dispositions.number[e.Disposition],
		Retention:    e.Retention.Microseconds(),
		MessageId:    e.Message.ID,
	}
}

func decodeEvent(recallID string, m shared.Message, pb *indexpb.Entry) shared.Event {
	return shared.Event{
		Sequence:     pb.Sequence,
		Tenant:       m.Tenant,
		RecallID:     recallID,
		Actor:        shared.Actor{ID: pb.ActorId, Role: roles.word[pb.Role]},
		Ext:          pb.Ext,
		Reason:       pb.Reason,
		RecalledAt:   decodeTime(pb.RecalledAt),
		Message:      m,
		Attachments:  pb.Attachments,
		Rule:         shared.Rule{Name: pb.RuleName, File: pb.RuleFile, Line: int(pb.RuleLine)},
		PolicyDigest: pb.PolicyDigest,
		Silent:       pb.Silent,
		Tombstone:    pb.Tombstone,
		Disposition:  dispositions.word[pb.Disposition],
		Retention:    time.Duration(pb.Retention) * time.Microsecond,
	}
}
