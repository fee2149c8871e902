package main

// A clusterRow compares a cluster of three nodes with a single machine, or with what else it names.
type clusterRow struct {
	Row     string  `json:"row"`
	What    string  `json:"what"`
	Single  float64 `json:"single"` // what it is compared with
	Cluster float64 `json:"cluster"`
	Ratio   float64 `json:"ratio"` // of the cluster to the other; 0: the target is absolute
	Target  string  `json:"target,omitempty"`
	Met     bool    `json:"met"`
}

// add adds a row that is compared with nothing.
func (s *clusterSpeed) add(row, what string, value float64, t target) {
	s.rows = append(s.rows, newClusterRow(row, what, 0, value, 0, t, value))
}

// compare adds a row of which the ratio counts.
func (s *clusterSpeed) compare(row, what string, sides [2][]float64, t target) {
	single, cluster := median(sides[onSingle]), median(sides[onCluster])
	ratio := cluster / single
	s.rows = append(s.rows, newClusterRow(row, what, single, cluster, ratio, t, ratio))
}

// bound adds a row in which the cluster must stay below a value; 0: it need not.
func (s *clusterSpeed) bound(row, what string, sides [2][]float64, most float64) {
	single, cluster := median(sides[onSingle]), median(sides[onCluster])
	t := target{}
	if most > 0 {
		t = atMost(most)
	}
	s.rows = append(s.rows, newClusterRow(row, what, single, cluster, cluster/single, t, cluster))
}

func newClusterRow(row, what string, single, cluster, ratio float64, t target, value float64) clusterRow {
	r := clusterRow{
		Row: row, What: what, Single: rounded(single), Cluster: rounded(cluster), Ratio: rounded(ratio), Met: true,
	}
	if t != (target{}) {
		r.Target, r.Met = t.String(), t.met(value)
	}
	return r
}

// print prints a row for a person.
func (r *clusterRow) print() {
	word := ""
	switch {
	case r.Target == "":
	case r.Met:
		word = "met: " + r.Target
	default:
		word = "missed: " + r.Target
	}
	progress("%-20s %10g %10g  %6g  %s  (%s)", r.Row, r.Single, r.Cluster, r.Ratio, word, r.What)
}
