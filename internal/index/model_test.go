package index

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/shared"
)

// model is what the index should be, in maps, and without any care for speed.
type model struct {
	records     map[[2]string]*Record
	entries     []*shared.LedgerEntry // by sequence
	ungated     map[uint64]bool       // events whose steps do not wait for notify any more
	after       map[uint64]map[string][]string
	cascade     map[uint64]Kinds
	unsupported map[uint64][]string
	waiting     map[[3]string]*shared.Waiting // tenant, message, recall id
	unfinished  map[uint64]bool               // events of late arrivals to which others relate
	positions   map[string]uint64             // of the last failure, by step and sequence
	failures    uint64
	recalled    map[[2]string]bool // tenant and attachment: a message of its owner was recalled, until it is released
	gone        map[uint64]bool    // events that were forgotten

	indexed   int                          // messages so far
	indexedAt map[[2]string]int            // as how many-eth
	underWay  map[shared.ForgetRequest]int // requests to forget, and the messages when they were begun
}

func newModel() *model {
	return &model{
		records: map[[2]string]*Record{}, ungated: map[uint64]bool{}, after: map[uint64]map[string][]string{},
		positions: map[string]uint64{}, recalled: map[[2]string]bool{}, cascade: map[uint64]Kinds{},
		unsupported: map[uint64][]string{}, unfinished: map[uint64]bool{}, waiting: map[[3]string]*shared.Waiting{},
		gone: map[uint64]bool{}, indexedAt: map[[2]string]int{}, underWay: map[shared.ForgetRequest]int{},
	}
}

// step finds a step that can be settled; nil where the index refuses that.
func (m *model) step(s *Settle) *shared.StepRecord {
	if s.Sequence == 0 || s.Sequence > uint64(len(m.entries)) {
		return nil
	}
	if m.gone[s.Sequence] {
		return &shared.StepRecord{Step: s.Step, Outcome: shared.OutcomeDone}
	}
	e := m.entries[s.Sequence-1]
	i := slices.IndexFunc(e.Steps, func(r shared.StepRecord) bool { return r.Step == s.Step })
	if i < 0 || m.waits(e, &e.Steps[i]) {
		return nil
	}
	return &e.Steps[i]
}

// waits tells whether an open step waits for notify, or for the steps that it comes after.
func (m *model) waits(e *shared.LedgerEntry, r *shared.StepRecord) bool {
	return !r.Outcome.Settles() && slices.ContainsFunc(e.Steps, func(first shared.StepRecord) bool {
		behind := first.Step == shared.StepNotify && r.Step != shared.StepNotify && !m.ungated[e.Event.Sequence]
		return !first.Outcome.Settles() && (behind || slices.Contains(m.after[e.Event.Sequence][r.Step], first.Step))
	})
}

// live lists the events that were not forgotten.
func (m *model) live() (list []*shared.LedgerEntry) {
	for _, e := range m.entries {
		if !m.gone[e.Event.Sequence] {
			list = append(list, e)
		}
	}
	return list
}

// index adds a message.
func (m *model) index(k [2]string, r *Record) {
	m.records[k] = r
	m.indexed++
	m.indexedAt[k] = m.indexed
}

// forget does one pass of the work of a request. waiting are messages with open steps.
func (m *model) forget(what shared.ForgetRequest) (sum Forgot, waiting int) {
	if _, underWay := m.underWay[what]; !underWay {
		m.underWay[what] = m.indexed
	}
	used := map[[2]string]bool{} // attachments of what is erased
	for k, r := range m.records {
		if r.Forgotten || !forgets(&what, &r.Message) || m.indexedAt[k] > m.underWay[what] {
			continue
		}
		naming := m.naming(&r.Message)
		if t := r.Tombstone; t != nil && m.isOpen(t.Sequence) || slices.ContainsFunc(naming, m.isOpen) {
			waiting++
			continue
		}
		for _, sequence := range naming {
			e := &m.entries[sequence-1].Event
			e.Related = slices.DeleteFunc(e.Related, func(r shared.Related) bool { return r.MessageID == k[1] })
			if len(e.Related) == 0 {
				e.Related = nil
			}
		}
		for _, other := range m.records {
			if other.Tombstone == nil && other.Message.Tenant == k[0] {
				replaceRelations(&other.Message, func(id string) bool { return id == k[1] })
			}
		}
		if t := r.Tombstone; t != nil {
			sum.Recalled++
			m.gone[t.Sequence] = true
			m.records[k] = forgottenRecord(k[0], k[1])
		} else {
			sum.Live++
			delete(m.records, k)
		}
		for _, attachment := range keysOf(r.Message.Attachments) {
			used[[2]string{k[0], attachment}] = true
		}
	}
	for k := range used {
		if !m.used(k[0], k[1], "") {
			delete(m.recalled, k)
		}
	}
	gone := func(id string) bool {
		r := m.records[[2]string{what.Tenant, id}]
		return id != shared.Forgotten && (r == nil || r.Forgotten)
	}
	for _, r := range m.records {
		if r.Tombstone == nil || r.Forgotten || r.Message.Tenant != what.Tenant ||
			!slices.ContainsFunc(r.Message.Relations, func(r shared.Relation) bool { return gone(r.MessageID) }) {
			continue
		}
		if m.isOpen(r.Tombstone.Sequence) {
			if !forgets(&what, &r.Message) {
				waiting++
			}
			continue
		}
		e := &m.entries[r.Tombstone.Sequence-1].Event
		if e.Cause != nil && gone(e.Cause.MessageID) {
			e.Cause = &shared.Relation{Kind: e.Cause.Kind, MessageID: shared.Forgotten}
		}
		replaceRelations(&r.Message, gone)
		e.Message = r.Message
	}
	for k, w := range m.waiting {
		of := w.Actor.ID == what.Sender
		if what.Sender == "" {
			of = forgets(&what, &shared.Message{Tenant: k[0], Conversation: w.Conversation, SentAt: w.RequestedAt})
		}
		switch {
		case !of || k[0] != what.Tenant:
		case w.State == shared.WaitWaiting:
			waiting++
		default:
			delete(m.waiting, k)
		}
	}
	if sum.Done = waiting == 0; sum.Done {
		delete(m.underWay, what)
	}
	return sum, waiting
}

