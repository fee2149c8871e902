package server

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	v1 "github.com/chat-recall/recall/sidecar/apiv1"
	"github.com/chat-recall/recall/sidecar/apiv1/apiv1connect"
	"github.com/chat-recall/recall/sidecar/internal/api"
)

// handler is what a listener serves to those who may ask.
func (s *Server) handler(admin bool) http.Handler {
	mux := http.NewServeMux()
	// Nothing is compressed: clients are near, and a few bytes could stand for many.
	plainBytes := connect.WithCompression("gzip", nil, nil)
	options := []connect.HandlerOption{plainBytes,
		connect.WithCodec(api.JSON{Type: "json"}), connect.WithCodec(api.JSON{Type: "json; charset=utf-8"}),
		connect.WithCodec(api.Binary{}), connect.WithReadMaxBytes(MaxBody),
	}
	services := []string{apiv1connect.RecallServiceName, apiv1connect.StepServiceName}
	mux.Handle(apiv1connect.NewRecallServiceHandler(s.Service, options...))
	mux.Handle(apiv1connect.NewStepServiceHandler(s.Service, options...))
	plain(mux, "index", s.Service.Index)
	plain(mux, "amend", s.Service.Amend)
	plain(mux, "recall", s.Service.Recall)
	plain(mux, "check", s.Service.Check)
	plain(mux, "explain", s.Service.Explain)
	plain(mux, "status", s.Service.Status)
	plain(mux, "since", s.Service.Since)
	plain(mux, "list", s.Service.List)
	plain(mux, "ledger", s.Service.Ledger)
	plain(mux, "waits", s.Service.Waits)
	plain(mux, "related", s.Service.Related)
	plain(mux, "jobs/start", s.Service.StartJob)
	plain(mux, "jobs/preview", s.Service.PreviewJob)
	plain(mux, "jobs/status", s.Service.JobStatus)
	plain(mux, "jobs/list", s.Service.ListJobs)
	plain(mux, "jobs/cancel", s.Service.CancelJob)
	plain(mux, "steps/take", s.Service.Take)
	plain(mux, "steps/settle", s.Service.Settle)
	if admin {
		mux.Handle(apiv1connect.NewAdminServiceHandler(s.Service, options...))
		services = append(services, apiv1connect.AdminServiceName)
		plain(mux, "admin/state", s.Service.State)
		plain(mux, "admin/reload", s.Service.Reload)
		plain(mux, "admin/upgrade", s.Service.Upgrade)
		plain(mux, "admin/forget", s.Service.Forget)
		plain(mux, "admin/compact", s.Service.Compact)
		post(mux, "admin/backup", s.backup)
	}
	reflector := grpcreflect.NewStaticReflector(append(services, grpchealth.HealthV1ServiceName)...)
	mux.Handle(grpchealth.NewHandler(s, plainBytes, connect.WithReadMaxBytes(maxSmall)))
	mux.Handle(grpcreflect.NewHandlerV1(reflector, plainBytes, connect.WithReadMaxBytes(maxSmall)))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, plainBytes, connect.WithReadMaxBytes(maxSmall)))
	mux.Handle("GET "+metricsPath, promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
	}))
	mux.HandleFunc("GET "+openAPIPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(v1.OpenAPI)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		hint := ""
		if strings.HasPrefix(r.URL.Path, "/v1/admin/") && !admin {
			hint = ", and /v1/admin only on a unix socket with admin = true"
		}
		fail(w, http.StatusNotFound, connect.NewError(connect.CodeNotFound,
			fmt.Errorf("there is no %.80q here; /openapi.json lists the calls%s", r.URL.Path, hint)))
	})
	return mux
}

// backup streams a backup. One that fails on the way ends in the middle of its response.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) {
	var none v1.BackupRequest
	if status, err := readJSON(w, r, &none); err != nil {
		fail(w, status, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	err := s.Service.BackupTo(r.Context(), w)
	switch begun := w.(*response).status != 0; {
	case err == nil:
	case begun:
		s.Log.Error("a backup is incomplete", "error", err)
		panic(http.ErrAbortHandler)
	default:
		fail(w, 0, err)
	}
}
