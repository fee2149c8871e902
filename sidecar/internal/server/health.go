package server

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/sidecar/apiv1/apiv1connect"
)

// ready says why calls are not answered now; nil if they are. While the plugin restarts or is upgraded, calls wait for
// it, and the sidecar is ready.
func (s *Server) ready() error {
	if s.leaving.Load() {
		return errors.New("stopping")
	}
	h := s.Service.Host()
	if h == nil {
		return errors.New("the plugin is starting")
	}
	if st := h.State(); st.Phase == host.PhaseFailed || st.Phase == host.PhaseClosed || st.Damaged {
		return fmt.Errorf("plugin %s: %s", st.Phase, st.Error)
	}
	return nil
}

// Check implements grpc.health.v1.
func (s *Server) Check(_ context.Context, r *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	switch r.Service {
	case "", apiv1connect.RecallServiceName, apiv1connect.StepServiceName, apiv1connect.AdminServiceName:
	default:
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no service %.80q", r.Service))
	}
	if s.ready() != nil {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
}
