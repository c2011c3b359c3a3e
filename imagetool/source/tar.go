package source

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// maxEntries bounds the number of names in a tarball.
const maxEntries = 10_000_000

// maxZstdWindow is what zstd --long=31 needs.
const maxZstdWindow = 2 << 30

// openTar reads a tarball. The contents of an uncompressed one are read from
// where they lie; those of a compressed one go through a file in the
// temporary folder, because they are needed in another order.
func openTar(ctx context.Context, name string, o Options) (_ *Tree, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	counted := &counter{ctx: ctx, f: f, total: fi.Size(), progress: o.Progress}
	plain, in, err := decompressor(counted, f)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnreadable, name, err)
	}
	defer in.Close()

	sp := &spool{dir: o.TempDir}
	defer func() {
		if err != nil {
			_ = sp.Close()
		}
	}()
	if !plain {
		if err := sp.reserve(fi.Size()); err != nil {
			return nil, err
		}
	}

	t := &Tree{byPath: make(map[string]*Entry)}
	if err := t.readTar(ctx, in, counted, plain, sp); err != nil {
		if errors.Is(err, ErrNoRoom) || ctx.Err() != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %s: %w", ErrUnreadable, name, err)
	}
	t.assemble()
	t.content = func(e *Entry) (io.ReadCloser, error) {
		if e.spooled {
			return io.NopCloser(io.NewSectionReader(sp.f, e.offset, e.Size)), nil
		}
		return io.NopCloser(io.NewSectionReader(f, e.offset, e.Size)), nil
	}
	t.close = func() error { return errors.Join(sp.Close(), f.Close()) }
	return t, nil
}

