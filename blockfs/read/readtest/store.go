// Package readtest has what tests of block sources share: small stores and the
// tests that every Source has to pass.
package readtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/cut"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// Noise returns n bytes that do not compress.
func Noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	var s [32]byte
	s[0], s[1], s[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	rand.NewChaCha8(s).Read(b)
	return b
}

// Mixed returns n bytes: noise, text and holes in turn.
func Mixed(n int, seed uint64) []byte {
	var b bytes.Buffer
	b.Grow(n + 1<<20)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for b.Len() < n {
		k := 4096 * (1 + rnd.IntN(150))
		switch rnd.IntN(5) {
		case 0, 1:
			b.Write(Noise(k, rnd.Uint64()))
		case 2, 3:
			for end := b.Len() + k; b.Len() < end; {
				fmt.Fprintf(&b, "entry %d of a text that compresses\n", rnd.Uint32()%100_000)
			}
		default:
			b.Write(make([]byte, k))
		}
	}
	return b.Bytes()[:n]
}

// Write writes data's blocks and index into the store in dir, cut at pages, and
// returns the index's name.
func Write(t testing.TB, dir string, data []byte) digest.Blob {
	t.Helper()
	enc, err := block.NewEncoder(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := index.Builder{Cutting: index.CutPages}
	buf := make([]byte, 0, cut.Max)
	for c := cut.Pages(bytes.NewReader(data)); ; {
		ch, err := c.Next(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if ch.Zero > 0 {
			b.AddZero(ch.Zero)
			continue
		}
		stored := enc.Encode(nil, ch.Data)
		sum := digest.Of(ch.Data)
		b.Add(len(ch.Data), len(stored), sum)
		WriteFile(t, dir, storepath.Block(sum), stored)
	}
	raw, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	blob := digest.BlobOf(raw)
	WriteFile(t, dir, storepath.Index(blob.SHA256), raw)
	return blob
}

// WriteFile writes one file of a store.
func WriteFile(t testing.TB, dir, path string, data []byte) {
	t.Helper()
	name := filepath.Join(dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
