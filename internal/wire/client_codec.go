package wire

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// An empty message in a list takes two bytes on the wire and some hundred in memory: MaxWireBytes of them would take
// gigabytes. So an answer is measured before it is decoded.
const (
	// maxDecodedBytes bounds what one answer takes in memory. The largest page of the contract takes less.
	maxDecodedBytes = 4 * MaxWireBytes

	messageBytes = 256 // of a decoded message, about, besides its fields
	elementBytes = 16  // of a decoded text, besides its bytes

	// maxUnmeasured is the size up to which an answer is not measured: it cannot take more than some megabytes.
	maxUnmeasured = 64 << 10
)

// tooLargeDecoded begins the error of an answer that is refused by its decoded size. gRPC hands on only its text.
const tooLargeDecoded = "message is too large when decoded"

// DialOptions are those of a connection to a plugin.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(
			grpc.MaxCallSendMsgSize(MaxWireBytes), grpc.MaxCallRecvMsgSize(MaxWireBytes),
			grpc.ForceCodecV2(clientCodec{encoding.GetCodecV2(grpcproto.Name)}),
		),
		grpc.WithInitialWindowSize(WireWindowBytes), grpc.WithInitialConnWindowSize(WireWindowBytes),
	}
}

// clientCodec is gRPC's codec for protobuf, which refuses an answer that would take too much memory.
type clientCodec struct{ encoding.CodecV2 }

// Unmarshal is encoding.CodecV2.
func (c clientCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	if !ok || data.Len() <= maxUnmeasured {
		return c.CodecV2.Unmarshal(data, v)
	}
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	if err := checkDecoded(m, whole.ReadOnlyData()); err != nil {
		return err
	}
	return c.CodecV2.Unmarshal(mem.BufferSlice{whole}, v)
}

// checkDecoded refuses an encoded message that would take too much memory as m.
func checkDecoded(m proto.Message, data []byte) error {
	if len(data) > maxUnmeasured && decodedBytes(m.ProtoReflect().Descriptor(), data) > maxDecodedBytes {
		return fmt.Errorf("%s: %d bytes on the wire take more than %d", tooLargeDecoded, len(data), maxDecodedBytes)
	}
	return nil
}

// decodedBytes is about what an encoded message takes in memory. It stops counting above maxDecodedBytes.
func decodedBytes(m protoreflect.MessageDescriptor, data []byte) int {
	total := messageBytes
	for total <= maxDecodedBytes {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return total // the end, or the decoder says what is wrong
		}
		data = data[n:]
		size := protowire.ConsumeFieldValue(number, kind, data)
		if size < 0 {
			return total
		}
		value := data[:size]
		data = data[size:]
		field := m.Fields().ByNumber(number)
		switch {
		case field == nil: // kept as it is
			total += size
		case field.Message() != nil && kind == protowire.BytesType:
			inner, _ := protowire.ConsumeBytes(value)
			total += decodedBytes(field.Message(), inner)
		default:
			total += elementBytes + size
		}
	}
	return total
}
