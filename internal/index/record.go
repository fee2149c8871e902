package index

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/chat-recall/recall/internal/index/indexpb"
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
		shared.TypeText:     indexpb.MessageType_MESSAGE_TYPE_TEXT,
		shared.TypeImage:    indexpb.MessageType_MESSAGE_TYPE_IMAGE,
		shared.TypeAudio:    indexpb.MessageType_MESSAGE_TYPE_AUDIO,
		shared.TypeVideo:    indexpb.MessageType_MESSAGE_TYPE_VIDEO,
		shared.TypeFile:     indexpb.MessageType_MESSAGE_TYPE_FILE,
		shared.TypeLocation: indexpb.MessageType_MESSAGE_TYPE_LOCATION,
		shared.TypeCustom:   indexpb.MessageType_MESSAGE_TYPE_CUSTOM,
		shared.TypeCombine:  indexpb.MessageType_MESSAGE_TYPE_COMBINE,
		shared.TypeCommand:  indexpb.MessageType_MESSAGE_TYPE_COMMAND,
	})
	roles = newEnum(map[shared.Role]indexpb.Role{
		"":                indexpb.Role_ROLE_UNSPECIFIED,
		shared.RoleMember: indexpb.Role_ROLE_MEMBER,
		shared.RoleAdmin:  indexpb.Role_ROLE_ADMIN,
		shared.RoleOwner:  indexpb.Role_ROLE_OWNER,
		shared.RoleSystem: indexpb.Role_ROLE_SYSTEM,
		shared.RoleNone:   indexpb.Role_ROLE_NONE,
	})
	relationKinds = newEnum(map[shared.RelationKind]indexpb.RelationKind{
		shared.RelationEdit:    indexpb.RelationKind_RELATION_KIND_EDIT,
		shared.RelationQuote:   indexpb.RelationKind_RELATION_KIND_QUOTE,
		shared.RelationForward: indexpb.RelationKind_RELATION_KIND_FORWARD,
		shared.RelationReply:   indexpb.RelationKind_RELATION_KIND_REPLY,
		shared.RelationThread:  indexpb.RelationKind_RELATION_KIND_THREAD,
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
	m.Attachments = sortedAttachments(m.Attachments, m.Sender)
	m.Labels = sortedSet(m.Labels)
	m.Relations = sortedRelations(m.Relations)
	return m
}

// sortedRelations is a list as a set, sorted by kind and id.
func sortedRelations(list []shared.Relation) []shared.Relation {
	if len(list) == 0 {
		return nil
	}
	set := slices.Clone(list)
	slices.SortFunc(set, func(a, b shared.Relation) int {
		return cmp.Or(cmp.Compare(relationKinds.number[a.Kind], relationKinds.number[b.Kind]),
			strings.Compare(a.MessageID, b.MessageID))
	})
	return slices.Compact(set)
}

// sortedAttachments is a list as a sorted set. The sender is no owner by name.
func sortedAttachments(list []shared.Attachment, sender string) []shared.Attachment {
	if len(list) == 0 {
		return nil
	}
	set := slices.Clone(list)
	for i := range set {
		if set[i].Owner == sender {
			set[i].Owner = ""
		}
	}
	slices.SortFunc(set, func(a, b shared.Attachment) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Owner, b.Owner))
	})
	return slices.Compact(set)
}

func sortedSet(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	set := slices.Clone(list)
	slices.Sort(set)
	return slices.Compact(set)
}

// SameFacts reports whether two messages have the same facts: times to the microsecond, attachments and labels in any
// order.
func SameFacts(a, b shared.Message) bool {
	a, b = normal(a), normal(b)
	return a.Tenant == b.Tenant && a.ID == b.ID && a.Conversation == b.Conversation && a.Sender == b.Sender &&
		a.Type == b.Type && a.SentAt.Equal(b.SentAt) && a.Ref == b.Ref &&
		slices.Equal(a.Attachments, b.Attachments) && slices.Equal(a.Labels, b.Labels) &&
		slices.Equal(a.Relations, b.Relations)
}

func encodeRecord(r *Record) *indexpb.Record {
	m := &r.Message
	pb := &indexpb.Record{
		ConversationType: conversationTypes.number[m.Conversation.Type],
		ConversationId:   m.Conversation.ID,
		Sender:           m.Sender,
		Type:             messageTypes.number[m.Type],
		SentAt:           encodeTime(m.SentAt),
		Labels:           m.Labels,
		Ref:              m.Ref,
	}
	pb.Attachments, pb.Owners = splitAttachments(m.Attachments)
	for _, r := range m.Relations {
		pb.Relations = append(pb.Relations, encodeRelation(r))
	}
	if t := r.Tombstone; t != nil {
		pb.Tombstone = &indexpb.Tombstone{
			RecallId:   t.RecallID,
			ActorId:    t.RecalledBy,
			Role:       roles.number[t.Role],
			RecalledAt: encodeTime(t.RecalledAt),
			Sequence:   t.Sequence,
			Cascade:    uint32(t.Cascade),
		}
	}
	return pb
}

func encodeRelation(r shared.Relation) *indexpb.Relation {
	return &indexpb.Relation{Kind: relationKinds.number[r.Kind], MessageId: r.MessageID}
}

func decodeRelation(pb *indexpb.Relation) shared.Relation {
	return shared.Relation{Kind: relationKinds.word[pb.Kind], MessageID: pb.MessageId}
}

func encodeRelated(r *shared.Related) *indexpb.Related {
	return &indexpb.Related{
		Kind: relationKinds.number[r.Kind], MessageId: r.MessageID, Ref: r.Ref,
		ConversationType: conversationTypes.number[r.Conversation.Type], ConversationId: r.Conversation.ID,
	}
}

