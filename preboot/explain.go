package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/clientsettings"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/strictjson"
	"github.com/inetboot/inetboot/preboot/console"
	"github.com/inetboot/inetboot/preboot/download"
)

// partError names the part of a boot that an error is about: "catalog",
// "menu", "manifest" and so on.
type partError struct {
	part string
	err  error
}

func (e *partError) Error() string { return e.part + ": " + e.err.Error() }
func (e *partError) Unwrap() error { return e.err }

func part(name string, err error) error {
	if err == nil {
		return nil
	}
	return &partError{name, err}
}

// explain turns an error into one line for the consoles:
// "refused: kernel: ..." if bytes came that must not be used, and
// "failed: kernel: ..." for everything else.
func explain(err error) string {
	verdict := "failed: "
	if refused(err) {
		verdict = "refused: "
	}
	name := ""
	var p *partError
	var d *download.Error
	switch {
	case errors.As(err, &d):
		name, err = d.What+": ", d.Err
	case errors.As(err, &p):
		name, err = p.part+": ", p.err
	}
	return console.Printable(verdict + name + reason(err))
}

// explainAll explains each of the errors that were joined, and what several of
// them say once.
func explainAll(err error) string {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return explain(err)
	}
	var parts []string
	for _, e := range joined.Unwrap() {
		if text := explain(e); !slices.Contains(parts, text) {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, "; ")
}

func refused(err error) bool {
	for _, r := range []error{
		digest.ErrMismatch, mirror.ErrRejected, mirror.ErrTooLarge, strictjson.ErrSyntax,
		clientsettings.ErrInvalid, clientsettings.ErrSignature, clientsettings.ErrOther, clientsettings.ErrExpired,
		catalog.ErrFormat, catalog.ErrSignature, catalog.ErrUnknownKey, catalog.ErrExpired, catalog.ErrRollback, catalog.ErrMismatch, catalog.ErrNotFound,
	} {
		if errors.Is(err, r) {
			return true
		}
	}
	var r *strictjson.RequiresError
	return errors.As(err, &r)
}

// reason says what err says, mirror by mirror, without paths of the store.
func reason(err error) string {
	var m *mirror.Error
	if !errors.As(err, &m) {
		return err.Error()
	}
	var parts []string
	for _, f := range m.Failures {
		parts = append(parts, fmt.Sprintf("%s (%s)", judged(f.Err), f.URL))
	}
	return strings.Join(parts, "; ")
}

// failing says what a mirror does.
func failing(url string, why error) string {
	what := strings.TrimPrefix(judged(why), mirror.ErrUnavailable.Error()+": ")
	return console.Printable(fmt.Sprintf("%s (%s)", what, url))
}

// judged returns what the judge of some bytes said about them, if that is why
// a mirror failed.
func judged(err error) string {
	var mismatch *digest.MismatchError
	if errors.As(err, &mismatch) {
		return fmt.Sprintf("it has SHA-256 %s there, but the catalog says %s", mismatch.Got.Short(), mismatch.Want.Short())
	}
	// Expired or not yet valid may be the clock's fault.
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return fmt.Sprintf("%v (this machine's clock says %s)", cert, stamp(time.Now()))
	}
	var request *url.Error
	if errors.As(err, &request) {
		if errors.Is(request.Err, io.EOF) {
			return "the server closed the connection without an answer"
		}
		var op *net.OpError
		if request.Timeout() && !errors.As(request.Err, &op) {
			return "the server does not answer" // but was connected to
		}
		return request.Err.Error() // without the URL, which follows
	}
	if m, ok := err.(interface{ Unwrap() []error }); ok {
		if all := m.Unwrap(); len(all) == 2 && all[0] == mirror.ErrRejected {
			// With what else is said, such as how many bytes there are.
			return strings.TrimPrefix(err.Error(), mirror.ErrRejected.Error()+": ")
		}
	}
	return err.Error()
}
