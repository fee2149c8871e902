package rules

import "github.com/hashicorp/hcl/v2/hclsyntax"

func (d *decoder) scope(s *scope, body *hclsyntax.Body) {
	if a := body.Attributes["tenant"]; a != nil {
		items, _ := d.list(a)
		s.tenants = make(map[string]bool, len(items))
		for _, i := range items {
			if i.text == "" {
				d.Errorf(i.at, "", "a tenant is never empty")
			}
			s.tenants[i.text] = true
		}
	}
	if a := body.Attributes["conversation"]; a != nil {
		s.conversations = d.words(a, conversationWords)
	}
	if a := body.Attributes["type"]; a != nil {
		s.types = d.words(a, typeWords)
	}
	if a := body.Attributes["role"]; a != nil {
		s.roles = d.words(a, roleWords)
	}
	if a := body.Attributes["sender"]; a != nil {
		s.sender = othersOnly
		if yes, _ := d.flag(a); yes {
			s.sender = senderOnly
		}
	}
}
