package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared"
)

// The lane carries calls between a host and its plugin beside gRPC: the same protobuf messages, in frames on a
// socketpair of which each of the two processes holds one end, so that it needs no address and no encryption. A unary
// call over gRPC takes two to four times as long and twice the CPU (bench speed). Everything works without the lane
// too.
//
// The host passes one end as a descriptor that LaneFDEnv names. A plugin that serves it says so by CapabilityLane in
// Describe; else the host closes its end. Calls with a request over maxLaneRequest or metadata over maxLaneMetadata,
// and all calls that are not in laneMethods, go by gRPC.
//
// A frame has a head of 24 bytes, in which all numbers are big-endian and unsigned:
//
//	bytes  0– 3  length of the frame after these four bytes, at least 20
//	byte   4     kind: 1 call, 2 answer, 3 error, 4 cancel
//	byte   5     method of a call, from laneMethods; else 0
//	bytes  6– 7  length of the metadata of a call, at most maxLaneMetadata; else 0
//	bytes  8–15  id of the call: chosen by the host, and not used for another one before it is answered
//	bytes 16–23  time that a call has left, in microseconds, 0 for no limit; else 0
//	then         metadata
//	then         payload: the request, the response, or the google.rpc.Status of an error; nothing in a cancel
//
// Metadata is a list of pairs, at most maxLanePairs: length of the key (2 bytes), length of the value (2 bytes), key,
// value. It is outgoing gRPC metadata of the caller's context and becomes incoming metadata in the plugin.
//
// A plugin answers every call exactly once, in any order, by an answer or an error, also a call that was canceled. A
// frame of a method or kind that it does not know is answered Unimplemented. Either side ends the lane when a frame is
// shorter than its head and metadata or longer than its limit; the host also when it gets an answer to no call of its.
const (
	laneHead = 24

	laneCall   = 1
	laneAnswer = 2
	laneError  = 3
	laneCancel = 4

	maxLaneRequest  = 1 << 20 // bytes; a larger one would hold up the calls behind it
	maxLaneMetadata = 8 << 10 // bytes; the W3C allows that much baggage
	maxLanePairs    = 32

	// maxLaneCall and maxLaneAnswer bound the frames to the plugin and to the host.
	maxLaneCall   = laneHead + maxLaneMetadata + maxLaneRequest
	maxLaneAnswer = laneHead + MaxWireBytes
)

const (
	// LaneFDEnv names, to the plugin process, the descriptor of its end of the lane.
	LaneFDEnv = "RECALL_LANE_FD"

	// LaneEnv is a variable of the host's environment: where it is "off" there is no lane, and all calls go by gRPC.
	LaneEnv = "RECALL_LANE"

	// CapabilityLane is among the Description.Capabilities of a plugin process that serves its lane.
	CapabilityLane = "lane"
)

// laneMethod is a call of RecallService that goes by the lane.
type laneMethod struct {
	name   string
	async  asyncHandler // nil: an AsyncPlugin has it only as every Plugin has
	inline inline

	commits bool // a caller waits for a commit
}

// inline tells when the goroutine that reads the lane of an AsyncPlugin carries out a call itself: that spares waking
// another one (the p50 of one caller's status is 0.87 × as long), and holds up the calls behind it.
type inline int

const (
	neverInline  inline = iota
	inlineAlone         // if no other call is under way
	alwaysInline        // it takes no longer than decoding it
)

// laneMethods are the calls that go by the lane, by their number in a frame. The others have answers without a small
// bound, or are rare.
var laneMethods = [...]laneMethod{
	1: {"Index", indexThen, alwaysInline, true},
	2: {"Recall", recallThen, inlineAlone, true},
	3: {"Check", nil, inlineAlone, false},
	4: {"Status", nil, inlineAlone, false},
	5: {"Settle", nil, neverInline, false},
}

// OpenLane opens the plugin's end of the lane that its host made; nil where the host made none. It is called once.
func OpenLane() (*net.UnixConn, error) {
	value := os.Getenv(LaneFDEnv)
	if value == "" {
		return nil, nil
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%q is not the descriptor of a socket", LaneFDEnv, value)
	}
	syscall.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), "lane")
	defer file.Close() // conn has a copy
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", LaneFDEnv, value, err)
	}
	lane, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("%s=%s is not a unix socket", LaneFDEnv, value)
	}
	return lane, nil
}

