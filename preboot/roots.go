package main

import (
	"crypto/x509"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// publicRoots reads the public certificate authorities, for stores that are
// served by HTTPS. They take 95 kB of the medium, and on an emulated machine a
// good part of a second, so only HTTPS pays for them.
func publicRoots() *x509.CertPool {
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		cert, err := x509.ParseCertificate(root.Certificate)
		switch {
		case err != nil: // one that this version of Go does not take is not trusted
		case root.Constraint == nil:
			pool.AddCert(cert)
		default:
			pool.AddCertWithConstraint(cert, root.Constraint)
		}
	}
	return pool
}
