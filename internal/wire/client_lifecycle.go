package wire

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// The calls of [Lifecycle].

// Describe is [Lifecycle].
func (c *Client) Describe(ctx context.Context) (shared.Description, error) {
	resp, err := call(ctx, c.lifecycle.Describe, &recallv1.DescribeRequest{})
	if err != nil {
		return shared.Description{}, err
	}
	d := decoder{}
	d.atMost("protocol_versions", len(resp.GetProtocolVersions()), maxProtocolVersions)
	d.atMost("capabilities", len(resp.GetCapabilities()), maxCapabilities)
	description := shared.Description{
		Name:             d.text("name", resp.GetName(), shared.MaxIDBytes),
		Version:          d.text("version", resp.GetVersion(), shared.MaxIDBytes),
		IndexFormat:      int(resp.GetIndexFormat()),
		ProtocolVersions: mapSlice(resp.GetProtocolVersions(), func(v int32) int { return int(v) }),
		Capabilities: mapSlice(
			resp.GetCapabilities(),
			func(c string) string { return d.text("capabilities", c, shared.MaxIDBytes) },
		),
	}
	if d.err != nil {
		return shared.Description{}, badAnswer(d.err)
	}
	return description, nil
}

// Prepare is [Lifecycle].
func (c *Client) Prepare(ctx context.Context, configFile string) (shared.Diagnostics, error) {
	resp, err := call(ctx, c.lifecycle.Prepare, &recallv1.PrepareRequest{ConfigFile: configFile})
	return readDiagnostics(resp, err)
}

// Activate is [Lifecycle].
func (c *Client) Activate(ctx context.Context, steps []StepPlan) error {
	_, err := call(ctx, c.lifecycle.Activate, &recallv1.ActivateRequest{Steps: mapSlice(steps, encodeStepPlan)})
	return err
}

// Expect is [Lifecycle].
func (c *Client) Expect(ctx context.Context, index shared.IndexIdentity) error {
	_, err := call(ctx, c.lifecycle.Expect, &recallv1.ExpectRequest{Index: encodeIdentity(index)})
	return err
}

// Backup is [Lifecycle].
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.lifecycle.Backup(ctx, &recallv1.BackupRequest{})
	if err != nil {
		return fromStatus(ctx, err)
	}
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fromStatus(ctx, err)
		}
		if _, err := w.Write(chunk.GetData()); err != nil {
			return fmt.Errorf("write the backup: %w", err)
		}
	}
}

// Flush is [Lifecycle].
func (c *Client) Flush(ctx context.Context) error {
	_, err := call(ctx, c.lifecycle.Flush, &recallv1.FlushRequest{})
	return err
}

// Compact is [Lifecycle].
func (c *Client) Compact(ctx context.Context) error {
	_, err := call(ctx, c.lifecycle.Compact, &recallv1.CompactRequest{})
	return err
}

// Quiesce is [Lifecycle].
func (c *Client) Quiesce(ctx context.Context) error {
	_, err := call(ctx, c.lifecycle.Quiesce, &recallv1.QuiesceRequest{})
	return err
}

// Health is [Lifecycle].
func (c *Client) Health(ctx context.Context) (Health, error) {
	resp, err := call(ctx, c.lifecycle.Health, &recallv1.HealthRequest{})
	if err != nil {
		return Health{}, err
	}
	d := decoder{}
	h := d.health(resp)
	if d.err != nil {
		return Health{}, badAnswer(d.err)
	}
	return h, nil
}

// Reload is [Lifecycle].
func (c *Client) Reload(ctx context.Context) (shared.Diagnostics, error) {
	resp, err := call(ctx, c.lifecycle.Reload, &recallv1.ReloadRequest{})
	return readDiagnostics(resp, err)
}

func readDiagnostics(resp *recallv1.DiagnosticsResponse, err error) (shared.Diagnostics, error) {
	if err != nil {
		return nil, err
	}
	d := decoder{}
	ds := d.diagnostics("diagnostics", resp.GetDiagnostics())
	if d.err != nil {
		return nil, badAnswer(d.err)
	}
	return ds, nil
}

// Metrics is [Lifecycle].
func (c *Client) Metrics(ctx context.Context) ([]shared.Metric, error) {
	resp, err := call(ctx, c.lifecycle.Metrics, &recallv1.MetricsRequest{})
	if err != nil {
		return nil, err
	}
	d := decoder{}
	d.atMost("metrics", len(resp.GetMetrics()), maxMetrics)
	if d.err != nil {
		return nil, badAnswer(d.err)
	}
	metrics := mapSlice(resp.GetMetrics(), d.metric)
	if d.err != nil {
		return nil, badAnswer(d.err)
	}
	return metrics, nil
}