// isOpen tells whether an event still needs its messages.
func (m *model) isOpen(sequence uint64) bool {
	open := func(s shared.StepRecord) bool { return !s.Outcome.Settles() }
	return m.unfinished[sequence] || slices.ContainsFunc(m.entries[sequence-1].Steps, open)
}

// naming lists the events that name a message as related to theirs.
func (m *model) naming(of *shared.Message) (sequences []uint64) {
	for _, r := range of.Relations {
		to := m.records[[2]string{of.Tenant, r.MessageID}]
		if to == nil || to.Tombstone == nil || to.Forgotten {
			continue
		}
		related := m.entries[to.Tombstone.Sequence-1].Event.Related
		if slices.ContainsFunc(related, func(r shared.Related) bool { return r.MessageID == of.ID }) {
			sequences = append(sequences, to.Tombstone.Sequence)
		}
	}
	return sequences
}

func replaceRelations(m *shared.Message, gone func(id string) bool) {
	list := slices.Clone(m.Relations)
	for i := range list {
		if gone(list[i].MessageID) {
			list[i].MessageID = shared.Forgotten
		}
	}
	m.Relations = sortedRelations(list)
}

// randomForget is a request to forget that several messages match.
func randomForget(r *rand.Rand) shared.ForgetRequest {
	what := shared.ForgetRequest{Tenant: []string{"a", "a", "a/b"}[r.IntN(3)]}
	switch r.IntN(8) {
	case 0:
		what.Sender = "ann"
	case 1:
		what.Before = start.Add(time.Second)
	default:
		what.Conversation = shared.Conversation{Type: shared.ConversationGroup, ID: []string{"g", "g/1"}[r.IntN(2)]}
	}
	return what
}

