package wire

import (
	"cmp"
	"slices"
	"strings"

	"github.com/chat-recall/recall/shared"
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
	slices.SortFunc(list, func(a, b string) int { return cmp.Compare(e.number[D(a)], e.number[D(b)]) })
	return strings.Join(list, ", ")
}

var (
	conversationTypes = newEnum(map[shared.ConversationType]recallv1.ConversationType{
		shared.ConversationSingle:   recallv1.ConversationType_CONVERSATION_TYPE_SINGLE,
		shared.ConversationGroup:    recallv1.ConversationType_CONVERSATION_TYPE_GROUP,
		shared.ConversationChatroom: recallv1.ConversationType_CONVERSATION_TYPE_CHATROOM,
	})
	messageTypes = newEnum(map[shared.MessageType]recallv1.MessageType{
		shared.TypeText:     recallv1.MessageType_MESSAGE_TYPE_TEXT,
		shared.TypeImage:    recallv1.MessageType_MESSAGE_TYPE_IMAGE,
		shared.TypeAudio:    recallv1.MessageType_MESSAGE_TYPE_AUDIO,
		shared.TypeVideo:    recallv1.MessageType_MESSAGE_TYPE_VIDEO,
		shared.TypeFile:     recallv1.MessageType_MESSAGE_TYPE_FILE,
		shared.TypeLocation: recallv1.MessageType_MESSAGE_TYPE_LOCATION,
		shared.TypeCustom:   recallv1.MessageType_MESSAGE_TYPE_CUSTOM,
		shared.TypeCombine:  recallv1.MessageType_MESSAGE_TYPE_COMBINE,
		shared.TypeCommand:  recallv1.MessageType_MESSAGE_TYPE_COMMAND,
	})
	roles = newEnum(map[shared.Role]recallv1.Role{
		shared.RoleMember: recallv1.Role_ROLE_MEMBER,
		shared.RoleAdmin:  recallv1.Role_ROLE_ADMIN,
		shared.RoleOwner:  recallv1.Role_ROLE_OWNER,
		shared.RoleSystem: recallv1.Role_ROLE_SYSTEM,
		shared.RoleNone:   recallv1.Role_ROLE_NONE,
	})
	stepsFilters = newEnum(map[shared.StepsFilter]recallv1.StepsFilter{
		shared.StepsOpen:   recallv1.StepsFilter_STEPS_FILTER_OPEN,
		shared.StepsFailed: recallv1.StepsFilter_STEPS_FILTER_FAILED,
	})
	relationKinds = newEnum(map[shared.RelationKind]recallv1.RelationKind{
		shared.RelationEdit:    recallv1.RelationKind_RELATION_KIND_EDIT,
		shared.RelationQuote:   recallv1.RelationKind_RELATION_KIND_QUOTE,
		shared.RelationForward: recallv1.RelationKind_RELATION_KIND_FORWARD,
		shared.RelationReply:   recallv1.RelationKind_RELATION_KIND_REPLY,
		shared.RelationThread:  recallv1.RelationKind_RELATION_KIND_THREAD,
	})
	indexStatuses = newEnum(map[shared.IndexStatus]recallv1.IndexStatus{
		shared.IndexAdded:     recallv1.IndexStatus_INDEX_STATUS_INDEXED,
		shared.IndexUnchanged: recallv1.IndexStatus_INDEX_STATUS_UNCHANGED,
		shared.IndexConflict:  recallv1.IndexStatus_INDEX_STATUS_CONFLICT,
		shared.IndexRecalled:  recallv1.IndexStatus_INDEX_STATUS_RECALLED,
		shared.IndexAmended:   recallv1.IndexStatus_INDEX_STATUS_AMENDED,
		shared.IndexNotFound:  recallv1.IndexStatus_INDEX_STATUS_NOT_FOUND,
		shared.IndexInvalid:   recallv1.IndexStatus_INDEX_STATUS_INVALID,
	})
	recallStatuses = newEnum(map[shared.RecallStatus]recallv1.RecallStatus{
		shared.StatusRecalled:        recallv1.RecallStatus_RECALL_STATUS_RECALLED,
		shared.StatusAlreadyRecalled: recallv1.RecallStatus_RECALL_STATUS_ALREADY_RECALLED,
		shared.StatusDenied:          recallv1.RecallStatus_RECALL_STATUS_DENIED,
		shared.StatusNotFound:        recallv1.RecallStatus_RECALL_STATUS_NOT_FOUND,
		shared.StatusAborted:         recallv1.RecallStatus_RECALL_STATUS_ABORTED,
		shared.StatusWaiting:         recallv1.RecallStatus_RECALL_STATUS_WAITING,
	})
	waitStates = newEnum(map[shared.WaitState]recallv1.WaitState{
		shared.WaitWaiting: recallv1.WaitState_WAIT_STATE_WAITING,
		shared.WaitRefused: recallv1.WaitState_WAIT_STATE_REFUSED,
		shared.WaitExpired: recallv1.WaitState_WAIT_STATE_EXPIRED,
	})
	messageStates = newEnum(map[shared.MessageState]recallv1.MessageState{
		shared.MessageUnknown:  recallv1.MessageState_MESSAGE_STATE_UNKNOWN,
		shared.MessageLive:     recallv1.MessageState_MESSAGE_STATE_LIVE,
		shared.MessageRecalled: recallv1.MessageState_MESSAGE_STATE_RECALLED,
	})
	outcomes = newEnum(map[shared.Outcome]recallv1.Outcome{
		shared.OutcomeDone:        recallv1.Outcome_OUTCOME_DONE,
		shared.OutcomeNothingToDo: recallv1.Outcome_OUTCOME_NOTHING_TO_DO,
		shared.OutcomeUnsupported: recallv1.Outcome_OUTCOME_UNSUPPORTED,
		shared.OutcomeFailed:      recallv1.Outcome_OUTCOME_FAILED,
		shared.OutcomeDeferred:    recallv1.Outcome_OUTCOME_DEFERRED,
	})
	dispositions = newEnum(map[shared.Disposition]recallv1.Disposition{
		shared.DispositionErase:   recallv1.Disposition_DISPOSITION_ERASE,
		shared.DispositionArchive: recallv1.Disposition_DISPOSITION_ARCHIVE,
	})
	jobStates = newEnum(map[shared.JobState]recallv1.JobState{
		shared.JobRunning:  recallv1.JobState_JOB_STATE_RUNNING,
		shared.JobDone:     recallv1.JobState_JOB_STATE_DONE,
		shared.JobCanceled: recallv1.JobState_JOB_STATE_CANCELED,
	})
	pluginStates = newEnum(map[State]recallv1.PluginState{
		StateStandby:  recallv1.PluginState_PLUGIN_STATE_STANDBY,
		StateActive:   recallv1.PluginState_PLUGIN_STATE_ACTIVE,
		StateQuiesced: recallv1.PluginState_PLUGIN_STATE_QUIESCED,
	})
	metricKinds = newEnum(map[shared.MetricKind]recallv1.MetricKind{
		shared.MetricCounter:   recallv1.MetricKind_METRIC_KIND_COUNTER,
		shared.MetricGauge:     recallv1.MetricKind_METRIC_KIND_GAUGE,
		shared.MetricHistogram: recallv1.MetricKind_METRIC_KIND_HISTOGRAM,
	})
	severities = newEnum(map[shared.Severity]recallv1.Severity{
		shared.SeverityError:   recallv1.Severity_SEVERITY_ERROR,
		shared.SeverityWarning: recallv1.Severity_SEVERITY_WARNING,
	})
)
