package api

import (
	"context"
	"io"
	"path/filepath"
	"strconv"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
	v1 "github.com/chat-recall/recall/sidecar/apiv1"
	"github.com/chat-recall/recall/sidecar/internal/pull"
)

// PhaseOpening is the phase until the plugin answers for the first time.
const PhaseOpening = "opening"

// State implements AdminService. It answers at once, also while the plugin is away.
func (s *Service) State(context.Context, *v1.StateRequest) (*v1.StateResponse, error) {
	out := &v1.StateResponse{Phase: PhaseOpening}
	if h := s.Host(); h != nil {
		out = encodeState(h.State())
	}
	out.PulledSteps = each(s.Broker.Counts(), func(c pull.Count) *v1.PulledStep {
		return &v1.PulledStep{Step: c.Step, Waiting: count(c.Waiting), Leased: count(c.Leased),
			WaitingSince: encodeTime(c.Since)}
	})
	return out, nil
}

func encodeDiagnostic(d shared.Diagnostic) *v1.Diagnostic {
	return &v1.Diagnostic{Severity: string(d.Severity), Summary: d.Summary, Detail: d.Detail, File: d.File,
		Line: int32(d.Line), Column: int32(d.Column), Source: d.Source}
}

func encodeState(s host.State) *v1.StateResponse {
	out := &v1.StateResponse{
		Phase: string(s.Phase), Step: s.Step, Since: encodeTime(s.Since), Pid: int32(s.PID), Version: s.Version,
		Binary: s.Binary, Sha256: s.SHA256, Restarts: count(s.Restarts), Upgrades: count(s.Upgrades), Damaged: s.Damaged,
		Error: s.Error, Index: &v1.IndexIdentity{Id: s.Index.ID, Epoch: s.Index.Epoch},
		Rules: &v1.RulesState{Digest: s.Rules.Digest, Paths: s.Rules.Paths, LoadedAt: encodeTime(s.Rules.LoadedAt),
			Warnings: each(s.Rules.Warnings, encodeDiagnostic), Refused: each(s.Rules.Refused, encodeDiagnostic),
			Fallback: s.Rules.Fallback},
		Pending: each(s.Pending, encodeDiagnostic),
	}
	if p := s.Previous; p != nil {
		out.Previous = &v1.PreviousBinary{Binary: p.Binary, Sha256: p.SHA256, Version: p.Version}
	}
	if c := s.Cluster; c != nil {
		out.Cluster = &v1.ClusterState{Node: c.Node, Log: c.Log, Connected: c.Connected, Position: decimal(c.Position),
			Lag: decimal(c.Lag), BehindSince: encodeTime(c.BehindSince),
			Members: each(c.Members, func(m shared.ClusterMember) *v1.ClusterMember {
				return &v1.ClusterMember{Node: m.Node, Version: m.Version, Format: int32(m.Format),
					PolicyDigest: m.PolicyDigest, Position: decimal(m.Position), Gone: m.Gone, Since: decimal(m.Since)}
			})}
	}
	return out
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

// Reload implements AdminService.
func (s *Service) Reload(ctx context.Context, _ *v1.ReloadRequest) (*v1.ReloadResponse, error) {
	return call(ctx, s, func(ctx context.Context, h *host.Host) (shared.Diagnostics, error) { return h.Reload(ctx) },
		func(ds shared.Diagnostics) *v1.ReloadResponse {
			return &v1.ReloadResponse{Diagnostics: each(ds, encodeDiagnostic)}
		})
}

// Upgrade implements AdminService. It takes as long as the plugin needs.
func (s *Service) Upgrade(ctx context.Context, r *v1.UpgradeRequest) (*v1.UpgradeResponse, error) {
	if !filepath.IsAbs(r.GetPath()) {
		return nil, Invalid("path", "must be absolute: the sidecar does not know the folder of its client")
	}
	h, err := s.await(ctx)
	if err != nil {
		return nil, Error(err)
	}
	report, err := h.Upgrade(ctx, host.Binary{Path: r.GetPath(), SHA256: r.GetSha256()})
	if err != nil {
		return nil, Error(err)
	}
	return &v1.UpgradeResponse{From: report.From.Version, To: report.To.Version, Held: durationpb.New(report.Held)}, nil
}

// Forget implements AdminService.
func (s *Service) Forget(ctx context.Context, r *v1.ForgetRequest) (*v1.ForgetResponse, error) {
	return call(ctx, s, func(ctx context.Context, h *host.Host) (shared.ForgetResult, error) {
		return h.Forget(ctx, shared.ForgetRequest{
			Tenant: r.GetTenant(), Sender: r.GetSender(), Conversation: decodeConversation(r.GetConversation()),
			Before: decodeTime(r.GetBefore()),
		})
	}, encodeForget)
}

func encodeForget(f shared.ForgetResult) *v1.ForgetResponse {
	return &v1.ForgetResponse{
		Done: f.Done, Live: count(f.Live), Recalled: count(f.Recalled), Replaced: count(f.Replaced),
		Waiting: count(f.Waiting),
	}
}

// Compact implements AdminService. It takes as long as writing the index.
func (s *Service) Compact(ctx context.Context, _ *v1.CompactRequest) (*v1.CompactResponse, error) {
	h, err := s.await(ctx)
	if err != nil {
		return nil, Error(err)
	}
	report, err := h.Compact(ctx)
	if err != nil {
		return nil, Error(err)
	}
	return &v1.CompactResponse{Took: durationpb.New(report.Took), Held: durationpb.New(report.Held)}, nil
}

// Backup implements AdminService.
func (s *Service) Backup(ctx context.Context, _ *v1.BackupRequest, out *connect.ServerStream[v1.BackupResponse]) error {
	return s.BackupTo(ctx, writerFunc(func(p []byte) (int, error) {
		if err := out.Send(&v1.BackupResponse{Data: p}); err != nil {
			return 0, err
		}
		return len(p), nil
	}))
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// BackupTo writes a backup of the index. It takes as long as the reader needs.
func (s *Service) BackupTo(ctx context.Context, w io.Writer) error {
	h, err := s.await(ctx)
	if err != nil {
		return Error(err)
	}
	if err := h.Backup(ctx, w); err != nil {
		return Error(err)
	}
	return nil
}