func (m *model) apply(op Op) Result {
	switch {
	case op.Put != nil:
		k := [2]string{op.Put.Tenant, op.Put.ID}
		r := m.records[k]
		switch {
		case r == nil:
			var recalls *Recall
			for i := range op.waited() {
				switch d := &op.Judged.Waited[i]; {
				case d.End != nil:
					m.endWait(d.End)
				default:
					recalls = d.Recall
					delete(m.waiting, [3]string{k[0], k[1], d.RecallID})
				}
			}
			if recalls != nil {
				if r := m.apply(Op{Recall: recalls}); !r.New {
					panic("a recall that waited")
				}
				return Result{Put: shared.IndexRecalled, New: true}
			}
			m.index(k, &Record{Message: normal(*op.Put)})
			return m.late(m.records[k], op.late())
		case r.Tombstone != nil:
			return Result{Put: shared.IndexRecalled}
		case !reflect.DeepEqual(r.Message, normal(*op.Put)):
			return Result{Put: shared.IndexConflict}
		}
		return Result{Put: shared.IndexUnchanged, Related: m.relatedTo(&r.Message)}
	case op.Amend != nil:
		a := op.Amend
		r := m.records[[2]string{a.Tenant, a.MessageID}]
		switch {
		case r == nil:
			return Result{Put: shared.IndexNotFound}
		case r.Tombstone != nil:
			return Result{Put: shared.IndexRecalled}
		}
		changed := r.Message
		if a.Conversation != nil {
			changed.Conversation = *a.Conversation
		}
		if a.Attachments != nil {
			changed.Attachments = a.Attachments
		}
		if a.Labels != nil {
			changed.Labels = a.Labels
		}
		if a.Ref != nil {
			changed.Ref = *a.Ref
		}
		if changed = normal(changed); reflect.DeepEqual(changed, r.Message) {
			return Result{Put: shared.IndexUnchanged}
		}
		r.Message = changed
		return Result{Put: shared.IndexAmended}
	case op.Wait != nil:
		w := *op.Wait
		k := [3]string{w.Tenant, w.MessageID, w.RecallID}
		if r := m.records[[2]string{w.Tenant, w.MessageID}]; r != nil &&
			(r.Forgotten || r.Message.Conversation == w.Conversation) {
			return Result{Stale: true}
		}
		if was := m.waiting[k]; was != nil && was.State == shared.WaitWaiting {
			if was.Until.Before(w.Until) {
				was.Until = w.Until
			}
			return Result{New: true}
		}
		if len(m.waitsFor(w.Tenant, w.MessageID, nil)) >= shared.MaxIDWaits {
			return Result{Full: true}
		}
		m.waiting[k] = &w
		return Result{New: true}
	case op.EndWait != nil:
		m.endWait(op.EndWait)
		return Result{}
	case op.Recall != nil:
		if op.Recall.Known && m.records[[2]string{op.Recall.Event.Tenant, op.Recall.Event.Message.ID}] == nil {
			return Result{Stale: true}
		}
		e := op.Recall.Event
		k := [2]string{e.Tenant, e.Message.ID}
		r := m.records[k]
		if r == nil {
			r = &Record{Message: normal(e.Message)}
			m.index(k, r)
		}
		if r.Tombstone != nil {
			return Result{Tombstone: r.Tombstone}
		}
		if !reflect.DeepEqual(r.Message, normal(e.Message)) {
			return Result{Stale: true}
		}
		for _, w := range m.waitsFor(e.Tenant, e.Message.ID, &e.Message.Conversation) {
			delete(m.waiting, [3]string{w.Tenant, w.MessageID, w.RecallID})
		}
		plan := eventPlan{op.Recall.Steps, op.Recall.Unsupported, op.Recall.After, op.Recall.Cascade}
		m.recall(e, r, plan, op.Recall.With)
		for i := range op.Recall.With {
			m.recallWith(e, &op.Recall.With[i], plan, op.Recall.With)
		}
		return Result{Tombstone: r.Tombstone, New: true}
	case op.Cascade != nil:
		n := op.Cascade.Sequence
		if !m.unfinished[n] {
			return Result{}
		}
		delete(m.unfinished, n)
		for i := range op.Cascade.With {
			m.recallWith(m.entries[n-1].Event, &op.Cascade.With[i], m.planOf(n), op.Cascade.With)
		}
		return Result{New: true}
	case op.Ungate != nil:
		if n := op.Ungate.Sequence; n <= uint64(len(m.entries)) {
			m.ungated[n] = true
		}
		return Result{}
	default:
		s := op.Settle
		rec, at := m.step(s), fmt.Sprint(s.Step, s.Sequence)
		switch {
		case rec.Outcome.Settles():
		case s.Outcome.Settles():
			if s.Attempt == 0 || s.Attempt > rec.Attempts {
				rec.Attempts++
			}
			rec.Outcome, rec.ChangedAt = s.Outcome, s.At
		case s.Attempt == rec.Attempts+1:
			m.failures++
			m.positions[at] = m.failures
			rec.Attempts++
			rec.Outcome, rec.ChangedAt, rec.Error = s.Outcome, s.At, s.Error
		}
		if rec.Outcome.Settles() {
			return Result{}
		}
		return Result{Step: StepState{Open: true, Attempts: rec.Attempts, Position: m.positions[at]}}
	}
}

func (m *model) endWait(e *EndWait) {
	k := [3]string{e.Tenant, e.MessageID, e.RecallID}
	switch w := m.waiting[k]; {
	case w == nil:
	case e.State == "" && e.At == 0:
		delete(m.waiting, k)
	case e.State == "":
		if w.State != shared.WaitWaiting && !w.EndedAt.After(decodeTime(e.At)) {
			delete(m.waiting, k)
		}
	case e.State == shared.WaitExpired && w.Until.After(decodeTime(e.At)):
	case w.State == shared.WaitWaiting:
		w.State, w.Code, w.Rule, w.EndedAt = e.State, e.Code, e.Rule, decodeTime(e.At)
	}
}

// waitsFor lists what waits for a message in a conversation, or in any, in the order of the requests.
func (m *model) waitsFor(tenant, id string, in *shared.Conversation) (list []shared.Waiting) {
	for _, w := range m.waiting {
		if w.Tenant == tenant && w.MessageID == id && w.State == shared.WaitWaiting && (in == nil || *in == w.Conversation) {
			list = append(list, *w)
		}
	}
	slices.SortFunc(list, func(a, b shared.Waiting) int {
		return cmp.Or(a.RequestedAt.Compare(b.RequestedAt), strings.Compare(a.RecallID, b.RecallID))
	})
	return list
}

// judgeWaits decides at random about what waits for a message.
func judgeWaits(r *rand.Rand, put *shared.Message, waits []shared.Waiting) (list []Waited) {
	permitted := false
	for i := range waits {
		w := &waits[i]
		d := Waited{RecallID: w.RecallID, RequestedAt: w.RequestedAt.UnixMicro()}
		switch {
		case permitted:
			d.End = &EndWait{Tenant: w.Tenant, MessageID: w.MessageID, RecallID: w.RecallID}
		case r.IntN(2) == 0:
			d.Recall, permitted = recall(w.RecallID, *put).Recall, true
		default:
			d.End = &EndWait{Tenant: w.Tenant, MessageID: w.MessageID, RecallID: w.RecallID, State: shared.WaitRefused,
				Code: shared.CodeForbidden, Rule: shared.Rule{Name: "no", File: "f", Line: 2}, At: start.UnixMicro()}
		}
		list = append(list, d)
	}
	return list
}

