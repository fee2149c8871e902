package wire

import (
	"context"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// AsyncPlugin is a Plugin whose writes need not be waited for: each of these is the call of the same name, and calls
// then once with its answer, on any goroutine, perhaps before it returns. then does not block. alone says that no other
// call is under way, so that the plugin may commit on the goroutine that calls it; else these do not wait for a commit.
// The Check and Status of such a plugin wait for no other call.
type AsyncPlugin interface {
	IndexThen(ctx context.Context, msgs []shared.Message, alone bool, then func([]shared.IndexResult, error))
	RecallThen(ctx context.Context, req shared.RecallRequest, alone bool, then func([]shared.RecallResult, error))
}

// asyncHandler is a grpc.MethodHandler for an AsyncPlugin: then gets the response, a proto.Message, or a status.
type asyncHandler func(ctx context.Context, p AsyncPlugin, decode func(any) error, alone bool, then func(any, error))

func indexThen(ctx context.Context, p AsyncPlugin, decode func(any) error, alone bool, then func(any, error)) {
	req, err := readIndexRequest(decode)
	if err != nil {
		then(nil, err)
		return
	}
	p.IndexThen(ctx, req.messages, alone,
		func(results []shared.IndexResult, err error) { then(req.response(results, err)) })
}

func recallThen(ctx context.Context, p AsyncPlugin, decode func(any) error, alone bool, then func(any, error)) {
	req := &recallv1.RecallRequest{}
	if err := decode(req); err != nil {
		then(nil, err)
		return
	}
	d := decoder{}
	r := d.recallRequest(req)
	if d.err != nil {
		then(nil, toStatus(d.err))
		return
	}
	p.RecallThen(ctx, r, alone, func(results []shared.RecallResult, err error) { then(recallResponse(results, err)) })
}
