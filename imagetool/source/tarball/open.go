// Package tarball reads a tree from a tarball: ustar, pax and GNU tar's own
// formats, with sparse files, extended attributes and access control lists as
// GNU tar, star and libarchive write them.
//
// Nothing is unpacked. The contents of a plain tarball are read from where
// they lie in it; those of a compressed one, or of a stream, go through a
// spool.
package tarball

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/inetboot/inetboot/imagetool/source"
)

// Read adds the tree of the tarball name to b: a file, or "-" for standard
// input.
func Read(ctx context.Context, b *source.Builder, name string, o source.Options) error {
	f, stream := os.Stdin, true
	if name == "-" {
		name = "standard input"
		if isTerminal(f) {
			return fmt.Errorf("%w: standard input is a terminal: send a tarball there, as with tar -c … | imagetool push -", source.ErrUnreadable)
		}
		if at, err := f.Seek(0, io.SeekCurrent); err == nil && at == 0 {
			fi, err := f.Stat()
			stream = err != nil || !fi.Mode().IsRegular()
		}
	} else {
		var err error
		if f, err = os.Open(name); err != nil {
			return fmt.Errorf("%w: %w", source.ErrUnreadable, err)
		}
		b.OnClose(f)
		fi, err := f.Stat()
		if err != nil {
			return fmt.Errorf("%w: %w", source.ErrUnreadable, err)
		}
		stream = !fi.Mode().IsRegular()
	}
	if stream {
		return ReadStream(ctx, b, &pipe{ctx, f}, -1, name, o)
	}
	return readFile(ctx, b, f, name, o)
}

// readFile reads a tarball that can be sought in.
func readFile(ctx context.Context, b *source.Builder, f *os.File, name string, o source.Options) error {
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	size := fi.Size()
	p := &progress{total: size, report: o.Progress}
	magic := make([]byte, MagicLength)
	n, err := f.ReadAt(magic, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %s: %w", source.ErrUnreadable, name, err)
	}
	spool := source.NewSpool(o.TempDir)
	b.OnClose(spool)
	if Compression(magic[:n]) == "" {
		return Entries(ctx, b, &Input{At: f, Size: size, Spool: spool, Name: name, Whiteouts: o.Whiteouts, progress: p})
	}
	// What cannot fit is said now and not in half an hour.
	if err := spool.Reserve(2 * size); err != nil {
		return err
	}
	return readStream(ctx, b, &counter{r: f, p: p}, spool, name, o)
}

// ReadStream adds the tree of the tarball that r returns to b. total is about
// how many bytes that will be, or negative. name is for messages.
func ReadStream(ctx context.Context, b *source.Builder, r io.Reader, total int64, name string, o source.Options) error {
	spool := source.NewSpool(o.TempDir)
	b.OnClose(spool)
	return readStream(ctx, b, &counter{r: r, p: &progress{total: total, report: o.Progress}}, spool, name, o)
}

func readStream(ctx context.Context, b *source.Builder, r io.Reader, spool *source.Spool, name string, o source.Options) error {
	in, err := Decompress(bufio.NewReaderSize(r, 1<<20))
	if err != nil {
		return fmt.Errorf("%w: %s: %w", source.ErrUnreadable, name, err)
	}
	defer in.Close()
	return Entries(ctx, b, &Input{Stream: in, Spool: spool, Name: name, Whiteouts: o.Whiteouts})
}

// progress reports how far something is.
type progress struct {
	done, total int64
	report      func(done, total int64)
}

func (p *progress) at(done int64) {
	if p == nil || p.report == nil || done == p.done {
		return
	}
	p.done = done
	p.report(done, p.total)
}

// counter counts what is read.
type counter struct {
	r io.Reader
	p *progress
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	c.p.at(c.n)
	return n, err
}
