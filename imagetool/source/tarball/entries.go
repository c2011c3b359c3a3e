package tarball

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/source"
)

// Input is a tarball, decompressed: At with Size, which is read where it lies,
// or Stream, whose contents go into Spool.
type Input struct {
	At     io.ReaderAt
	Size   int64
	Stream io.Reader
	Spool  *source.Spool // of a Stream, and of sparse files
	Name   string        // for messages

	// Whiteouts has names that begin with .wh. take away what is below.
	Whiteouts bool
	// Layer lets the mark at the end of a tarball be missing, and the tarball
	// be empty, since layers are known to be whole by their digests.
	Layer bool

	place    inPlace // opens what lies in At
	progress *progress
}

// Entries adds what is in a tarball to b. Names that lead outside, entries
// that lie in a symbolic link, and tarballs that end too early are refused.
func Entries(ctx context.Context, b *source.Builder, in *Input) error {
	r := &reader{ctx: ctx, b: b, in: in}
	err := r.read()
	switch {
	case err == nil, errors.Is(err, source.ErrNoRoom), errors.Is(err, source.ErrUnreadable), ctx.Err() != nil:
		return err
	case errors.Is(err, source.ErrRefused):
		return fmt.Errorf("%s: %w", in.Name, err)
	}
	return fmt.Errorf("%w: %s: %w", source.ErrUnreadable, in.Name, err)
}

// maxTrailer bounds the zeros behind the end of a tarball, in bytes; tar -b
// takes up to 32 MiB.
const maxTrailer = 64 << 20

// reader reads one tarball.
type reader struct {
	ctx     context.Context
	b       *source.Builder
	in      *Input
	raw     *ends
	section *io.SectionReader // of At
	inode   uint64
	count   int
	lists   []namedList // with names that have to be looked up
}

func (r *reader) read() error {
	var stream io.Reader
	if r.in.At != nil {
		r.section = io.NewSectionReader(r.in.At, 0, r.in.Size)
		s := &seekEnds{ends: ends{ctx: r.ctx, r: r.section}, s: r.section}
		r.raw, stream = &s.ends, s
	} else {
		r.raw = &ends{ctx: r.ctx, r: r.in.Stream}
		stream = r.raw
	}
	r.in.place.r = r.in.At
	tr := tar.NewReader(stream)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if errors.Is(err, tar.ErrHeader) && r.count == 0 {
				return errors.New("this is no tarball, nor one compressed with gzip, xz, zstd or bzip2")
			}
			return r.truncated(err)
		}
		if err := r.entry(tr, h); err != nil {
			return err
		}
		r.count++
		if r.section != nil {
			at, err := r.section.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			r.in.progress.at(at)
		}
	}
	if r.count == 0 && !r.in.Layer {
		return errors.New("no tarball, or an empty one")
	}
	if err := r.finish(); err != nil {
		return err
	}
	return r.namedLists()
}

func (r *reader) truncated(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("it ends in the middle, after %d entries: it is not whole", r.count)
	}
	return err
}

// finish reads to the end, so that the checksums of a compressed tarball are
// looked at, and sees whether there is something else.
func (r *reader) finish() error {
	// The mark, two blocks of zeros, ends the loop without a look behind it.
	if !r.in.Layer && r.raw.atEnd {
		return fmt.Errorf("it ends without the mark of the end, after %d entries: it is not whole", r.count)
	}
	buf := make([]byte, 64<<10)
	left := int64(maxTrailer)
	for {
		n, err := r.raw.Read(buf)
		if !r.in.Layer && len(bytes.Trim(buf[:n], "\x00")) > 0 {
			return errors.New("there is more behind its end: several tarballs in one file are not read")
		}
		if left -= int64(n); left < 0 {
			return fmt.Errorf("%w: more than %d MiB follow its end", source.ErrRefused, maxTrailer>>20)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return r.truncated(err)
		}
	}
}

// ends is a reader that knows whether it has come to its end, and ends with
// its context.
type ends struct {
	ctx   context.Context
	r     io.Reader
	atEnd bool // said so
}

func (e *ends) Read(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := e.r.Read(p)
	if errors.Is(err, io.EOF) {
		if n > 0 {
			return n, nil // comes again with the next call
		}
		e.atEnd = true
	}
	return n, err
}

// seekEnds is ends for a file in which contents are skipped.
type seekEnds struct {
	ends
	s io.Seeker
}

func (e *seekEnds) Seek(offset int64, whence int) (int64, error) { return e.s.Seek(offset, whence) }

