package wire

import (
	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// Conversions of the state that a plugin reports: its health, its index, its rules and its metrics.

func encodeHealth(h Health) *recallv1.HealthResponse {
	return &recallv1.HealthResponse{
		State: pluginStates.number[h.State], Reason: h.Reason, Since: encodeTime(h.Since),
		Rules: &recallv1.RulesState{
			Digest: h.Rules.Digest, Paths: h.Rules.Paths, LoadedAt: encodeTime(h.Rules.LoadedAt),
			Warnings: encodeDiagnostics(h.Rules.Warnings), Refused: encodeDiagnostics(h.Rules.Refused),
			Fallback: h.Rules.Fallback,
		},
		Index: encodeIdentity(h.Index), Waiting: uint32(h.Waiting), Done: h.Done,
		Cluster: encodeCluster(h.Cluster),
	}
}

func encodeCluster(c *shared.ClusterState) *recallv1.ClusterState {
	if c == nil {
		return nil
	}
	return &recallv1.ClusterState{
		Node: c.Node, Log: c.Log, Connected: c.Connected, Position: c.Position, Lag: c.Lag,
		BehindSince: encodeTime(c.BehindSince),
		Members: mapSlice(c.Members, func(m shared.ClusterMember) *recallv1.ClusterMember {
			return &recallv1.ClusterMember{
				Node: m.Node, Version: m.Version, Format: uint32(m.Format), PolicyDigest: m.PolicyDigest,
				Position: m.Position, Gone: m.Gone, Since: m.Since,
			}
		}),
	}
}

func (d *decoder) cluster(c *recallv1.ClusterState) *shared.ClusterState {
	if c == nil {
		return nil
	}
	d.atMost("cluster.members", len(c.GetMembers()), shared.MaxNodes)
	return &shared.ClusterState{
		Node: d.text("cluster.node", c.GetNode(), shared.MaxNodeBytes),
		Log:  d.text("cluster.log", c.GetLog(), shared.MaxIDBytes), Connected: c.GetConnected(),
		Position: c.GetPosition(), Lag: c.GetLag(), BehindSince: d.time("cluster.behind_since", c.GetBehindSince()),
		Members: mapSlice(c.GetMembers(), func(m *recallv1.ClusterMember) shared.ClusterMember {
			return shared.ClusterMember{
				Node:    d.text("cluster.members.node", m.GetNode(), shared.MaxNodeBytes),
				Version: d.text("cluster.members.version", m.GetVersion(), shared.MaxIDBytes), Format: int(m.GetFormat()),
				PolicyDigest: d.text("cluster.members.policy_digest", m.GetPolicyDigest(), shared.MaxIDBytes),
				Position:     m.GetPosition(), Gone: m.GetGone(), Since: m.GetSince(),
			}
		}),
	}
}

func (d *decoder) health(h *recallv1.HealthResponse) Health {
	r := h.GetRules()
	d.atMost("rules.paths", len(r.GetPaths()), maxDiagnostics)
	return Health{
		State:  decodeEnum(d, pluginStates, "state", h.GetState()),
		Reason: clipText(h.GetReason(), maxAnswerTextBytes), Since: d.time("since", h.GetSince()),
		Rules: shared.RulesState{
			Digest: d.text("rules.digest", r.GetDigest(), shared.MaxIDBytes), Paths: r.GetPaths(),
			LoadedAt: d.time("rules.loaded_at", r.GetLoadedAt()),
			Warnings: d.diagnostics("rules.warnings", r.GetWarnings()), Refused: d.diagnostics("rules.refused", r.GetRefused()),
			Fallback: r.GetFallback(),
		},
		Index: d.identity("index", h.GetIndex()), Waiting: int(h.GetWaiting()), Done: h.GetDone(),
		Cluster: d.cluster(h.GetCluster()),
	}
}

func encodeIdentity(id shared.IndexIdentity) *recallv1.IndexIdentity {
	return &recallv1.IndexIdentity{Id: id.ID, Epoch: id.Epoch, Version: id.Version}
}

func (d *decoder) identity(field string, id *recallv1.IndexIdentity) shared.IndexIdentity {
	return shared.IndexIdentity{
		ID:      d.text(field+".id", id.GetId(), shared.MaxIDBytes),
		Epoch:   d.text(field+".epoch", id.GetEpoch(), shared.MaxIDBytes),
		Version: id.GetVersion(),
	}
}

func encodeDiagnostics(ds shared.Diagnostics) []*recallv1.Diagnostic {
	return mapSlice(ds, func(d shared.Diagnostic) *recallv1.Diagnostic {
		return &recallv1.Diagnostic{
			Severity: severities.number[d.Severity], Summary: d.Summary, Detail: d.Detail, File: d.File,
			Line: int32(d.Line), Column: int32(d.Column), Source: d.Source,
		}
	})
}

func (d *decoder) diagnostics(field string, list []*recallv1.Diagnostic) shared.Diagnostics {
	d.atMost(field, len(list), maxDiagnostics)
	// They are for people, and worth more in part than not at all.
	text := func(s string) string { return clipText(s, maxAnswerTextBytes) }
	return mapSlice(list, func(w *recallv1.Diagnostic) shared.Diagnostic {
		return shared.Diagnostic{
			Severity: decodeEnum(d, severities, field+".severity", w.GetSeverity()),
			Summary:  text(w.GetSummary()), Detail: text(w.GetDetail()), File: text(w.GetFile()),
			Line: int(w.GetLine()), Column: int(w.GetColumn()), Source: text(w.GetSource()),
		}
	})
}

func encodeMetric(m shared.Metric) *recallv1.Metric {
	return &recallv1.Metric{
		Name: m.Name, Kind: metricKinds.number[m.Kind], Labels: m.Labels, Value: m.Value, Count: m.Count,
		Buckets: mapSlice(m.Buckets, func(b shared.Bucket) *recallv1.Bucket {
			return &recallv1.Bucket{UpperBound: b.UpperBound, Count: b.Count}
		}),
	}
}

func (d *decoder) metric(m *recallv1.Metric) shared.Metric {
	d.atMost("metrics.labels", len(m.GetLabels()), maxMetricLabels)
	d.atMost("metrics.buckets", len(m.GetBuckets()), maxMetricBuckets)
	for name, value := range m.GetLabels() {
		d.text("metrics.labels", name+value, maxAnswerTextBytes)
	}
	return shared.Metric{
		Name: d.text("metrics.name", m.GetName(), maxAnswerTextBytes),
		Kind: decodeEnum(d, metricKinds, "metrics.kind", m.GetKind()), Labels: m.GetLabels(), Value: m.GetValue(),
		Count: m.GetCount(), Buckets: mapSlice(m.GetBuckets(), func(b *recallv1.Bucket) shared.Bucket {
			return shared.Bucket{UpperBound: b.GetUpperBound(), Count: b.GetCount()}
		}),
	}
}
