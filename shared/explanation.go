package shared

// Explanation says which rules decide about one target, and why. It ignores rate limits.
type Explanation struct {
	MessageID string         `json:"message_id"`
	Result    RecallResult   `json:"result"` // what Check answers, without rate limits
	Shadow    *ShadowVerdict `json:"shadow,omitempty"`
	Rules     []RuleTrace    `json:"rules,omitempty"` // in the order of the files; empty if no rule was evaluated
}

// ShadowVerdict is the decision that the rules would make if the shadow rules were in force. It is reported only if it
// differs from the decision that was made.
type ShadowVerdict struct {
	Permit bool `json:"permit"`
	Code   Code `json:"code,omitempty"` // of a refusal
	Rule   Rule `json:"rule"`
}

// RuleTrace is the evaluation of one rule.
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
	Text  string `json:"text"` // as written in the file
	Holds bool   `json:"holds"`
	Field string `json:"field,omitempty"` // the field that it compares, such as message.age
	Value string `json:"value,omitempty"` // the value of that field, as the rule language writes it
	Depth int    `json:"depth,omitempty"` // nesting depth inside "when"; 0: a requirement of the rule
}
