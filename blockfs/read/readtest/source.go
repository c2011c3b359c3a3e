package readtest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// Store runs the tests that every read.Store has to pass. open returns the
// Store for the files in dir; files may change after it was opened.
func Store(t *testing.T, open func(t *testing.T, dir string) read.Store) {
	enc, err := block.NewEncoder(3, 1)
	if err != nil {
		t.Fatal(err)
	}
	put := func(t *testing.T, dir string, plain []byte) index.Entry {
		stored := enc.Encode(nil, plain)
		e := index.Entry{PlainLen: len(plain), StoredLen: len(stored), SHA256: digest.Of(plain)}
		WriteFile(t, dir, storepath.Block(e.SHA256), stored)
		return e
	}

	t.Run("blocks", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		for i, plain := range [][]byte{{7}, Noise(70_000, 1), Mixed(1<<20, 2), make([]byte, 1<<20), Noise(1<<20, 3)} {
			e := put(t, dir, plain)
			for _, hint := range []int{e.StoredLen, 1, 1 << 30} {
				e.StoredLen = hint
				buf := make([]byte, 0, len(plain)+block.Slack)
				got, err := s.Block(t.Context(), e, buf)
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("Block(%d) with hint %d = %d bytes, %v; want the content", i, hint, len(got), err)
				} else if &got[0] != &buf[:1][0] {
					t.Errorf("Block(%d) is not in the buffer given", i)
				}
				if got, err := s.Block(t.Context(), e, nil); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("Block(%d) without a buffer = %d bytes, %v; want the content", i, len(got), err)
				}
			}
		}
	})

	t.Run("bad blocks", func(t *testing.T) {
		plain := Mixed(300_000, 4)
		good := enc.Encode(nil, plain)
		sum := digest.Of(plain)
		flipped := bytes.Clone(good)
		flipped[len(flipped)/2] ^= 1
		tests := []struct {
			name   string
			stored []byte
			want   error // nil: any
		}{
			{"missing", nil, read.ErrNotFound},
			{"truncated", good[:len(good)/2], block.ErrFormat},
			{"empty", []byte{}, block.ErrFormat},
			{"changed", flipped, nil},
			{"other content", enc.Encode(nil, Mixed(300_000, 5)), digest.ErrMismatch},
			{"other length", enc.Encode(nil, plain[1:]), block.ErrFormat},
			{"oversized", append(bytes.Clone(good), make([]byte, 1<<20)...), nil},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				dir := t.TempDir()
				s := open(t, dir)
				if tt.stored != nil {
					WriteFile(t, dir, storepath.Block(sum), tt.stored)
				}
				got, err := s.Block(t.Context(), index.Entry{PlainLen: len(plain), StoredLen: len(good), SHA256: sum}, nil)
				if err == nil || got != nil || tt.want != nil && !errors.Is(err, tt.want) {
					t.Fatalf("Block = %d bytes, %v; want an error that wraps %v", len(got), err, tt.want)
				}
				if errors.Is(err, read.ErrUnavailable) {
					t.Errorf("Block = %v; want an error that is permanent", err)
				}
				WriteFile(t, dir, storepath.Block(sum), good)
				if got, err := s.Block(t.Context(), index.Entry{PlainLen: len(plain), StoredLen: len(good), SHA256: sum}, nil); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("Block after repair = %d bytes, %v; want the content", len(got), err)
				}
			})
		}
	})

	t.Run("index", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		blob := Write(t, dir, Mixed(3<<20, 6))
		for _, want := range []digest.Blob{blob, {SHA256: blob.SHA256}} {
			x, err := s.Index(t.Context(), "index of data", want)
			if err != nil || x.Size() != 3<<20 {
				t.Fatalf("Index(%v) = %v, %v; want one of a file with 3 MiB", want, x, err)
			}
		}
		if x, err := s.Index(t.Context(), "index of data", digest.Blob{SHA256: blob.SHA256, Size: blob.Size - 1}); err == nil || x != nil {
			t.Errorf("Index with another size = %v, %v; want an error", x, err)
		}
		if _, err := s.Index(t.Context(), "index of data", digest.Blob{SHA256: digest.Of(nil)}); !errors.Is(err, read.ErrNotFound) {
			t.Errorf("Index that is missing = %v; want ErrNotFound", err)
		}
		name := filepath.Join(dir, filepath.FromSlash(storepath.Index(blob.SHA256)))
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)-1] ^= 1
		WriteFile(t, dir, storepath.Index(blob.SHA256), raw)
		x, err := s.Index(t.Context(), "index of data", blob)
		if !errors.Is(err, digest.ErrMismatch) || x != nil {
			t.Errorf("Index that was changed = %v, %v; want digest.ErrMismatch", x, err)
		}
	})

	t.Run("context", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		e := put(t, dir, []byte("x"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Block(ctx, e, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("Block with a context that has ended = %v; want context.Canceled", err)
		}
	})

	t.Run("concurrent", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		var wg sync.WaitGroup
		for i := range 8 {
			plain := Mixed(200_000+i, uint64(i))
			e := put(t, dir, plain)
			for range 4 {
				wg.Go(func() {
					if got, err := s.Block(t.Context(), e, nil); err != nil || !bytes.Equal(got, plain) {
						t.Errorf("Block = %d bytes, %v; want the content", len(got), err)
					}
				})
			}
		}
		wg.Wait()
	})
}
