package wire

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/chat-recall/recall/shared"
)

// undecoded is a message that is received as it is. Embedding a message makes it one for every codec: fields that it
// does not know it keeps.
type undecoded struct {
	emptypb.Empty
	max  int // bytes
	data []byte
	size int // where it is above max, and data was dropped
}

// bytes returns the message, or says that it is too large.
func (u *undecoded) bytes() ([]byte, error) {
	if u.data == nil {
		u.data = u.ProtoReflect().GetUnknown()
	}
	if size := max(u.size, len(u.data)); size > u.max {
		return nil, toStatus(shared.Invalidf("request", "has %d bytes; at most %d", size, u.max))
	}
	return u.data, nil
}

// serverCodec is gRPC's codec for protobuf, and lets a large message be judged by its size before anything is made of
// it.
type serverCodec struct{}

func (serverCodec) Name() string { return grpcproto.Name }

func (serverCodec) Marshal(v any) (mem.BufferSlice, error) {
	return encoding.GetCodecV2(grpcproto.Name).Marshal(v)
}

func (serverCodec) Unmarshal(data mem.BufferSlice, into any) error {
	u, ok := into.(*undecoded)
	switch {
	case ok && data.Len() > u.max:
		u.size = data.Len()
		return nil
	case ok:
		u.data = data.Materialize()
		return nil
	case data.Len() > maxSmallBytes: // of go-plugin
		return fmt.Errorf("a request of %d bytes; at most %d", data.Len(), maxSmallBytes)
	}
	return encoding.GetCodecV2(grpcproto.Name).Unmarshal(data, into)
}
