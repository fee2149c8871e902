// Package calls lists the calls of recall-sidecar as plain JSON.
package calls

// Package is the package of the services in recall.proto.
const Package = "recall.api.v1"

// A Call is one call: POST /v1/ and Path is the method of a service of recall.proto.
type Call struct {
	Path, Service, Method string
	Admin                 bool // only on a unix socket with admin = true
	Stream                bool // it answers with bytes
}

// All are the calls, in the order of the documents.
var All = []Call{
	{Path: "index", Service: "RecallService", Method: "Index"},
	{Path: "amend", Service: "RecallService", Method: "Amend"},
	{Path: "recall", Service: "RecallService", Method: "Recall"},
	{Path: "check", Service: "RecallService", Method: "Check"},
	{Path: "explain", Service: "RecallService", Method: "Explain"},
	{Path: "status", Service: "RecallService", Method: "Status"},
	{Path: "since", Service: "RecallService", Method: "Since"},
	{Path: "list", Service: "RecallService", Method: "List"},
	{Path: "ledger", Service: "RecallService", Method: "Ledger"},
	{Path: "waits", Service: "RecallService", Method: "Waits"},
	{Path: "related", Service: "RecallService", Method: "Related"},
	{Path: "jobs/start", Service: "RecallService", Method: "StartJob"},
	{Path: "jobs/preview", Service: "RecallService", Method: "PreviewJob"},
	{Path: "jobs/status", Service: "RecallService", Method: "JobStatus"},
	{Path: "jobs/list", Service: "RecallService", Method: "ListJobs"},
	{Path: "jobs/cancel", Service: "RecallService", Method: "CancelJob"},
	{Path: "steps/take", Service: "StepService", Method: "Take"},
	{Path: "steps/settle", Service: "StepService", Method: "Settle"},
	{Path: "admin/state", Service: "AdminService", Method: "State", Admin: true},
	{Path: "admin/reload", Service: "AdminService", Method: "Reload", Admin: true},
	{Path: "admin/upgrade", Service: "AdminService", Method: "Upgrade", Admin: true},
	{Path: "admin/forget", Service: "AdminService", Method: "Forget", Admin: true},
	{Path: "admin/compact", Service: "AdminService", Method: "Compact", Admin: true},
	{Path: "admin/backup", Service: "AdminService", Method: "Backup", Admin: true, Stream: true},
}

// HTTP returns the path of a call as plain JSON.
func (c Call) HTTP() string { return "/v1/" + c.Path }

// RPC returns the path of a call with Connect, gRPC and gRPC-Web.
func (c Call) RPC() string { return "/" + Package + "." + c.Service + "/" + c.Method }