func decodeRelated(pb *indexpb.Related) shared.Related {
	return shared.Related{
		Kind: relationKinds.word[pb.Kind], MessageID: pb.MessageId, Ref: pb.Ref,
		Conversation: shared.Conversation{Type: conversationTypes.word[pb.ConversationType], ID: pb.ConversationId},
	}
}

// splitAttachments returns keys and owners as a record has them: no owners where all are the sender's.
func splitAttachments(list []shared.Attachment) (keys, owners []string) {
	owned := slices.ContainsFunc(list, func(a shared.Attachment) bool { return a.Owner != "" })
	for _, a := range list {
		keys = append(keys, a.Key)
		if owned {
			owners = append(owners, a.Owner)
		}
	}
	return keys, owners
}

func joinAttachments(keys, owners []string) []shared.Attachment {
	if len(keys) == 0 {
		return nil
	}
	list := make([]shared.Attachment, len(keys))
	for i, k := range keys {
		list[i].Key = k
		if i < len(owners) {
			list[i].Owner = owners[i]
		}
	}
	return list
}

// encodeNew is encode(encodeRecord(&Record{Message: *m})), in a third of the time: it is done for every message.
func encodeNew(m *shared.Message) ([]byte, error) {
	if len(m.Attachments) > 0 || len(m.Relations) > 0 { // these write more than they encode
		return encode(encodeRecord(&Record{Message: *m}))
	}
	size := 2*binary.MaxVarintLen64 + len(m.Conversation.ID) + len(m.Sender) + len(m.Ref) + 6*(2+binary.MaxVarintLen32)
	for _, label := range m.Labels {
		size += 1 + binary.MaxVarintLen32 + len(label)
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
	for _, l := range m.Labels {
		text(7, l)
	}
	if m.Ref != "" {
		text(9, m.Ref)
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
		Attachments:  joinAttachments(pb.Attachments, pb.Owners),
		Labels:       pb.Labels,
		Ref:          pb.Ref,
	}}
	for _, relation := range pb.Relations {
		r.Message.Relations = append(r.Message.Relations, decodeRelation(relation))
	}
	if t := pb.Tombstone; t != nil {
		r.Tombstone = &Tombstone{
			RecallID:   t.RecallId,
			RecalledBy: t.ActorId,
			Role:       roles.word[t.Role],
			RecalledAt: decodeTime(t.RecalledAt),
			Sequence:   t.Sequence,
			Cascade:    Kinds(t.Cascade),
		}
	}
	return r
}

// encodeEntry leaves out the steps.
func encodeEntry(e *shared.Event) *indexpb.Entry {
	pb := &indexpb.Entry{
		Sequence:     e.Sequence,
		ActorId:      e.Actor.ID,
		ActorLabels:  e.Actor.Labels,
		Role:         roles.number[e.Role],
		Ext:          e.Ext,
		Reason:       e.Reason,
		RecalledAt:   encodeTime(e.RecalledAt),
		Attachments:  keysOf(e.Attachments),
		RuleName:     e.Rule.Name,
		RuleFile:     e.Rule.File,
		RuleLine:     int32(e.Rule.Line),
		PolicyDigest: e.PolicyDigest,
		Silent:       e.Silent,
		Placeholder:  e.Placeholder,
		Disposition:  dispositions.number[e.Disposition],
		Retention:    e.Retention.Microseconds(),
		MessageId:    e.Message.ID,
		MoreRelated:  e.MoreRelated,
		JobId:        e.JobID,
	}
	for i := range e.Related {
		pb.Related = append(pb.Related, encodeRelated(&e.Related[i]))
	}
	if e.Cause != nil {
		pb.Cause = encodeRelation(*e.Cause)
	}
	return pb
}

func decodeEvent(recallID string, m shared.Message, pb *indexpb.Entry) shared.Event {
	e := shared.Event{
		Sequence:     pb.Sequence,
		Tenant:       m.Tenant,
		RecallID:     recallID,
		JobID:        pb.JobId,
		Actor:        shared.Actor{ID: pb.ActorId, Labels: pb.ActorLabels},
		Role:         roles.word[pb.Role],
		Ext:          pb.Ext,
		Reason:       pb.Reason,
		RecalledAt:   decodeTime(pb.RecalledAt),
		Message:      m,
		Attachments:  attachmentsOf(&m, pb.Attachments),
		Rule:         shared.Rule{Name: pb.RuleName, File: pb.RuleFile, Line: int(pb.RuleLine)},
		PolicyDigest: pb.PolicyDigest,
		Silent:       pb.Silent,
		Placeholder:  pb.Placeholder,
		Disposition:  dispositions.word[pb.Disposition],
		Retention:    time.Duration(pb.Retention) * time.Microsecond,
		MoreRelated:  pb.MoreRelated,
	}
	for _, r := range pb.Related {
		e.Related = append(e.Related, decodeRelated(r))
	}
	if pb.Cause != nil {
		cause := decodeRelation(pb.Cause)
		e.Cause = &cause
	}
	return e
}

func keysOf(list []shared.Attachment) []string {
	keys, _ := splitAttachments(list)
	return slices.Compact(keys)
}

// attachmentsOf returns the attachments of a message that have these keys.
func attachmentsOf(m *shared.Message, keys []string) []shared.Attachment {
	var list []shared.Attachment
	for _, a := range m.Attachments {
		if _, among := slices.BinarySearch(keys, a.Key); among {
			list = append(list, a)
		}
	}
	return list
}
