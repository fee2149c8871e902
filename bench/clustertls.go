package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/chat-recall/recall/internal/natscluster"
)

// The fault "tls".

func withTLS(o *clusterOptions) { o.tls = true }

// revokeCredentials is the fault "tls": the servers forget the user of one node, and know it again later.
func revokeCredentials(ctx context.Context, c *cluster) error {
	if err := c.wait(ctx, faultAfter); err != nil {
		return err
	}
	n := c.all()[1]
	progress("the credentials of %s are revoked", n.name)
	defer n.troubled()()
	from := n.logSize()
	isRevoked := func(user string) bool { return user == nodeUser(n.name) }
	if err := c.servers.SetUsers(slices.DeleteFunc(nodeUsers(), isRevoked)...); err != nil {
		return err
	}
	if err := n.waitForLog(ctx, from, "the servers refuse the credentials of this node"); err != nil {
		return err
	}
	if err := n.waitUntilConnected(ctx, false); err != nil {
		return err
	}
	if err := c.wait(ctx, awayTime); err != nil {
		return err
	}
	progress("the credentials of %s are valid again", n.name)
	if err := c.servers.SetUsers(nodeUsers()...); err != nil {
		return err
	}
	return n.waitUntilConnected(ctx, true)
}

// waitUntilConnected waits until the node says that it is connected to a server, or that it is not.
func (n *clusterNode) waitUntilConnected(ctx context.Context, is bool) error {
	ctx, cancel := context.WithTimeout(ctx, connectedTimeout)
	defer cancel()
	for {
		state, err := n.state(ctx)
		if err == nil && state.Cluster != nil && state.Cluster.Connected == is {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not say that its connection is %v: %w\n%s", n.name, is, errors.Join(ctx.Err(), err),
				n.lastLines())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// connectedTimeout is how long it may take until a node says that it is connected, or that it is not.
const connectedTimeout = 20 * time.Second

// nodeUsers are the users of the nodes, of which each has one of its own.
func nodeUsers() (all []string) {
	for i := range clusterNodes {
		all = append(all, nodeUser(fmt.Sprint("n", i)))
	}
	return all
}

func nodeUser(node string) string { return node + ":" + node }

// makeCertificates makes a CA, and one certificate that it has signed for everybody on loopback.
func makeCertificates(folder string) (*natscluster.TLS, error) {
	files := &natscluster.TLS{
		CA: filepath.Join(folder, "ca.pem"), Cert: filepath.Join(folder, "cert.pem"), Key: filepath.Join(folder, "key.pem"),
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "recall bench"}, NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: ca.NotAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	signed, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.CreateCertificate(rand.Reader, cert, ca, key.Public(), caKey)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return files, errors.Join(
		writePEM(files.CA, "CERTIFICATE", signed), writePEM(files.Cert, "CERTIFICATE", leaf),
		writePEM(files.Key, "PRIVATE KEY", private),
	)
}

func writePEM(file, kind string, data []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600)
}
