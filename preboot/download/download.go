// Package download brings an image's kernel, initrd and indexes into memory.
// It takes images, not manifests: an image is what the signed catalog vouches
// for.
package download

import (
	"context"
	"fmt"
	"io"
	"net/http/httptrace"
	"sync"
	"sync/atomic"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// Source is where files come from. *mirror.Client is one.
type Source interface {
	Download(ctx context.Context, path string, want digest.Blob, w io.WriterAt, progress func(int64)) error
}

// Files is what an image needs to start.
type Files struct {
	Kernel  *File
	Initrd  *File    // nil if the image has none
	Below   []*File  // the hypervisor and its further modules; nil if the image has none
	Indexes [][]byte // in the order of the root's files
}

// Close gives the memory back.
func (f *Files) Close() {
	for _, x := range append([]*File{f.Kernel, f.Initrd}, f.Below...) {
		if x != nil {
			x.Close()
		}
	}
	f.Indexes = nil
}

// Error says which of an image's files could not be had.
type Error struct {
	What string // "kernel", "initrd", "index meta"
	Err  error
}

func (e *Error) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// maxIndex bounds an index: 64 + 40 bytes for each of 2^24 blocks
// (docs/formats.md).
const maxIndex = 64 + 40<<24

// Progress is told how far a download is. It is called from several
// goroutines, each time with all numbers.
type Progress func(Sizes)

// Sizes counts bytes.
type Sizes struct {
	Kernel, KernelTotal int64 // with a hypervisor and its modules
	Initrd, InitrdTotal int64
	Index, IndexTotal   int64
}

// Done returns how many bytes are there.
func (s Sizes) Done() int64 { return s.Kernel + s.Initrd + s.Index }

// Total returns how many there will be.
func (s Sizes) Total() int64 { return s.KernelTotal + s.InitrdTotal + s.IndexTotal }

// Fetch downloads what the image needs, nearly all of it at the same time, and
// compares every hash. Indexes, which are small, are asked for right behind the
// others: so what is larger gets the connections that are there already, over
// which bytes come a round trip earlier. done, unless nil, is told when "kernel", "initrd"
// and "index NAME" are complete. The first failure ends the rest and is returned as *Error.
// The initrds of more follow the image's own in the same file.
func Fetch(ctx context.Context, src Source, img *catalog.Image, progress Progress, done func(string), more ...*catalog.Image) (_ *Files, err error) {
	man := img.Manifest()
	files := &Files{Indexes: make([][]byte, len(man.Root.Files))}
	defer func() {
		if err != nil {
			files.Close()
		}
	}()
	var kernel, initrd atomic.Int64
	extra := make([]atomic.Int64, len(more))
	blobs := below(&man)
	lower := make([]atomic.Int64, len(blobs))
	index := make([]atomic.Int64, len(man.Root.Files))
	total := Sizes{KernelTotal: man.Kernel.Size, InitrdTotal: man.Initrd.Size}
	for _, b := range blobs {
		total.KernelTotal += b.Size
	}
	for _, m := range more {
		total.InitrdTotal += m.Manifest().Initrd.Size
	}
	for _, f := range man.Root.Files {
		if f.Index.Size > maxIndex {
			return nil, &Error{What: "index " + f.Name, Err: fmt.Errorf("%w: it has %d bytes, at most %d are allowed", catalog.ErrFormat, f.Index.Size, int64(maxIndex))}
		}
		total.IndexTotal += f.Index.Size
	}
	report := func(to *atomic.Int64) func(int64) {
		return func(n int64) {
			to.Store(n)
			if progress == nil {
				return
			}
			s := total
			s.Kernel, s.Initrd = kernel.Load(), initrd.Load()
			for i := range lower {
				s.Kernel += lower[i].Load()
			}
			for i := range extra {
				s.Initrd += extra[i].Load()
			}
			for i := range index {
				s.Index += index[i].Load()
			}
			progress(s)
		}
	}
	if files.Kernel, err = newFile("kernel"); err != nil {
		return nil, err
	}
	if total.InitrdTotal > 0 {
		if files.Initrd, err = newFile("initrd"); err != nil {
			return nil, err
		}
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var begun sync.WaitGroup // files that have a connection, or need a new one
	get := func(what, path string, want digest.Blob, w io.WriterAt, n *atomic.Int64) {
		begun.Add(1)
		begin := sync.OnceFunc(begun.Done)
		wg.Go(func() {
			defer begin()
			if err := src.Download(connecting(ctx, begin), path, want, w, report(n)); err != nil {
				cancel(&Error{What: what, Err: err})
			} else if done != nil {
				done(what)
			}
		})
	}
	get("kernel", storepath.File(man.Kernel.SHA256), man.Kernel.Blob, files.Kernel, &kernel)
	if man.Initrd.Size > 0 {
		get("initrd", storepath.File(man.Initrd.SHA256), man.Initrd, files.Initrd, &initrd)
	}
	for i, b := range blobs {
		f, err := newFile("hypervisor")
		if err != nil {
			cancel(err)
			break
		}
		files.Below = append(files.Below, f)
		what := "hypervisor"
		if i > 0 {
			what = fmt.Sprintf("hypervisor's module %d", i)
		}
		get(what, storepath.File(b.SHA256), b, f, &lower[i])
	}
	at := man.Initrd.Size
	for i, m := range more {
		at = aligned(at)
		blob := m.Manifest().Initrd
		get(fmt.Sprintf("initrd %d", i+2), storepath.File(blob.SHA256), blob, io.NewOffsetWriter(files.Initrd, at), &extra[i])
		at += blob.Size
	}
	begun.Wait()
	for i, f := range man.Root.Files {
		files.Indexes[i] = make([]byte, f.Index.Size)
		get("index "+f.Name, storepath.Index(f.Index.SHA256), f.Index, sliceWriter(files.Indexes[i]), &index[i])
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return files, nil
}

// connecting calls begin when a request has got a connection, or makes one.
func connecting(ctx context.Context, begin func()) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:      func(httptrace.GotConnInfo) { begin() },
		DNSStart:     func(httptrace.DNSStartInfo) { begin() },
		ConnectStart: func(_, _ string) { begin() },
	})
}

// below returns the hypervisor and its further modules.
func below(man *catalog.Manifest) []digest.Blob {
	if man.Hypervisor == nil {
		return nil
	}
	out := []digest.Blob{man.Hypervisor.Blob}
	for _, m := range man.Hypervisor.Modules {
		out = append(out, m.Blob)
	}
	return out
}

// sliceWriter writes into memory of the right length.
type sliceWriter []byte

func (s sliceWriter) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(b)) > int64(len(s)) {
		return 0, io.ErrShortWrite
	}
	return copy(s[off:], b), nil
}