// eventPlan is what the recalls of one decision share.
type eventPlan struct {
	steps, unsupported []string
	after              map[string][]string
	cascade            Kinds
}

func (m *model) planOf(sequence uint64) eventPlan {
	var steps []string
	for _, s := range m.entries[sequence-1].Steps {
		steps = append(steps, s.Step)
	}
	return eventPlan{steps, m.unsupported[sequence], m.after[sequence], m.cascade[sequence]}
}

// recall recalls the message of a record by an event. Those of with that stay and relate to it are in the event.
func (m *model) recall(e shared.Event, r *Record, plan eventPlan, with []With) {
	e.Message, e.Sequence = r.Message, uint64(len(m.entries)+1)
	e.Attachments = m.release(&r.Message)
	e.Related, e.MoreRelated = nil, false
	for i := range with {
		if w := &with[i]; w.Stays && w.To == r.Message.ID {
			e.Related = append(e.Related, w.related())
		}
	}
	r.Tombstone = &Tombstone{
		RecallID: e.RecallID, RecalledBy: e.Actor.ID, Role: e.Role, RecalledAt: e.RecalledAt, Sequence: e.Sequence,
		Cascade: plan.cascade,
	}
	entry := &shared.LedgerEntry{Event: e, Steps: []shared.StepRecord{}}
	for _, s := range plan.steps {
		rec := shared.StepRecord{Step: s}
		if slices.Contains(plan.unsupported, s) {
			rec.Outcome, rec.ChangedAt = shared.OutcomeUnsupported, e.RecalledAt
		} else if s == shared.StepAttachments && len(e.Attachments) == 0 {
			rec.Outcome, rec.ChangedAt = shared.OutcomeNothingToDo, e.RecalledAt
		}
		entry.Steps = append(entry.Steps, rec)
	}
	m.entries = append(m.entries, entry)
	m.after[e.Sequence], m.unsupported[e.Sequence], m.cascade[e.Sequence] = plan.after, plan.unsupported, plan.cascade
}

func (m *model) recallWith(e shared.Event, w *With, plan eventPlan, with []With) {
	if !w.Stays {
		e.Cause = &shared.Relation{Kind: w.Kind, MessageID: w.To}
		m.recall(e, m.records[[2]string{e.Tenant, w.Message.ID}], plan, with)
	}
}

// late is the result of a new message. It is recalled if it relates to a recalled one with which it goes.
func (m *model) late(r *Record, late *Late) Result {
	for _, relation := range r.Message.Relations {
		root := m.records[[2]string{r.Message.Tenant, relation.MessageID}]
		stays := late != nil && len(late.Stays) > 0
		if stays || root == nil || root.Tombstone == nil || root.Forgotten || !root.Tombstone.Cascade.has(relation.Kind) {
			continue
		}
		w := With{Kind: relation.Kind, To: relation.MessageID, Message: r.Message}
		m.recallWith(m.entries[root.Tombstone.Sequence-1].Event, &w, m.planOf(root.Tombstone.Sequence), nil)
		for _, other := range m.records {
			if other.Tombstone == nil && other.Message.Tenant == r.Message.Tenant && relates(&other.Message, r.Message.ID) {
				m.unfinished[uint64(len(m.entries))] = true
				m.entries[len(m.entries)-1].Event.MoreRelated = true
			}
		}
		return Result{Put: shared.IndexRecalled}
	}
	return Result{Put: shared.IndexAdded, Related: m.relatedTo(&r.Message)}
}

func relates(m *shared.Message, id string) bool {
	return slices.ContainsFunc(m.Relations, func(r shared.Relation) bool { return r.MessageID == id })
}

// relatedTo lists the recalled messages that a message relates to.
func (m *model) relatedTo(of *shared.Message) (list []shared.Related) {
	for _, r := range of.Relations {
		if to := m.records[[2]string{of.Tenant, r.MessageID}]; to != nil && to.Tombstone != nil {
			list = append(list, shared.Related{
				Kind: r.Kind, MessageID: r.MessageID, Conversation: to.Message.Conversation, Ref: to.Message.Ref,
			})
		}
	}
	return list
}

// check checks that with is what relates to a message: whoever goes by an edit or a kind of cascade, and is not held,
// goes, and with it what relates to it. held says who stays whatever its kind is.
func (m *model) check(t *testing.T, tenant, root string, cascade Kinds, with []With, held func(string) bool) {
	t.Helper()
	going := map[string]bool{root: true}
	for grown := true; grown; {
		grown = false
		for k, r := range m.records {
			if k[0] != tenant || going[k[1]] || r.Tombstone != nil || held(k[1]) {
				continue
			}
			for _, relation := range r.Message.Relations {
				if going[relation.MessageID] && cascade.has(relation.Kind) {
					going[k[1]], grown = true, true
				}
			}
		}
	}
	want := map[string]bool{} // whether each stays
	for k, r := range m.records {
		if k[0] != tenant || k[1] == root || r.Tombstone != nil {
			continue
		}
		for _, relation := range r.Message.Relations {
			if going[relation.MessageID] {
				want[k[1]] = !going[k[1]]
			}
		}
	}
	got := map[string]bool{}
	for i := range with {
		got[with[i].Message.ID] = with[i].Stays
	}
	if !reflect.DeepEqual(got, want) || len(with) != len(want) {
		t.Fatalf("related to %s %s are %v, want %v", tenant, root, got, want)
	}
}

