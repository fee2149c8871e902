package shared

// MetricKind says how a metric is read.
type MetricKind string

// The kinds of a metric.
const (
	MetricCounter   MetricKind = "counter" // grows since the process started
	MetricGauge     MetricKind = "gauge"
	MetricHistogram MetricKind = "histogram"
)

// Metric is one time series, with a name and labels as Prometheus has them. docs/operating.md lists them.
type Metric struct {
	Name   string            `json:"name"`
	Kind   MetricKind        `json:"kind"`
	Labels map[string]string `json:"labels,omitempty"`

	Value float64 `json:"value"`           // of a histogram: the sum of its observations
	Count uint64  `json:"count,omitempty"` // of a histogram: its observations
	// Buckets of a histogram are by rising bound, without the last one, which has none
	Buckets []Bucket `json:"buckets,omitempty"`
}

// Bucket counts the observations of a histogram that are not above a bound.
type Bucket struct {
	UpperBound float64 `json:"upper_bound"`
	Count      uint64  `json:"count"`
}
