package rules

// scope is what a rule is about. An empty part is about all.
type scope struct {
	tenants       map[string]bool
	conversations set
	types         set
	roles         set
	defaultRoles  bool // the rule names no roles
	sender        senderScope
}

type senderScope uint8

const (
	anybody senderScope = iota
	senderOnly
	othersOnly
)

// subject is an input with its words looked up once.
type subject struct {
	in           *Input
	conversation set
	typ          set
	role         set
	isSender     bool
}

func (s *scope) holds(t *subject) bool {
	return (s.conversations == 0 || s.conversations&t.conversation != 0) &&
		(s.types == 0 || s.types&t.typ != 0) &&
		(s.roles == 0 || s.roles&t.role != 0) &&
		(s.sender == anybody || (s.sender == senderOnly) == t.isSender) &&
		(s.tenants == nil || s.tenants[t.in.Tenant])
}

// subjectOf looks up the words of an input. It is false if one of them is no word that there is.
func subjectOf(in *Input) (subject, bool) {
	t := subject{
		in:           in,
		conversation: conversationWords.bit(in.ConversationType),
		typ:          typeWords.bit(in.MessageType),
		role:         roleWords.bit(in.role()),
		isSender:     in.isSender(),
	}
	return t, t.conversation != 0 && t.typ != 0 && t.role != 0
}
