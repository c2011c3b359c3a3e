package store

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/inetboot/inetboot/internal/digest"
)

// checkHash returns an error that wraps ErrRejected unless r hashes to want.
func checkHash(path string, want digest.SHA256, r io.Reader) error {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return fmt.Errorf("hash %s: %w", path, err)
	}
	if got := digest.SHA256(h.Sum(nil)); got != want {
		return fmt.Errorf("store %s: %w: %w", path, ErrRejected, &digest.MismatchError{What: path, Want: want, Got: got})
	}
	return nil
}

func newReader(b []byte) io.Reader { return bytes.NewReader(b) }
