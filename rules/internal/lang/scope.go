package lang

import (
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/rules/internal/policy"
)

func (d *Decoder) scope(s *policy.Scope, body *hclsyntax.Body) {
	if a := body.Attributes["tenant"]; a != nil {
		items, _ := d.List(a)
		s.Tenants = make(map[string]bool, len(items))
		for _, i := range items {
			if i.Text == "" {
				d.Errorf(i.At, "", "a tenant cannot be empty")
			}
			s.Tenants[i.Text] = true
		}
	}
	if a := body.Attributes["conversation"]; a != nil {
		s.Conversations = d.words(a, policy.ConversationTypes)
	}
	if a := body.Attributes["type"]; a != nil {
		s.Types = d.words(a, policy.MessageTypes)
	}
	if a := body.Attributes["role"]; a != nil {
		s.Roles = d.words(a, policy.Roles)
	}
	if a := body.Attributes["sender"]; a != nil {
		s.Sender = policy.SenderOthers
		if yes, _ := d.Flag(a); yes {
			s.Sender = policy.SenderOnly
		}
	}
}
