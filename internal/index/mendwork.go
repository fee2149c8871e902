package index

import (
	"errors"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// What is under way when an index is mended: requests to forget, jobs and recalls that wait.

// forget begins the work of a request to forget again: it has messages in other groups now.
func (m *mending) forget(item *badger.Item) error {
	var pb indexpb.Forget
	if err := errors.Join(decode(item, &pb), m.endGroup()); err != nil {
		return err
	}
	return m.set(item.KeyCopy(nil), &indexpb.Forget{
		End: max(m.groups, 1), Sequence: pb.Sequence, Pass: 1, Live: pb.Live, Recalled: pb.Recalled, Replaced: pb.Replaced,
	})
}

// job has a job that runs begin again, because the groups are others now. What it has recalled, it knows by the recall
// ids.
func (m *mending) job(item *badger.Item) error {
	k := item.KeyCopy(nil)
	tenant := textAt(k, 2)
	if tenant == "" {
		return m.runningJob(item)
	}
	var pb indexpb.Job
	if err := decode(item, &pb); err != nil {
		return err
	}
	if err := m.endGroup(); err != nil { // the last one
		return err
	}
	m.jobs = max(m.jobs, pb.Number)
	if pb.State != indexpb.JobState_JOB_STATE_RUNNING {
		return nil
	}
	pb.Started, pb.Position, pb.Offset = m.groups, 0, 0
	pb.Examined, pb.Recalled, pb.AlreadyRecalled, pb.Denied = 0, 0, 0, nil
	if pb.End > 0 {
		pb.End = max(m.groups, 1)
	}
	err := m.set(runningJobKey(pb.Number), &indexpb.RunningJob{Tenant: tenant, JobId: textAt(k, len(jobPrefix(tenant)))})
	return errors.Join(err, m.set(k, &pb))
}

// runningJob drops the key of a job that runs if that job is gone.
func (m *mending) runningJob(item *badger.Item) error {
	var at indexpb.RunningJob
	if err := decode(item, &at); err != nil {
		return err
	}
	m.jobs = max(m.jobs, lastNumber(item.Key()))
	j, err := readJob(m.txn, at.Tenant, at.JobId)
	if err != nil || j != nil && j.State == shared.JobRunning && j.Number == lastNumber(item.Key()) {
		return err
	}
	return m.drop(item)
}

// wait drops what waits for a message that is there.
func (m *mending) wait(item *badger.Item) error {
	w, err := waitAt(item)
	if err != nil {
		return err
	}
	rec, err := readRecord(m.txn, w.Tenant, w.MessageID)
	if err != nil || rec == nil || w.State != shared.WaitWaiting {
		return err
	}
	return m.drop(item)
}