// decompressor finds out by the first bytes how in is compressed. plain says
// that it is not.
func decompressor(in *counter, f *os.File) (plain bool, out io.ReadCloser, err error) {
	var magic [6]byte
	n, err := f.ReadAt(magic[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, nil, err
	}
	m := magic[:n]
	buffered := func() *bufio.Reader { return bufio.NewReaderSize(in, 1<<20) }
	switch {
	case bytes.HasPrefix(m, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(buffered())
		return false, r, err
	case bytes.HasPrefix(m, []byte("BZh")):
		return false, io.NopCloser(bzip2.NewReader(buffered())), nil
	case bytes.HasPrefix(m, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		r, err := xz.NewReader(buffered())
		if err != nil {
			return false, nil, err
		}
		return false, io.NopCloser(r), nil
	case bytes.HasPrefix(m, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(m) >= 4 && m[0]&0xf0 == 0x50 && bytes.Equal(m[1:4], []byte{0x2a, 0x4d, 0x18}):
		r, err := zstd.NewReader(buffered(), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return false, nil, err
		}
		return false, r.IOReadCloser(), nil
	}
	return true, io.NopCloser(in), nil
}

// readTar fills t. Only what the tarball's own names say is believed: names
// that lead outside are refused.
func (t *Tree) readTar(ctx context.Context, in io.Reader, pos *counter, plain bool, sp *spool) error {
	stream := in
	if plain {
		stream = pos // has Seek, so that contents are skipped instead of read
	}
	tr := tar.NewReader(stream)
	var inode uint64
	t.root = &Entry{Mode: TypeDir | 0o755}
	t.byPath[""] = t.root
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(t.byPath) > maxEntries {
			return fmt.Errorf("more than %d names", maxEntries)
		}
		p, err := tarPath(h.Name)
		if err != nil {
			return err
		}
		e := &Entry{
			Path: p, Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid),
			Sec: h.ModTime.Unix(), Nsec: uint32(h.ModTime.Nanosecond()),
		}
		for k, v := range h.PAXRecords {
			name, ok := strings.CutPrefix(k, "SCHILY.xattr.")
			switch {
			case strings.HasPrefix(k, "SCHILY.acl."):
				t.note("access control lists in the form of tar --acls are left out, the first is of /%s: use tar --xattrs --xattrs-include='*' or the directory itself", p)
			case !ok:
			case !keepXattr(name) || len(name) > maxXattrName || len(v) > maxXattrValue:
				t.note("extended attributes %s are left out, the first is of /%s", name, p)
			default:
				if e.Xattrs == nil {
					e.Xattrs = make(map[string]string)
				}
				e.Xattrs[name] = v
			}
		}
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeGNUSparse, '7':
			e.Mode |= TypeRegular
			e.Size = h.Size
			inode++
			e.inode = [2]uint64{0, inode}
			if plain && !sparse(h) {
				e.offset = pos.at
				if e.offset+e.Size > pos.total {
					return fmt.Errorf("the tarball ends in the middle of /%s", p)
				}
			} else if e.Size > 0 {
				e.spooled = true
				if e.offset, err = sp.add(tr, e.Size); err != nil {
					return fmt.Errorf("/%s: %w", p, err)
				}
			}
		case tar.TypeLink:
			lp, err := tarPath(h.Linkname)
			if err != nil {
				return err
			}
			to := t.byPath[lp]
			if to == nil || to.IsDir() {
				return fmt.Errorf("/%s is a hard link to /%s, which is not in the tarball before it", p, lp)
			}
			if to.inode == [2]uint64{} {
				inode++
				to.inode = [2]uint64{0, inode}
			}
			link := *to
			link.Path = p
			e = &link
		case tar.TypeSymlink:
			e.Mode = TypeSymlink | 0o777
			e.Target = h.Linkname
		case tar.TypeDir:
			e.Mode |= TypeDir
		case tar.TypeChar:
			e.Mode |= TypeChar
			e.Rdev = uint32(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
		case tar.TypeBlock:
			e.Mode |= TypeBlock
			e.Rdev = uint32(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
		case tar.TypeFifo:
			e.Mode |= TypeFIFO
		default:
			t.note("an entry of the unknown type %q is left out: /%s", string(h.Typeflag), p)
			continue
		}
		if err := t.addTar(e); err != nil {
			return err
		}
	}
	if len(t.byPath) == 1 {
		return errors.New("no tarball, or an empty one")
	}
	return nil
}

// addTar puts e into the tree. As with tar itself, a later entry replaces an
// earlier one of the same name.
func (t *Tree) addTar(e *Entry) error {
	if e.Path == "" {
		if !e.IsDir() {
			return errors.New("the root is not a directory")
		}
		*t.root = *e
		return nil
	}
	for d := path.Dir("/" + e.Path)[1:]; d != ""; d = path.Dir("/" + d)[1:] {
		if have := t.byPath[d]; have != nil {
			if !have.IsDir() {
				return fmt.Errorf("/%s lies in /%s, which is not a directory", e.Path, d)
			}
			break
		}
		t.byPath[d] = &Entry{Path: d, Mode: TypeDir | 0o755}
	}
	if old := t.byPath[e.Path]; old != nil && old.IsDir() != e.IsDir() {
		return fmt.Errorf("/%s is a directory and something else", e.Path)
	}
	t.byPath[e.Path] = e
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

// tarPath returns the path that a name in a tarball stands for.
func tarPath(name string) (string, error) {
	for el := range strings.SplitSeq(name, "/") {
		if el == ".." {
			return "", fmt.Errorf("the name %q leads outside of the tarball", name)
		}
		if len(el) > 255 {
			return "", fmt.Errorf("the name %.60q… has an element of more than 255 bytes", name)
		}
	}
	if len(name) > 4096 || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("the name %.60q… is too long or has a zero byte", name)
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/"), nil
}

// counter reads a file and knows where it is.
type counter struct {
	ctx      context.Context
	f        *os.File
	at       int64
	total    int64
	progress func(done, total int64)
}

func (c *counter) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.f.Read(p)
	c.at += int64(n)
	if c.progress != nil {
		c.progress(c.at, c.total)
	}
	return n, err
}

func (c *counter) Seek(offset int64, whence int) (int64, error) {
	at, err := c.f.Seek(offset, whence)
	if err == nil {
		c.at = at
		if c.progress != nil {
			c.progress(c.at, c.total)
		}
	}
	return at, err
}

// spool is a temporary file for contents. It has no name, so nothing is left
// behind however the program ends.
type spool struct {
	dir string
	f   *os.File
	end int64
}

// reserve makes sure that there are about twice as many bytes free as a
// compressed tarball has, so that hopeless cases end at once.
func (s *spool) reserve(compressed int64) error {
	dir := s.dir
	if dir == "" {
		dir = os.TempDir()
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNoRoom, dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < 2*compressed {
		return fmt.Errorf("%w: %s has %d MB free, unpacking needs more than %d MB: name another folder with --tmp", ErrNoRoom, dir, free>>20, 2*compressed>>20)
	}
	return nil
}

func (s *spool) add(r io.Reader, size int64) (offset int64, err error) {
	if s.f == nil {
		f, err := os.CreateTemp(s.dir, "inetboot-source-*")
		if err != nil {
			return 0, fmt.Errorf("%w: %w", ErrNoRoom, err)
		}
		_ = os.Remove(f.Name())
		s.f = f
	}
	n, err := io.CopyN(s.f, r, size)
	offset = s.end
	s.end += n
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return 0, fmt.Errorf("%w: after %d MB: name another folder with --tmp: %w", ErrNoRoom, s.end>>20, err)
	}
	return offset, err
}

func (s *spool) Close() error {
	if s.f == nil {
		return nil
	}
	return s.f.Close()
}
