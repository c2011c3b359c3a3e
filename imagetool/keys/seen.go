package keys

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

const (
	seenDir    = "seen"            // in a key folder
	seenFormat = "inetboot-seen/1" // value of "format"
	maxSeen    = 64 << 20          // bytes
)

// ErrSeen is wrapped when what is remembered of a store cannot be used.
var ErrSeen = errors.New("what was seen of the store cannot be used")

// Trust is where trust in the catalogs of stores begins, and the newest ones
// that were seen, behind which a store must not go back.
type Trust struct {
	Anchor *catalog.Anchor
	dir    string // of what was seen; "": nothing is remembered
}

// Believe returns a Trust that begins at anchor and remembers nothing.
func Believe(anchor *catalog.Anchor) Trust { return Trust{Anchor: anchor} }

// LoadTrust returns the Trust of the key folder dir. Private keys are not
// needed.
func LoadTrust(dir string) (Trust, error) {
	anchor, _, err := LoadRoot(filepath.Join(dir, RootFile))
	return Trust{anchor, filepath.Join(dir, seenDir)}, err
}

// Trust returns that of the folder. Its anchor is nil before there is a root.
func (f *Folder) Trust() Trust { return Trust{f.Anchor, filepath.Join(f.Dir, seenDir)} }

// seen is what is kept of a store's catalog: metadata as they were signed.
type seen struct {
	Format string     `json:"format"`
	Store  string     `json:"store"`
	Files  []tuf.File `json:"files"`
}

// Read makes seen a source of its files.
func (s *seen) Read(_ context.Context, path string, _ []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	for _, f := range s.Files {
		if f.Path != path {
			continue
		}
		if int64(len(f.Data)) > limit {
			return nil, fmt.Errorf("%s has %d bytes, at most %d are allowed", path, len(f.Data), limit)
		}
		return f.Data, accept(f.Data)
	}
	return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
}

// File returns where what was seen of a store is kept.
func (t Trust) File(store string) string {
	return filepath.Join(t.dir, digest.Of([]byte(store)).Short()+".json")
}

// Floor returns what was seen of a store as far as it leads back to the anchor,
// nil for nothing. What keys have signed that have been replaced since does not
// count. Errors wrap ErrSeen.
func (t Trust) Floor(ctx context.Context, store string) (*tuf.Trusted, error) {
	if t.dir == "" || t.Anchor == nil {
		return nil, nil
	}
	s, err := t.read(store)
	if s == nil || err != nil {
		return nil, err
	}
	floor, _ := tuf.Floor(ctx, t.Anchor, s) // as far as it goes
	return floor, ctx.Err()
}

func (t Trust) read(store string) (*seen, error) {
	name := t.File(store)
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeen, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSeen+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeen, err)
	}
	var s seen
	if err = json.Unmarshal(data, &s); err == nil && s.Format != seenFormat {
		err = fmt.Errorf("format %.40q", s.Format)
	}
	if err != nil || len(data) > maxSeen {
		return nil, fmt.Errorf("%w: %s is damaged: %w: remove it, and compare the store's catalog (imagetool ls) with what it should be", ErrSeen, name, err)
	}
	return &s, nil
}

// Remember keeps the catalog of a store as what was seen. That it cannot be
// written, because somebody else's key folder is used, changes nothing now.
func (t Trust) Remember(store string, c *tuf.Trusted) {
	if t.dir == "" || t.Anchor == nil {
		return
	}
	// What the anchor does not know of roots, and what says what is newest.
	keep := map[string]bool{storepath.Timestamp: true}
	for v := t.Anchor.Root().Version() + 1; v <= c.Root().Version(); v++ {
		keep[storepath.RoleMetadata(tuf.RoleRoot, v)] = true
	}
	if c.Snapshot() != nil {
		keep[storepath.RoleMetadata(tuf.RoleSnapshot, c.Snapshot().Version())] = true
	}
	s := seen{Format: seenFormat, Store: store}
	for _, f := range c.Files() {
		if keep[f.Path] {
			s.Files = append(s.Files, f)
		}
	}
	data, err := json.Marshal(s)
	if err != nil || len(data) > maxSeen {
		return
	}
	name := t.File(store)
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, data) {
		return
	}
	if err := os.MkdirAll(t.dir, 0o700); err == nil {
		_ = replaceFile(name, data)
	}
}

// Forget forgets what was seen of a store, because another one begins there.
func (t Trust) Forget(store string) error {
	if t.dir == "" {
		return nil
	}
	if err := os.Remove(t.File(store)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget what was seen of %s: %w", store, err)
	}
	return nil
}
