package wire

const (
	// MaxWireBytes bounds one message on the wire, in both directions.
	MaxWireBytes = 16 << 20

	// MaxSettlements bounds the settlements of one call.
	MaxSettlements = 512

	// MaxDeliverBytes bounds the deliveries of one message on the wire, unless it has only one.
	MaxDeliverBytes = 256 << 10

	// WireWindowBytes is what either side sends before the other has read it. A batch of 500 messages is larger than
	// gRPC's own 64 KiB, and waited half way for leave to go on (bench speed: 1.2 × as many messages a second with this).
	WireWindowBytes = 1 << 20

	// maxExplainBytes is what an Explain takes besides its targets: the largest rule files, as text of conditions.
	maxExplainBytes = 4 << 20
)