// laneFrame is one frame.
type laneFrame struct {
	kind, method byte
	id           uint64
	timeout      time.Duration // 0: none
	metadata     []byte
	payload      []byte
}

// isWrite tells whether a frame is a call that a commit answers.
func (f *laneFrame) isWrite() bool {
	return f.kind == laneCall && int(f.method) < len(laneMethods) && laneMethods[f.method].commits
}

// laneFrameError says that the other side does not keep to the format.
type laneFrameError struct{ problem string }

func (e *laneFrameError) Error() string { return "frame on the lane: " + e.problem }

// lanePayload is the payload of a frame that is to be made: appendTo appends size bytes. The zero value is none.
type lanePayload struct {
	size     int
	appendTo func([]byte) ([]byte, error)
}

func protoPayload(m proto.Message) lanePayload {
	return lanePayload{proto.Size(m), func(b []byte) ([]byte, error) {
		return proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, m)
	}}
}

// encodeFrame makes a frame, f.payload aside, with the payload p.
func encodeFrame(f laneFrame, p lanePayload) ([]byte, error) {
	b := make([]byte, laneHead, laneHead+len(f.metadata)+p.size)
	b[4], b[5] = f.kind, f.method
	binary.BigEndian.PutUint16(b[6:], uint16(len(f.metadata)))
	binary.BigEndian.PutUint64(b[8:], f.id)
	binary.BigEndian.PutUint64(b[16:], uint64(f.timeout.Microseconds()))
	b = append(b, f.metadata...)
	if p.appendTo != nil {
		var err error
		if b, err = p.appendTo(b); err != nil {
			return nil, err
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b, nil
}

// decodeFrame reads the frame that b begins with, which has at most limit bytes. Its size is 0 while b does not hold
// all of it. The frame aliases b.
func decodeFrame(b []byte, limit int) (f laneFrame, size int, err error) {
	if len(b) < 4 {
		return f, 0, nil
	}
	size = 4 + int(binary.BigEndian.Uint32(b))
	if size < laneHead || size > limit {
		return f, 0, &laneFrameError{fmt.Sprintf("length %d; from %d to %d", size-4, laneHead-4, limit-4)}
	}
	if len(b) < size {
		return f, 0, nil
	}
	f = laneFrame{kind: b[4], method: b[5], id: binary.BigEndian.Uint64(b[8:])}
	us := min(binary.BigEndian.Uint64(b[16:]), math.MaxInt64/uint64(time.Microsecond))
	f.timeout = time.Duration(us) * time.Microsecond
	payload := laneHead + int(binary.BigEndian.Uint16(b[6:]))
	if payload > size {
		return f, 0, &laneFrameError{fmt.Sprintf("%d bytes of metadata in a frame of %d bytes", payload-laneHead, size)}
	}
	f.metadata, f.payload = b[laneHead:payload:payload], b[payload:size:size]
	return f, size, nil
}

// encodeMetadata encodes metadata, unless it is more than fits a frame.
func encodeMetadata(md metadata.MD) (b []byte, ok bool) {
	pairs := 0
	for key, values := range md {
		for _, value := range values {
			if pairs++; pairs > maxLanePairs || len(b)+4+len(key)+len(value) > maxLaneMetadata {
				return nil, false
			}
			b = binary.BigEndian.AppendUint16(b, uint16(len(key)))
			b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
			b = append(append(b, key...), value...)
		}
	}
	return b, true
}

// decodeMetadata reads the metadata of a call.
func decodeMetadata(b []byte) (metadata.MD, error) {
	if len(b) > maxLaneMetadata {
		return nil, shared.Invalidf("metadata", "has %d bytes; at most %d", len(b), maxLaneMetadata)
	}
	md := metadata.MD{}
	for pairs := 0; len(b) > 0; pairs++ {
		if pairs == maxLanePairs {
			return nil, shared.Invalidf("metadata", "has more than %d pairs", maxLanePairs)
		}
		if len(b) < 4 {
			return nil, shared.Invalidf("metadata", "ends within a pair")
		}
		key := int(binary.BigEndian.Uint16(b))
		value := int(binary.BigEndian.Uint16(b[2:]))
		if b = b[4:]; key+value > len(b) {
			return nil, shared.Invalidf("metadata", "ends within a pair")
		}
		md.Append(string(b[:key]), string(b[key:key+value])) // in lower case, as gRPC has keys
		b = b[key+value:]
	}
	return md, nil
}