// release lists the attachments of a message that its recall releases.
func (m *model) release(message *shared.Message) (released []shared.Attachment) {
	free := map[string]bool{}
	for _, a := range message.Attachments {
		k := [2]string{message.Tenant, a.Key}
		if a.Owner == "" { // the sender's
			m.recalled[k] = true
		}
		free[a.Key] = m.recalled[k] && !m.used(message.Tenant, a.Key, message.ID)
	}
	for _, a := range message.Attachments {
		if free[a.Key] {
			released = append(released, a)
			delete(m.recalled, [2]string{message.Tenant, a.Key})
		}
	}
	return released
}

// used tells whether another live message uses an attachment.
func (m *model) used(tenant, attachment, but string) bool {
	for k, r := range m.records {
		if k[0] == tenant && k[1] != but && r.Tombstone == nil && slices.Contains(keysOf(r.Message.Attachments), attachment) {
			return true
		}
	}
	return false
}

// open lists the entries of which a step may be delivered: those in the step queue, then those that back off.
func (m *model) open(step string) (list []*shared.LedgerEntry) {
	attempts := map[*shared.LedgerEntry]int{}
	for _, e := range m.live() {
		for i := range e.Steps {
			if r := &e.Steps[i]; r.Step == step && !r.Outcome.Settles() && !m.waits(e, r) {
				list, attempts[e] = append(list, e), r.Attempts
			}
		}
	}
	position := func(e *shared.LedgerEntry) uint64 { return m.positions[fmt.Sprint(step, e.Event.Sequence)] }
	slices.SortFunc(list, func(a, b *shared.LedgerEntry) int {
		return cmp.Or(cmp.Compare(min(attempts[a], BackoffLevels), min(attempts[b], BackoffLevels)),
			cmp.Compare(position(a), position(b)), cmp.Compare(a.Event.Sequence, b.Event.Sequence))
	})
	return list
}

// randomOp draws from few names, so that operations meet.
func randomOp(r *rand.Rand, recalls int) Op {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	m := message(fmt.Sprint("m", r.IntN(90)))
	m.Tenant = pick("a", "a", "a/b")
	m.Conversation = shared.Conversation{Type: shared.ConversationGroup, ID: pick("g", "g/1")}
	for range r.IntN(3) {
		m.Attachments = append(m.Attachments, shared.Attachment{
			Key: pick("f1", "f2", "f3", "f1/x"), Owner: pick("", "", "ann", "zoe"),
		})
	}
	for range max(r.IntN(5)-2, 0) {
		kind := pick("edit", "quote", "forward", "reply", "thread")
		relation := shared.Relation{Kind: shared.RelationKind(kind), MessageID: fmt.Sprint("m", r.IntN(60))}
		if relation.MessageID != m.ID {
			m.Relations = append(m.Relations, relation)
		}
	}
	steps := slices.Concat(shared.StandardSteps(), []string{"own"})
	switch n := r.IntN(14); {
	case n < 4:
		return put(m)
	case n == 12:
		return Op{Wait: &shared.Waiting{
			Tenant: m.Tenant, MessageID: fmt.Sprint("m", r.IntN(90)), RecallID: fmt.Sprint("w", r.IntN(30)),
			Actor: shared.Actor{ID: m.Sender, Labels: []string{"l"}}, Role: shared.RoleMember, Conversation: m.Conversation,
			Ext: "ext", RequestedAt: start.Add(time.Duration(r.IntN(4)) * time.Second),
			Until: start.Add(time.Duration(1+r.IntN(9)) * time.Hour), State: shared.WaitWaiting,
		}}
	case n == 13:
		return Op{EndWait: &EndWait{
			Tenant: m.Tenant, MessageID: fmt.Sprint("m", r.IntN(90)), RecallID: fmt.Sprint("w", r.IntN(30)),
			State: shared.WaitState(pick("", "expired", "refused")),
			At:    start.Add(time.Duration(r.IntN(9)) * time.Hour).UnixMicro(),
		}}
	case n >= 10:
		a := &shared.Amendment{Tenant: m.Tenant, MessageID: m.ID}
		if r.IntN(2) == 0 {
			a.Attachments = append([]shared.Attachment{}, m.Attachments...)
		}
		if r.IntN(2) == 0 {
			a.Labels = []string{pick("a", "b"), pick("b", "c")}[:r.IntN(3)]
		}
		if r.IntN(2) == 0 {
			a.Conversation = &m.Conversation
		}
		if r.IntN(2) == 0 {
			ref := pick("", "row 7")
			a.Ref = &ref
		}
		return Op{Amend: a}
	case n < 6:
		op := recall(fmt.Sprint("r", r.IntN(20)), m)
		op.Recall.Steps, op.Recall.Unsupported, op.Recall.Known = nil, nil, r.IntN(3) == 0
		op.Recall.Cascade = KindsOf(
			shared.RelationKind(pick("quote", "forward")),
			shared.RelationKind(pick("quote", "thread")),
		)
		for _, s := range steps {
			if r.IntN(3) > 0 {
				op.Recall.Steps = append(op.Recall.Steps, s)
			}
			if r.IntN(5) == 0 {
				op.Recall.Unsupported = append(op.Recall.Unsupported, s)
			}
		}
		if r.IntN(2) == 0 {
			op.Recall.After = randomAfter(r, steps)
		}
		if r.IntN(2) == 0 {
			at := time.Duration(r.IntN(1000))
			op.Recall.Spend = spend(start.Add(at*time.Second), time.Duration(1+r.IntN(300))*time.Second)
		}
		return op
	}
	sequence := uint64(r.IntN(recalls + 2))
	if r.IntN(8) == 0 {
		return Op{Ungate: &Ungate{Sequence: sequence}}
	}
	outcomes := []shared.Outcome{
		shared.OutcomeDone, shared.OutcomeNothingToDo, shared.OutcomeUnsupported, shared.OutcomeFailed,
	}
	op := settle(sequence, pick(append(steps, shared.StepNotify, shared.StepNotify)...), outcomes[max(0, r.IntN(9)-5)])
	op.Settle.Attempt = r.IntN(5)
	op.Settle.At = start.Add(time.Duration(r.IntN(1000)) * time.Second)
	if op.Settle.Outcome == shared.OutcomeFailed {
		op.Settle.Attempt++
		op.Settle.Error = pick("disk", "net")
	}
	return op
}

