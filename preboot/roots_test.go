package main

import (
	"crypto/x509"
	"testing"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func TestPublicRoots(t *testing.T) {
	pool := publicRoots()
	n := 0
	for root := range bundle.Roots() {
		n++
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		if root.Constraint != nil || cert.PublicKeyAlgorithm != x509.ECDSA {
			continue
		}
		// It is a root of its own.
		if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: cert.NotBefore.AddDate(1, 0, 0), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Errorf("%s: %v", cert.Subject, err)
		}
	}
	if n < 50 {
		t.Errorf("there are %d public roots", n)
	}
}
