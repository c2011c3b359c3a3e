package image

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/fstype"
	"github.com/inetboot/inetboot/imagetool/source/partition"
	"github.com/inetboot/inetboot/imagetool/source/tarball"
)

const (
	headLength = 192 << 10 // bytes that tell what an image is
	chunk      = 64 << 10  // bytes; those that are zero become holes
	maxImage   = 1 << 43   // bytes of a decompressed image
)

// IsCompressed tells whether the file at name is a compressed image: gzip,
// bzip2, xz or Zstandard, as disk images are published.
func IsCompressed(name string) (bool, error) {
	f, _, err := open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	z, err := decompress(f)
	if z == nil || err != nil {
		return false, nil // who reads it as something else says what is wrong
	}
	defer z.Close()
	head := make([]byte, headLength)
	n, err := io.ReadFull(z, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, nil
	}
	head = head[:n]
	if archive(bytes.NewReader(head)) {
		return false, nil
	}
	// What is behind the head is not known: zeros.
	r := &padded{head}
	if kind, err := fstype.Probe(r, maxImage); err != nil || kind != fstype.Unknown {
		return kind != fstype.Unknown, err
	}
	_, err = partition.Read(r, maxImage)
	return err == nil || errors.Is(err, partition.ErrRefused), nil
}

// decompress returns nil for a file that is not compressed.
func decompress(f *os.File) (io.ReadCloser, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(f, 1<<20)
	magic, err := in.Peek(tarball.MagicLength)
	if err != nil || tarball.Compression(magic) == "" {
		return nil, nil
	}
	return tarball.Decompress(in)
}

// padded reads as a head with zeros behind it.
type padded struct{ head []byte }

func (p *padded) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	if off >= 0 && off < int64(len(p.head)) {
		copy(b, p.head[off:])
	}
	return len(b), nil
}

// ReadCompressed implements [source.Reader] for a compressed image. The image
// goes through a temporary file, because it is read at random.
func ReadCompressed(ctx context.Context, b *source.Builder, name string, o source.Options) error {
	f, size, err := open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := decompress(f)
	if err == nil && z == nil {
		err = errors.New("it is not compressed")
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", source.ErrUnreadable, name, err)
	}
	defer z.Close()
	plain, err := source.TempFile(o.TempDir)
	if err != nil {
		return err
	}
	b.OnClose(plain)
	n, err := spool(ctx, plain, z, func() {
		if o.Progress == nil {
			return
		}
		if at, err := f.Seek(0, io.SeekCurrent); err == nil {
			o.Progress(at, size)
		}
	})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if rerr := source.RoomError(err); errors.Is(rerr, source.ErrNoRoom) {
			return rerr
		}
		return fmt.Errorf("%w: decompress %s: %w", source.ErrUnreadable, name, err)
	}
	return readFile(ctx, b, plain, n, name, o)
}

// spool copies r to f, with holes where there are zeros.
func spool(ctx context.Context, f *os.File, r io.Reader, progress func()) (n int64, err error) {
	buf, zero := make([]byte, chunk), make([]byte, chunk)
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		k, err := io.ReadFull(r, buf)
		if k > 0 && !bytes.Equal(buf[:k], zero[:k]) {
			if _, err := f.WriteAt(buf[:k], n); err != nil {
				return n, err
			}
		}
		if n += int64(k); n > maxImage {
			return n, fmt.Errorf("more than %d bytes", int64(maxImage))
		}
		progress()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return n, f.Truncate(n)
		}
		if err != nil {
			return n, err
		}
	}
}
