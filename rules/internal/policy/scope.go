package policy

// Scope limits the requests that a rule applies to. An empty part matches everything.
type Scope struct {
	Tenants       map[string]bool
	Conversations Set
	Types         Set
	Roles         Set
	DefaultRoles  bool // Roles is the default, since the rule names none
	Sender        SenderScope
}

// SenderScope limits a rule by whether the actor sent the message.
type SenderScope uint8

// Scopes by sender.
const (
	SenderAnybody SenderScope = iota
	SenderOnly                // the actor sent it
	SenderOthers              // somebody else did
)

// Subject is an [Input] with its words looked up once.
type Subject struct {
	In           *Input
	Conversation Set
	Type         Set
	Role         Set
	IsSender     bool
}

// Holds reports whether t is in the scope.
func (s *Scope) Holds(t *Subject) bool {
	return (s.Conversations == 0 || s.Conversations&t.Conversation != 0) &&
		(s.Types == 0 || s.Types&t.Type != 0) &&
		(s.Roles == 0 || s.Roles&t.Role != 0) &&
		(s.Sender == SenderAnybody || (s.Sender == SenderOnly) == t.IsSender) &&
		(s.Tenants == nil || s.Tenants[t.In.Tenant])
}

// SubjectOf looks up the words of an input. It returns false if one of them is unknown.
func SubjectOf(in *Input) (Subject, bool) {
	t := Subject{
		In:           in,
		Conversation: ConversationTypes.Bit(in.ConversationType),
		Type:         MessageTypes.Bit(in.MessageType),
		Role:         Roles.Bit(in.Role()),
		IsSender:     in.IsSender(),
	}
	return t, t.Conversation != 0 && t.Type != 0 && t.Role != 0
}
