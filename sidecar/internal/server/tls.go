package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync/atomic"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/sidecar/internal/config"
)

const maxPEM = 1 << 20 // bytes of the file of CAs

// TLS are the certificates of a listener.
type TLS struct {
	listener config.Listener
	now      atomic.Pointer[tls.Config]
}

// NewTLS returns the certificates of a listener, which Read reads.
func NewTLS(l config.Listener) *TLS { return &TLS{listener: l} }

// Read reads the certificates again. If it fails, those that were read before stay in force.
func (t *TLS) Read() error {
	settings, err := tlsOf(t.listener)
	if err == nil {
		t.now.Store(settings)
	}
	return err
}

// config returns settings that use the certificates in force for each new connection.
func (t *TLS) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: alpn,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.now.Load(), nil }}
}

var alpn = []string{"h2", "http/1.1"}

// tlsOf reads the certificates of a listener.
func tlsOf(l config.Listener) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(l.TLSCert, l.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("tls_cert and tls_key of %s: %w", l.Address, err)
	}
	settings := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: alpn}
	if l.TLSClientCA == "" {
		return settings, nil
	}
	pem, err := hclfile.Read(l.TLSClientCA, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("tls_client_ca of %s: %w", l.Address, err)
	}
	settings.ClientCAs, settings.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !settings.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls_client_ca of %s: %s has no PEM certificate", l.Address, l.TLSClientCA)
	}
	return settings, nil
}
