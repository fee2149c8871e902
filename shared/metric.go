package shared

// MetricKind says how a metric is read.
type MetricKind string

// The kinds of a metric.
const (
	MetricCounter   MetricKind = "counter" // grows since the process started
	MetricGauge     MetricKind = "gauge"
	MetricHistogram MetricKind = "histogram"
)

// Metric is one time series with a name and labels, as in Prometheus. docs/operating.md lists the metrics.
type Metric struct {
	Name   string            `json:"name"`
	Kind   MetricKind        `json:"kind"`
	Labels map[string]string `json:"labels,omitempty"`

	Value float64 `json:"value"`           // of a histogram: the sum of its observations
	Count uint64  `json:"count,omitempty"` // of a histogram: the number of its observations
	// Buckets are those of a histogram, by rising upper bound, without the last bucket, which has no bound.
	Buckets []Bucket `json:"buckets,omitempty"`
}

// Bucket is one cumulative bucket of a histogram: Count observations are at most UpperBound.
type Bucket struct {
	UpperBound float64 `json:"upper_bound"`
	Count      uint64  `json:"count"`
}
