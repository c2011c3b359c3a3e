package push

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// known remembers the indexes of data files by fingerprints of the trees that
// they are of, so that a tree that has not changed is not read again. It is a
// folder of files that have the fingerprint as their name, and the hash of
// the rest in front. It is only a help: what cannot be read or written is as
// if it was not there.
type known struct{ dir string }

// maxKnownFiles is how many indexes are kept.
const maxKnownFiles = 32

func (k known) file(fingerprint digest.SHA256) string {
	return filepath.Join(k.dir, fingerprint.String())
}

// load returns the index of the data file whose tree has the fingerprint, or
// nil.
func (k known) load(fingerprint digest.SHA256) ([]byte, *index.Index) {
	if k.dir == "" {
		return nil, nil
	}
	f, err := os.Open(k.file(fingerprint))
	if err != nil {
		return nil, nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxIndexSize))
	if err != nil || len(data) < len(digest.SHA256{}) {
		return nil, nil
	}
	sum, raw := data[:len(digest.SHA256{})], data[len(digest.SHA256{}):]
	if have := digest.Of(raw); !bytes.Equal(have[:], sum) {
		return nil, nil
	}
	x, err := index.Parse(raw)
	if err != nil {
		return nil, nil
	}
	return raw, x
}

// save keeps the index.
func (k known) save(fingerprint digest.SHA256, raw []byte) {
	if k.dir == "" || os.MkdirAll(k.dir, 0o700) != nil {
		return
	}
	k.thin()
	f, err := os.CreateTemp(k.dir, ".new-*")
	if err != nil {
		return
	}
	sum := digest.Of(raw)
	_, err = f.Write(append(sum[:], raw...))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), k.file(fingerprint))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
}

// thin makes room by removing the oldest files.
func (k known) thin() {
	entries, err := os.ReadDir(k.dir)
	for err == nil && len(entries) >= maxKnownFiles {
		oldest := -1
		var info os.FileInfo
		for i, e := range entries {
			if fi, ierr := e.Info(); ierr == nil && (oldest < 0 || fi.ModTime().Before(info.ModTime())) {
				oldest, info = i, fi
			}
		}
		if oldest < 0 || os.Remove(filepath.Join(k.dir, info.Name())) != nil {
			return
		}
		entries = append(entries[:oldest], entries[oldest+1:]...)
	}
}

// reuse returns the data file's result if the tree was pushed before and the
// store has all of its blocks.
func (u *uploader) reuse(ctx context.Context, name string, raw []byte, x *index.Index) (*fileResult, error) {
	if x == nil {
		return nil, nil
	}
	var paths []string
	for i := range x.Len() {
		e := x.Entry(i)
		if e.Zero() {
			continue
		}
		// The catalog's images say how long blocks are; it has to be the same.
		if b := u.blocks[e.SHA256]; b != nil && b.present {
			if b.length != e.StoredLen {
				return nil, nil
			}
			continue
		}
		paths = append(paths, storepath.Block(e.SHA256))
	}
	missing, err := u.store.Missing(ctx, paths)
	if err != nil {
		return nil, fmt.Errorf("look for the blocks of the tree as it was before: %w", err)
	}
	if len(missing) > 0 {
		return nil, nil
	}
	u.add(x.Size())
	return newFileResult(name, raw, x), nil
}
