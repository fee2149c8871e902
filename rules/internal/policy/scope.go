package policy

// Scope is what a rule is about. An empty part is about all.
type Scope struct {
	Tenants       map[string]bool
	Conversations Set
	Types         Set
	Roles         Set
	DefaultRoles  bool // the rule names no roles
	Sender        senderScope
}

type senderScope uint8

const (
	SenderAnybody senderScope = iota
	SenderOnly
	SenderOthers
)

// Subject is an input with its words looked up once.
type Subject struct {
	In           *Input
	Conversation Set
	Typ          Set
	Role         Set
	IsSender     bool
}

func (s *Scope) holds(t *Subject) bool {
	return (s.Conversations == 0 || s.Conversations&t.Conversation != 0) &&
		(s.Types == 0 || s.Types&t.Typ != 0) &&
		(s.Roles == 0 || s.Roles&t.Role != 0) &&
		(s.Sender == SenderAnybody || (s.Sender == SenderOnly) == t.IsSender) &&
		(s.Tenants == nil || s.Tenants[t.In.Tenant])
}

// SubjectOf looks up the words of an input. It is false if one of them is no word that there is.
func SubjectOf(in *Input) (Subject, bool) {
	t := Subject{
		In:           in,
		Conversation: ConversationTypes.Bit(in.ConversationType),
		Typ:          MessageTypes.Bit(in.MessageType),
		Role:         Roles.Bit(in.Role()),
		IsSender:     in.IsSender(),
	}
	return t, t.Conversation != 0 && t.Typ != 0 && t.Role != 0
}
