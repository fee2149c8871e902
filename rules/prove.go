package rules

// Analyze is analyze.
func (p *Policy) Analyze() Analysis { return analyze(p) }

// Compare is compare.
func Compare(was, now *Policy) Comparison { return compare(was, now) }
