// Package setup makes the server's data folder at the first start.
package setup

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// MinToken is the least number of characters of a token.
const MinToken = 16

// ErrInUse is wrapped when another process has the folder.
var ErrInUse = errors.New("another server uses it")

// Folder is the server's data.
type Folder struct {
	Path      string
	First     bool               // it, or its token, was made just now
	Token     string             // what publishers have to show
	TokenFile string             // the file that holds the token; empty if it came from elsewhere
	Online    ed25519.PrivateKey // signs snapshot and timestamp of the catalog
	Settings  ed25519.PrivateKey // signs the settings of machines; never leaves the server
	Encrypted bool               // the file of a key was encrypted just now; it had not been before

	lock *os.File
}

// Store is the folder of the store itself, which any web server can serve.
func (f *Folder) Store() string { return filepath.Join(f.Path, "store") }

// Boots is the folder of what machines report about their boots.
func (f *Folder) Boots() string { return filepath.Join(f.Path, "boots") }

// Temp is where uploads wait; it is on the store's file system.
func (f *Folder) Temp() string { return filepath.Join(f.Path, "tmp") }

// TokenIn returns the file that holds the token of a data folder.
func TokenIn(path string) string { return filepath.Join(path, "token") }

// Close lets others have the folder.
func (f *Folder) Close() error { return f.lock.Close() }

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

// Source says where the token comes from: itself, or a file. If both are
// empty it is the data folder's own file.
type Source struct {
	Token, File string
}

// Open opens the data folder for one server at a time; errors wrap ErrInUse
// if there is another one. What is not there is made: the folder, and a file
// with a random token that only its owner can read, and one with the key that
// signs snapshot and timestamp and the one that signs machines' settings,
// encrypted if there is a passphrase.
func Open(path string, token Source, key Passphrase) (*Folder, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	f := &Folder{Path: path}
	if _, err := os.Stat(f.Store()); errors.Is(err, fs.ErrNotExist) {
		f.First = true
	}
	if err := os.MkdirAll(f.Store(), 0o755); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	// The folder itself is locked; the lock ends with the process, however
	// it ends.
	if f.lock, err = os.Open(path); err != nil {
		return nil, fmt.Errorf("open the data folder: %w", err)
	}
	if err := unix.Flock(int(f.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, fmt.Errorf("open the data folder %s: %w", path, err)
	}
	if err = f.openKeys(key); err == nil {
		err = f.openToken(token)
	}
	if err != nil {
		f.lock.Close()
		return nil, err
	}
	return f, nil
}

// openKeys opens the server's two keys.
func (f *Folder) openKeys(p Passphrase) error {
	for _, k := range []struct {
		name string
		to   *ed25519.PrivateKey
	}{{filepath.Join(f.Path, keyFile), &f.Online}, {SettingsKeyIn(f.Path), &f.Settings}} {
		key, encrypted, err := openKey(k.name, p)
		if err != nil {
			return err
		}
		*k.to, f.Encrypted = key, f.Encrypted || encrypted
	}
	return nil
}

func (f *Folder) openToken(s Source) error {
	if s.Token != "" {
		f.Token = s.Token
		return long(s.Token, "the token in the environment", "give a longer one")
	}
	f.TokenFile = s.File
	if s.File == "" {
		f.TokenFile = TokenIn(f.Path)
	}
	var err error
	if f.Token, err = ReadToken(f.TokenFile); errors.Is(err, fs.ErrNotExist) {
		f.First = true
		f.Token, err = newToken(f.TokenFile)
	}
	return err
}

// ReadToken reads a token from its file.
func ReadToken(file string) (string, error) {
	in, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	defer in.Close()
	raw, err := io.ReadAll(io.LimitReader(in, 4096))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	return token, long(token, "the token in "+file, "remove the file to get a new one")
}

func long(token, what, remedy string) error {
	if len(token) < MinToken {
		return fmt.Errorf("%s has %d characters, at least %d are needed: %s", what, len(token), MinToken, remedy)
	}
	return nil
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
	_, err = out.WriteString(token + "\n")
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		// Half a token would stop every later start.
		return "", fmt.Errorf("keep the token: %w", errors.Join(err, os.Remove(file)))
	}
	return token, nil
}
