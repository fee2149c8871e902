package shared

import (
	"sort"
	"strings"

	"github.com/chat-recall/recall/shared/recallv1"
)

// enum pairs the words of the domain with the numbers of the wire.
type enum[W ~int32, D ~string] struct {
	number map[D]W
	word   map[W]D
}

func newEnum[W ~int32, D ~string](number map[D]W) enum[W, D] {
	e := enum[W, D]{number: number, word: make(map[W]D, len(number))}
	for d, w := range number {
		e.word[w] = d
	}
	return e
}

// words lists the domain's words in the order of their numbers.
func (e enum[W, D]) words() string {
	list := make([]string, 0, len(e.number))
	for d := range e.number {
		list = append(list, string(d))
	}
	sort.Slice(list, func(i, j int) bool { return e.number[D(list[i])] < e.number[D(list[j])] })
	return strings.Join(list, ", ")
}

var (
	conversationTypes = newEnum(map[ConversationType]recallv1.ConversationType{
		Single:   recallv1.ConversationType_CONVERSATION_TYPE_SINGLE,
		Group:    recallv1.ConversationType_CONVERSATION_TYPE_GROUP,
		Chatroom: recallv1.ConversationType_CONVERSATION_TYPE_CHATROOM,
	})
	messageTypes = newEnum(map[MessageType]recallv1.MessageType{
		Text:     recallv1.MessageType_MESSAGE_TYPE_TEXT,
		Image:    recallv1.MessageType_MESSAGE_TYPE_IMAGE,
		Audio:    recallv1.MessageType_MESSAGE_TYPE_AUDIO,
		Video:    recallv1.MessageType_MESSAGE_TYPE_VIDEO,
		File:     recallv1.MessageType_MESSAGE_TYPE_FILE,
		Location: recallv1.MessageType_MESSAGE_TYPE_LOCATION,
		Custom:   recallv1.MessageType_MESSAGE_TYPE_CUSTOM,
		Combine:  recallv1.MessageType_MESSAGE_TYPE_COMBINE,
		Command:  recallv1.MessageType_MESSAGE_TYPE_COMMAND,
	})
	roles = newEnum(map[Role]recallv1.Role{
		Member: recallv1.Role_ROLE_MEMBER,
		Admin:  recallv1.Role_ROLE_ADMIN,
		Owner:  recallv1.Role_ROLE_OWNER,
		System: recallv1.Role_ROLE_SYSTEM,
	})
	indexStatuses = newEnum(map[IndexStatus]recallv1.IndexStatus{
		Indexed:        recallv1.IndexStatus_INDEX_STATUS_INDEXED,
		IndexUnchanged: recallv1.IndexStatus_INDEX_STATUS_UNCHANGED,
		IndexConflict:  recallv1.IndexStatus_INDEX_STATUS_CONFLICT,
		IndexRecalled:  recallv1.IndexStatus_INDEX_STATUS_RECALLED,
	})
	recallStatuses = newEnum(map[RecallStatus]recallv1.RecallStatus{
		Recalled:        recallv1.RecallStatus_RECALL_STATUS_RECALLED,
		AlreadyRecalled: recallv1.RecallStatus_RECALL_STATUS_ALREADY_RECALLED,
		Denied:          recallv1.RecallStatus_RECALL_STATUS_DENIED,
		NotFound:        recallv1.RecallStatus_RECALL_STATUS_NOT_FOUND,
	})
	messageStates = newEnum(map[MessageState]recallv1.MessageState{
		MessageUnknown:  recallv1.MessageState_MESSAGE_STATE_UNKNOWN,
		MessageLive:     recallv1.MessageState_MESSAGE_STATE_LIVE,
		MessageRecalled: recallv1.MessageState_MESSAGE_STATE_RECALLED,
	})
	outcomes = newEnum(map[Outcome]recallv1.Outcome{
		OutcomeDone:        recallv1.Outcome_OUTCOME_DONE,
		OutcomeNothingToDo: recallv1.Outcome_OUTCOME_NOTHING_TO_DO,
		OutcomeUnsupported: recallv1.Outcome_OUTCOME_UNSUPPORTED,
		OutcomeFailed:      recallv1.Outcome_OUTCOME_FAILED,
	})
	dispositions = newEnum(map[Disposition]recallv1.Disposition{
		DispositionErase:   recallv1.Disposition_DISPOSITION_ERASE,
		DispositionArchive: recallv1.Disposition_DISPOSITION_ARCHIVE,
	})
	pluginStates = newEnum(map[State]recallv1.PluginState{
		StateStandby:  recallv1.PluginState_PLUGIN_STATE_STANDBY,
		StateActive:   recallv1.PluginState_PLUGIN_STATE_ACTIVE,
		StateQuiesced: recallv1.PluginState_PLUGIN_STATE_QUIESCED,
	})
	severities = newEnum(map[Severity]recallv1.Severity{
		SeverityError:   recallv1.Severity_SEVERITY_ERROR,
		SeverityWarning: recallv1.Severity_SEVERITY_WARNING,
	})
)
