package shared

import "time"

// The limits of a call. Sizes are in bytes. A call that exceeds one is refused with a [*FieldError] that names it.
const (
	MaxIDBytes            = 256  // tenant, message, conversation, sender, actor and recall ids
	MaxRecallTargets      = 100  // messages of a RecallRequest
	MaxIndexBatch         = 1000 // messages of an Index call, amendments of an Amend call
	MaxStatusIDs          = 1000 // ids of a Status call
	MaxSinceConversations = 1000
	MaxSinceLimit         = 1000
	MaxListLimit          = 1000
	MaxLedgerLimit        = 1000
	MaxExtBytes           = 4 << 10
	MaxReasonBytes        = 1 << 10
	MaxAttachments        = 100
	MaxAttachmentBytes    = 2 << 10 // one attachment key
	MaxRefBytes           = 1 << 10
	MaxLabels             = 32
	MaxRelations          = 100 // of one message
	MaxRelatedLimit       = 1000
	MaxWaitsLimit         = 1000
	MaxLabelBytes         = 128
	MaxStepBytes          = 64  // the name of a step
	MaxSteps              = 32  // steps that a host carries out
	MaxDeliveries         = 128 // deliveries of one step that wait for an outcome; the most that a host runs at once

	MaxJobIDBytes  = MaxIDBytes - 16 // its recall ids are longer
	MaxJobsLimit   = 100
	MaxRunningJobs = 100   // of a tenant
	MaxEndedJobs   = 1_000 // of a tenant; the oldest of more are forgotten when the next job starts
	MaxJobCodes    = 64    // that a job counts by

	// MaxRecallMessages is how many messages can be recalled under one recall id, in one request or many. Messages that
	// are recalled because they relate to others do not count.
	MaxRecallMessages = 10_000

	// MaxRelated bounds Event.Related, and the messages that are recalled in the same commit as the one that they relate
	// to. Further ones follow in commits right after it.
	MaxRelated = 100
)

// MaxStepErrorBytes is how many bytes of the error of a step the ledger keeps.
const MaxStepErrorBytes = 1 << 10

// The limits of recalls that wait for their messages. One beyond the numbers is denied with CodeRateLimited.
const (
	MaxWait       = 7 * 24 * time.Hour
	MaxWaits      = 100_000 // of the index
	MaxActorWaits = 1000    // of one actor
	MaxIDWaits    = 10      // for one message
)

// MaxJobUntil is how long after its start a job recalls what arrives.
const MaxJobUntil = 7 * 24 * time.Hour