// randomAfter puts each step on one of three levels, after all steps of the levels below.
func randomAfter(r *rand.Rand, steps []string) map[string][]string {
	var levels [3][]string
	for _, s := range steps {
		n := r.IntN(3)
		if s == shared.StepNotify {
			n = 0
		}
		levels[n] = append(levels[n], s)
	}
	after := map[string][]string{}
	for n, below := range [][]string{levels[0], slices.Concat(levels[0], levels[1])} {
		for _, s := range levels[n+1] {
			after[s] = below
		}
	}
	return after
}

func TestModel(t *testing.T) { testModel(t, nil) }

// A cluster of one node does what a single machine does.
func TestModel_OneNode(t *testing.T) {
	steps := append(shared.StandardSteps(), "own")
	t.Run("steps of one node", func(t *testing.T) { testModel(t, &Member{Steps: steps}) })
	t.Run("steps of every node", func(t *testing.T) { testModel(t, &Member{EachNode: steps}) })
}

// testModel applies random operations to an index, that of a member of a cluster unless it is nil.
func testModel(t *testing.T, member *Member) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	path := t.TempDir()
	open := func() *Index {
		x := openAt(t, path)
		if member != nil {
			if err := x.Follow(t.Context(), "log", "n0"); err != nil {
				t.Fatal(err)
			}
		}
		return x
	}
	x := open()
	if member != nil {
		member.Node, member.Instance, member.Format = "n0", "a", 1
		if r := apply(t, x, Op{Join: &Join{Member: *member}}); !r[0].New {
			t.Fatalf("join: %+v", r)
		}
	}
	m := newModel()
	held := func(id string) bool { return strings.HasSuffix(id, "7") } // a forbid of the rules matches it
	var ops []Op
	var wants []Result
	commit := func(round int) { // each operation twice, in one call
		var twice []Op
		for _, op := range ops {
			twice = append(twice, op, op)
		}
		results := apply(t, x, twice...)
		for i, want := range wants {
			if !reflect.DeepEqual(results[2*i], want) {
				t.Fatalf("round %d, operation %d %+v: %+v, want %+v", round, i, ops[i], results[2*i], want)
			}
		}
		ops, wants = nil, nil
		for x.HasOpenCascades() {
			open, err := x.OpenCascades(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			cascade, err := x.FindCascade(open[0], func(_ *shared.Event, m *shared.Message) bool { return held(m.ID) })
			if err != nil {
				t.Fatal(err)
			}
			e := m.entries[cascade.Sequence-1].Event
			m.check(t, e.Tenant, e.Message.ID, m.cascade[cascade.Sequence], cascade.With, held)
			op := Op{Cascade: cascade}
			if got, want := apply(t, x, op, op), m.apply(op); !reflect.DeepEqual(got, []Result{want, {}}) {
				t.Fatalf("round %d, %+v: %+v, want %+v", round, op, got, want)
			}
		}
		if len(m.unfinished) > 0 {
			t.Fatalf("round %d: no open cascades of %v", round, m.unfinished)
		}
	}
	for round := range 120 {
		if r.IntN(4) == 0 {
			what := randomForget(r)
			beginForget(t, x, what)
			want, waiting := m.forget(what)
			got, work := passForget(t, x, what)
			want.Found, want.Replaced, want.End = true, got.Replaced, got.End
			if got.Dealt > 0 || got != want || work.Waiting != waiting {
				t.Fatalf("round %d, forget %+v: %+v, want %+v; %+v", round, what, got, want, work)
			}
		}
		var all []Op
		for range 1 + r.IntN(30) {
			op := randomOp(r, len(m.entries))
			if e := op.Recall; e != nil {
				known := m.records[[2]string{e.Event.Tenant, e.Event.Message.ID}]
				if known != nil && !known.Forgotten && r.IntN(4) > 0 {
					e.Event.Message = known.Message // else, if other facts were judged, it is stale
				}
				commit(round) // what relates to it is what was applied before its call
				with, err := x.FindRelated(e, nil, func(m *shared.Message) bool { return held(m.ID) })
				if err != nil {
					t.Fatal(err)
				}
				m.check(t, e.Event.Tenant, e.Event.Message.ID, e.Cascade, with, held)
				e.With = with
				if _, e.Originals, err = x.EditFacts(e.Event.Message); err != nil {
					t.Fatal(err)
				}
			}
			if p := op.Put; p != nil && m.records[[2]string{p.Tenant, p.ID}] == nil {
				commit(round) // what waits for it is what was applied before its call
				waits, err := x.WaitsFor(p)
				if want := m.waitsFor(p.Tenant, p.ID, &p.Conversation); err != nil || !reflect.DeepEqual(waits, want) {
					t.Fatalf("round %d: %+v waits for %s %s, %v; want %+v", round, waits, p.Tenant, p.ID, err, want)
				}
				op.Judged = &Judged{}
				if len(p.Relations) > 0 {
					stays := func(*shared.Event, *shared.Message) bool { return held(p.ID) }
					if op.Judged.Late, err = x.FindLate(p, stays); err != nil {
						t.Fatal(err)
					}
				}
				op.Judged.Waited = judgeWaits(r, p, waits)
				for i := range op.waited() {
					if recall := op.Judged.Waited[i].Recall; recall != nil {
						if _, recall.Originals, err = x.EditFacts(*p); err != nil {
							t.Fatal(err)
						}
						if recall.With, err = x.FindRelated(recall, nil, func(m *shared.Message) bool { return held(m.ID) }); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			if op.Settle != nil {
				commit(round) // a settlement is refused by what was applied before its call
				if m.step(op.Settle) == nil {
					if _, err := x.Append(t.Context(), []Op{op}); !errors.Is(err, shared.ErrInvalid) {
						t.Fatalf("round %d: %+v is not refused: %v", round, op.Settle, err)
					}
					continue
				}
			}
			all, ops, wants = append(all, op), append(ops, op), append(wants, m.apply(op))
		}
		commit(round)
		if round%40 == 20 {
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			x = open()
		}
		if round%40 == 30 && member == nil { // it becomes a cluster, and a single machine again
			nodes := clusterOf(t, x, 1)
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			path, _ = toSingle(t, nodes.indexes[0])
			x = open()
		}
		if round%10 == 0 {
			m.compare(t, x)
		}
		// Operations that are decided once and applied again change nothing. (What was drawn at random may be too early in
		// it: a failure is the next by now, and there is an event to ungate. Facts that were amended twice, or judged too
		// late, may be others by now.)
		for _, op := range all {
			if op.Settle != nil && op.Settle.Outcome == shared.OutcomeFailed || op.Ungate != nil || op.Amend != nil ||
				op.Recall != nil || op.Wait != nil || op.EndWait != nil {
				continue
			}
			if res := apply(t, x, op)[0]; res.New || res.Put == shared.IndexAdded {
				t.Fatalf("round %d: %+v again: %+v", round, op, res)
			}
		}
	}
	m.compare(t, x)
	if member != nil {
		single, _ := toSingle(t, x)
		m.compare(t, openAt(t, single))
	}
}

// withoutNodes is a page without the names of nodes, which the model does not have.
func withoutNodes(page shared.LedgerPage) shared.LedgerPage {
	for i := range page.Entries {
		for k := range page.Entries[i].Steps {
			page.Entries[i].Steps[k].Node = ""
		}
	}
	return page
}

func (m *model) compare(t *testing.T, x *Index) {
	t.Helper()
	for k, want := range m.records {
		if got, err := x.Messages(k[0], []string{k[1]}); err != nil || !reflect.DeepEqual(got[0], want) {
			t.Fatalf("%v: %+v %v, want %+v", k, got, err, want)
		}
	}
	listed := map[[2]string]int{}
	for _, in := range grouped(t, x) {
		listed[[2]string{in.tenant, in.id}]++
		r := m.records[[2]string{in.tenant, in.id}]
		if r == nil || in.sender != senderSum(r.Message.Sender) || in.sentAt != r.Message.SentAt.UnixMilli() {
			t.Fatalf("a group has %+v of %+v", in, r)
		}
	}
	for k, r := range m.records {
		if listed[k] != 1 && !r.Forgotten {
			t.Fatalf("%v is in %d groups", k, listed[k])
		}
	}
	for _, tenant := range []string{"a", "a/b"} {
		var want []shared.Waiting
		for _, w := range m.waiting {
			if w.Tenant == tenant {
				want = append(want, *w)
			}
		}
		slices.SortFunc(want, func(a, b shared.Waiting) int {
			return cmp.Or(strings.Compare(a.MessageID, b.MessageID), strings.Compare(a.RecallID, b.RecallID))
		})
		var got []shared.Waiting
		req := shared.WaitsRequest{Tenant: tenant, Limit: 7}
		for more := true; more; {
			page, err := x.Waits(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			got, req.After, more = append(got, page.Waits...), page.Next, page.More
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("waits of %s\n%+v\nwant\n%+v", tenant, got, want)
		}
	}
	ledgers := map[[2]string]shared.LedgerPage{}
	for _, e := range m.live() {
		k := [2]string{e.Event.Tenant, e.Event.RecallID}
		l := ledgers[k]
		l.Entries = append(l.Entries, *e)
		ledgers[k] = l
	}
	for k, want := range ledgers {
		if got := withoutNodes(ledger(t, x, k[0], k[1])); !reflect.DeepEqual(got, want) {
			t.Fatalf("ledger %v\n%+v\nwant\n%+v", k, got, want)
		}
	}
	for _, step := range append(shared.StandardSteps(), "own") {
		var want []uint64
		for _, e := range m.open(step) {
			want = append(want, e.Event.Sequence)
			want := shared.LedgerEntry{Event: e.Event, Steps: slices.Clone(e.Steps)}
			want.Steps = slices.DeleteFunc(want.Steps, func(r shared.StepRecord) bool { return r.Step != step })
			got, err := x.Entry(e.Event.Sequence, step)
			if got != nil {
				got.Steps[0].Node = ""
			}
			if err != nil || !reflect.DeepEqual(*got, want) {
				t.Fatalf("entry %d of %s: %+v %v, want %+v", e.Event.Sequence, step, got, err, want)
			}
		}
		if got := queued(t, x, step); !slices.Equal(got, want) {
			t.Fatalf("open %s: %v, want %v", step, got, want)
		}
	}
	counts := map[string]int{}
	for _, e := range m.live() {
		for _, r := range e.Steps {
			if !r.Outcome.Settles() {
				counts[r.Step]++
			}
			if m.waits(e, &r) {
				if got, err := x.Entry(e.Event.Sequence, r.Step); err != nil || got != nil {
					t.Fatalf("entry %d of %s, which waits: %+v %v", e.Event.Sequence, r.Step, got, err)
				}
			}
		}
	}
	delete(counts, shared.StepHistory)
	if got, err := x.CountOpen(t.Context(), []string{shared.StepHistory}); err != nil || !reflect.DeepEqual(got, counts) {
		t.Fatalf("open steps %v %v, want %v", got, err, counts)
	}
	m.compareList(t, x)
	for _, tenant := range []string{"a", "a/b"} {
		for _, id := range []string{"g", "g/1"} {
			c := shared.Conversation{Type: shared.ConversationGroup, ID: id}
			var want []uint64
			for _, e := range m.live() {
				if e.Event.Tenant == tenant && e.Event.Message.Conversation == c {
					want = append(want, e.Event.Sequence)
				}
			}
			page, err := x.Since(t.Context(), shared.SinceRequest{Tenant: tenant, Conversations: []shared.Conversation{c}})
			if err != nil || !slices.Equal(sequences(page.Events), want) || page.Next != x.cursorOf(uint64(len(m.entries))) {
				t.Fatalf("since of %s %s: %+v %v, want %v", tenant, id, page, err, want)
			}
		}
	}
}

// compareList compares some requests of List, in pages of three.
func (m *model) compareList(t *testing.T, x *Index) {
	t.Helper()
	open := func(r shared.StepRecord) bool { return !r.Outcome.Settles() }
	failed := func(r shared.StepRecord) bool { return r.Outcome == shared.OutcomeFailed }
	inGroup := shared.Conversation{Type: shared.ConversationGroup, ID: "g/1"}
	for _, tenant := range []string{"a", "a/b"} {
		for _, req := range []shared.ListRequest{
			{}, {Steps: shared.StepsOpen}, {Steps: shared.StepsFailed}, {Conversation: inGroup},
			{Conversation: inGroup, Steps: shared.StepsFailed},
		} {
			var want []shared.Event
			for _, e := range slices.Backward(m.live()) {
				if e.Event.Tenant == tenant &&
					(req.Conversation == shared.Conversation{} || e.Event.Message.Conversation == req.Conversation) &&
					(req.Steps != shared.StepsOpen || slices.ContainsFunc(e.Steps, open)) &&
					(req.Steps != shared.StepsFailed || slices.ContainsFunc(e.Steps, failed)) {
					want = append(want, e.Event)
				}
			}
			req.Tenant, req.Limit = tenant, 3
			if got := list(t, x, req); !reflect.DeepEqual(got, want) {
				t.Fatalf("list %+v\n%v\nwant\n%v", req, sequences(got), sequences(want))
			}
		}
	}
}
