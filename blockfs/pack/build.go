package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
)

// Writer writes a pack. The header comes last, because it counts the records.
type Writer struct {
	dst    io.WriteSeeker
	header Header
	stored int64
	err    error
}

// NewWriter begins a pack at the beginning of dst, which has to be empty.
func NewWriter(dst io.WriteSeeker, manifest digest.SHA256) (*Writer, error) {
	if _, err := dst.Write(make([]byte, HeaderLength)); err != nil {
		return nil, fmt.Errorf("write the boot pack: %w", err)
	}
	return &Writer{dst: dst, header: Header{Manifest: manifest, Bytes: HeaderLength}}, nil
}

// fits tells whether n more stored bytes can be in the pack.
func (w *Writer) fits(n int) bool {
	return w.header.Records < MaxRecords && w.stored+int64(n) <= MaxStored
}

// Add appends a block.
func (w *Writer) Add(plainLen int, sum digest.SHA256, stored []byte) error {
	if w.err != nil {
		return w.err
	}
	if !w.fits(len(stored)) {
		return invalid("more than %d records or %d stored bytes", MaxRecords, MaxStored)
	}
	rec := Record{PlainLen: plainLen, StoredLen: len(stored), SHA256: sum}
	head := rec.encode()
	if _, err := parseRecord((*[RecordLength]byte)(head)); err != nil {
		return err
	}
	for _, b := range [][]byte{head, stored} {
		if _, err := w.dst.Write(b); err != nil {
			w.err = fmt.Errorf("write the boot pack: %w", err)
			return w.err
		}
	}
	w.header.Records++
	w.header.Bytes += int64(len(head) + len(stored))
	w.stored += int64(len(stored))
	return nil
}

// Close writes the header. It does not close what it writes to. Without a
// record the error wraps ErrEmpty.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if w.header.Records == 0 {
		return fmt.Errorf("write the boot pack: %w", ErrEmpty)
	}
	_, err := w.dst.Seek(0, io.SeekStart)
	if err == nil {
		_, err = w.dst.Write(w.header.encode())
	}
	if err == nil {
		_, err = w.dst.Seek(0, io.SeekEnd)
	}
	if err != nil {
		w.err = fmt.Errorf("write the boot pack: %w", err)
	}
	return w.err
}

// Source has blocks as they are stored.
type Source interface {
	// Stored returns the bytes that a store has for e, in buf's memory if
	// they fit. An error that wraps fs.ErrNotExist says that there are none.
	Stored(ctx context.Context, e index.Entry, buf []byte) ([]byte, error)
}

// Built says what is in a pack.
type Built struct {
	Header
	Plain   int64 // bytes of its blocks
	Stored  int64 // their bytes in the pack
	Missing int   // blocks left out, because the source lacks them or has other bytes
	Over    int   // blocks left out at the end, because the pack would be too long
}

// Build writes the pack of the given blocks, in their order, to dst, which has
// to be empty. The same blocks as they are stored give the same bytes. A block
// that the source does not have, or not rightly, is left out. Without a block
// left the error wraps ErrEmpty.
func Build(ctx context.Context, dst io.WriteSeeker, manifest digest.SHA256, blocks []index.Entry, src Source) (Built, error) {
	var b Built
	w, err := NewWriter(dst, manifest)
	if err != nil {
		return b, err
	}
	seen := make(map[digest.SHA256]bool, len(blocks))
	buf := make([]byte, 0, block.MaxStored(block.MaxPlain))
	plain := make([]byte, 0, block.MaxPlain+block.Slack)
	for i, e := range blocks {
		if err := ctx.Err(); err != nil {
			return b, fmt.Errorf("build the boot pack: %w", err)
		}
		if e.Zero() || seen[e.SHA256] {
			continue
		}
		seen[e.SHA256] = true
		stored, err := src.Stored(ctx, e, buf)
		if err == nil {
			_, err = block.Decode(plain, stored, e.PlainLen, e.SHA256)
		}
		switch {
		case err == nil:
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, digest.ErrMismatch), errors.Is(err, block.ErrFormat):
			b.Missing++
			continue
		default:
			return b, fmt.Errorf("build the boot pack: %w", err)
		}
		if !w.fits(len(stored)) {
			b.Over = len(blocks) - i
			break
		}
		if err := w.Add(e.PlainLen, e.SHA256, stored); err != nil {
			return b, err
		}
		b.Plain += int64(e.PlainLen)
	}
	b.Header, b.Stored = w.header, w.stored
	return b, w.Close()
}