// inPlace opens contents that lie in a tarball.
type inPlace struct{ r io.ReaderAt }

var _ source.Contents = (*inPlace)(nil)

func (c *inPlace) Open(e *source.Entry) (io.ReadCloser, error) {
	return source.Section(c.r, e.Place, e.Size), nil
}

// entry adds one entry.
func (r *reader) entry(tr *tar.Reader, h *tar.Header) error {
	p, err := source.CleanPath(h.Name)
	if err != nil {
		return err
	}
	if r.in.Whiteouts && r.whiteout(p) {
		return nil
	}
	e := &source.Entry{
		Path: p, Mode: uint32(h.Mode) & 0o7777,
		Sec: h.ModTime.Unix(), Nsec: uint32(h.ModTime.Nanosecond()),
	}
	if e.UID, err = owner(h.Uid); err != nil {
		return fmt.Errorf("/%s: %w", p, err)
	}
	if e.GID, err = owner(h.Gid); err != nil {
		return fmt.Errorf("/%s: %w", p, err)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, '7':
		e.Mode |= source.TypeRegular
		return r.regular(tr, h, e)
	case tar.TypeLink:
		to, err := source.CleanPath(h.Linkname)
		if err != nil {
			return fmt.Errorf("/%s is a hard link to another place: %w", p, err)
		}
		return r.b.Link(p, to)
	case tar.TypeSymlink:
		e.Mode = source.TypeSymlink | 0o777
		e.Target = h.Linkname
	case tar.TypeDir:
		e.Mode |= source.TypeDir
	case tar.TypeChar, tar.TypeBlock:
		e.Mode |= map[byte]uint32{tar.TypeChar: source.TypeChar, tar.TypeBlock: source.TypeBlock}[h.Typeflag]
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return fmt.Errorf("/%s is the device %d:%d, which Linux cannot have", p, h.Devmajor, h.Devminor)
		}
		e.Rdev = uint32(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	case tar.TypeFifo:
		e.Mode |= source.TypeFIFO
	case tar.TypeXGlobalHeader:
		for k := range h.PAXRecords {
			if k != "comment" {
				r.b.Note("%s: %s for all of the tarball is not heeded", r.in.Name, k)
			}
		}
		return nil
	case 'V': // GNU tar's label of a volume
		return nil
	default:
		r.b.Note("an entry of the unknown type %q is left out: /%s", string(h.Typeflag), p)
		return nil
	}
	if !e.IsDir() {
		r.inode++
		e.Inode = r.inode
	}
	r.attributes(h, e)
	return r.b.Add(e)
}

// noOwner is what system calls take for "no owner".
const noOwner = 1<<32 - 1

func owner(id int) (uint32, error) {
	if id < 0 || int64(id) >= noOwner {
		return 0, fmt.Errorf("%w: the owner %d is not one that Linux can have", source.ErrRefused, id)
	}
	return uint32(id), nil
}

// regular adds a file with its content.
func (r *reader) regular(tr *tar.Reader, h *tar.Header, e *source.Entry) error {
	e.Size = h.Size
	r.inode++
	e.Inode = r.inode
	r.attributes(h, e)
	// Limits first: what is too large is not spooled.
	if err := r.b.Add(e); err != nil || e.Size == 0 {
		return err
	}
	have := r.b.Lookup(e.Path)
	if r.section != nil && !sparse(h) {
		at, err := r.section.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if at+e.Size > r.in.Size {
			return fmt.Errorf("it ends in the middle of /%s: it is not whole", e.Path)
		}
		have.Contents, have.Place = &r.in.place, at
		return nil
	}
	if err := r.in.Spool.Add(have, tr, e.Size); err != nil {
		return fmt.Errorf("/%s: %w", e.Path, r.truncated(err))
	}
	return nil
}

func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// whiteout does what p means in a layer, if it stands for something that is
// taken away.
func (r *reader) whiteout(p string) bool {
	dir, name := "", p
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		dir, name = p[:i], p[i+1:]
	}
	rest, ok := strings.CutPrefix(name, source.WhiteoutPrefix)
	switch {
	case !ok || rest == "":
		return false
	case name == source.WhiteoutOpaque:
		r.b.Opaque(dir)
	case strings.HasPrefix(rest, source.WhiteoutPrefix): // .wh..wh.plnk and the like: of AUFS itself
	case dir == "":
		r.b.Remove(rest)
	default:
		r.b.Remove(dir + "/" + rest)
	}
	return true
}
