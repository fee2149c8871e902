package shared

// Explanation says which rules decide about one target, and why. It takes no rate limit as exhausted.
type Explanation struct {
	MessageID string         `json:"message_id"`
	Result    RecallResult   `json:"result"` // what Check answers, limits aside
	Shadow    *ShadowVerdict `json:"shadow,omitempty"`
	Rules     []RuleTrace    `json:"rules,omitempty"` // in the order of the files; none where no rule was asked
}

// ShadowVerdict is what the rules would decide if the shadow rules were in force, where that differs.
type ShadowVerdict struct {
	Permit bool `json:"permit"`
	Code   Code `json:"code,omitempty"` // of a refusal
	Rule   Rule `json:"rule"`
}

// RuleTrace is one rule and what of it holds.
type RuleTrace struct {
	Rule
	Kind       string          `json:"kind"` // "permit" or "forbid"
	Shadow     bool            `json:"shadow,omitempty"`
	Matched    bool            `json:"matched"` // all conditions hold
	Decides    bool            `json:"decides"` // this rule decides
	Conditions []RuleCondition `json:"conditions"`
}

// RuleCondition is one condition of a rule.
type RuleCondition struct {
	Text  string `json:"text"` // as the file spells it
	Holds bool   `json:"holds"`
	Field string `json:"field,omitempty"` // the field that it compares, such as message.age
	Value string `json:"value,omitempty"` // of that field, in the rule language
	Depth int    `json:"depth,omitempty"` // how many other conditions it is part of
}
