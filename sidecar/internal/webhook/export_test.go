package webhook

import (
	"crypto/x509"
	"net"
)

// Trust makes w accept certificates of pool only.
func (w *Webhook) Trust(pool *x509.CertPool) { w.transport.TLSClientConfig.RootCAs = pool }

// Resolve makes w look up names with r.
func (w *Webhook) Resolve(r *net.Resolver) { w.dialer.Resolver = r }

// CheckAddress is checkAddress.
var CheckAddress = checkAddress
