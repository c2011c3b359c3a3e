// Package setup makes the server's data folder at the first start.
package setup

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Folder is the server's data.
type Folder struct {
	Path  string
	First bool   // it was made just now
	Token string // what publishers have to show
}

// Store is the folder of the store itself, which any web server can serve.
func (f *Folder) Store() string { return filepath.Join(f.Path, "store") }

// Temp is where uploads wait; it is on the store's file system.
func (f *Folder) Temp() string { return filepath.Join(f.Path, "tmp") }

// TokenFile is the file that holds the token.
func (f *Folder) TokenFile() string { return filepath.Join(f.Path, "token") }

// Default returns the data folder for this user: /var/lib/inetboot for root.
func Default() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/inetboot", nil
	}
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "inetboot"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for the data (or give --data): %w", err)
	}
	return filepath.Join(home, ".local", "share", "inetboot"), nil
}

// Open opens the data folder. Where there is none it is made, with a random
// token that only its owner can read.
func Open(path string) (*Folder, error) {
	f := &Folder{Path: path}
	if err := os.MkdirAll(f.Store(), 0o755); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	raw, err := os.ReadFile(f.TokenFile())
	if errors.Is(err, fs.ErrNotExist) {
		f.First = true
		f.Token, err = newToken(f.TokenFile())
		return f, err
	}
	if err != nil {
		return nil, fmt.Errorf("read the token: %w", err)
	}
	f.Token = strings.TrimSpace(string(raw))
	if len(f.Token) < 16 {
		return nil, fmt.Errorf("the token in %s has %d characters, at least 16 are needed: remove the file to get a new one", f.TokenFile(), len(f.Token))
	}
	return f, nil
}

func newToken(file string) (string, error) {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	token := hex.EncodeToString(b)
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("keep the token: %w", err)
	}
	if _, err := out.WriteString(token + "\n"); err != nil {
		out.Close()
		return "", fmt.Errorf("keep the token: %w", err)
	}
	if err := errors.Join(out.Sync(), out.Close()); err != nil {
		return "", fmt.Errorf("keep the token: %w", err)
	}
	return token, nil
}
