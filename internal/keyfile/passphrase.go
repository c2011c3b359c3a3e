package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// MinPassphrase is the least number of bytes of a new passphrase, MaxPassphrase
// the most of any.
const (
	MinPassphrase = 8
	MaxPassphrase = 1 << 10
)

// ErrNoPassphrase is wrapped when a passphrase is needed and there is no way
// to get it, or it is none that can be used.
var ErrNoPassphrase = errors.New("no passphrase for the key")

// credentialsVariable is where systemd says in which folder a service's
// credentials are (systemd.exec(5), LoadCredential=).
const credentialsVariable = "CREDENTIALS_DIRECTORY"

// Credential returns the file of a systemd credential, "" if the service has no
// such one.
func Credential(name string) string {
	dir := os.Getenv(credentialsVariable)
	if dir == "" {
		return ""
	}
	file := filepath.Join(dir, name)
	if _, err := os.Lstat(file); err != nil {
		return ""
	}
	return file
}

// CheckNew returns an error that wraps ErrNoPassphrase if p is too short or too
// long for a new passphrase.
func CheckNew(p []byte) error {
	switch {
	case len(p) < MinPassphrase:
		return fmt.Errorf("%w: it has %d bytes, at least %d are needed", ErrNoPassphrase, len(p), MinPassphrase)
	case len(p) > MaxPassphrase:
		return fmt.Errorf("%w: it has more than %d bytes", ErrNoPassphrase, MaxPassphrase)
	}
	return nil
}

// ReadPassphrase reads a passphrase, the first line of a file; - is standard
// input, /dev/fd/N a descriptor. A file that others can read is refused with
// ErrOpen; other errors wrap ErrNoPassphrase. The caller overwrites what it
// gets after use.
func ReadPassphrase(name string) ([]byte, error) {
	if name == "-" {
		name = "/dev/stdin"
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: read it: %w", ErrNoPassphrase, err)
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: read it: %w", ErrNoPassphrase, err)
	}
	if mode := fi.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 && !ofCredential(name, mode) {
		return nil, fmt.Errorf("%w: %s with its passphrase has mode %04o: run chmod 600 on it", ErrOpen, name, mode.Perm())
	}
	data := make([]byte, MaxPassphrase+2)
	defer clear(data)
	n, err := io.ReadFull(file, data)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("%w: read it: %w", ErrNoPassphrase, err)
	}
	line, _, _ := bytes.Cut(data[:n], []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) > MaxPassphrase {
		return nil, fmt.Errorf("%w: %s is no file with a passphrase: it has more than %d bytes", ErrNoPassphrase, name, MaxPassphrase)
	}
	return bytes.Clone(line), nil
}

// ofCredential tells whether a file of mode 0440 is a credential: systemd lets
// the service's user read it by an access control list, whose mask stat(2)
// shows as the group's bits, in a folder that is closed to others.
func ofCredential(name string, mode os.FileMode) bool {
	dir := os.Getenv(credentialsVariable)
	return dir != "" && filepath.Dir(name) == filepath.Clean(dir) && mode.Perm()&^0o640 == 0
}
