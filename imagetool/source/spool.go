package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// TempDir returns the folder for temporary files that may be large: dir if it
// is not empty, $TMPDIR, or /var/tmp, which unlike /tmp is on a disk
// (hier(7)), if it is there.
func TempDir(dir string) string {
	if dir != "" {
		return dir
	}
	if dir = os.Getenv("TMPDIR"); dir != "" {
		return dir
	}
	if fi, err := os.Stat("/var/tmp"); err == nil && fi.IsDir() {
		return "/var/tmp"
	}
	return os.TempDir()
}

// TempFile returns a new temporary file without a name, so nothing is left
// behind however the program ends.
func TempFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(TempDir(dir), "inetboot-*")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRoom, err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("make a temporary file: %w", err), f.Close())
	}
	return f, nil
}

// RoomError says that a temporary file could not be written, and what to do,
// if there is no room; other errors it returns as they are.
func RoomError(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: name another folder with --tmp: %w", ErrNoRoom, err)
	}
	return err
}

// spoolUnit is the granularity in which zeros are left out of a spool.
const spoolUnit = 4096

// Spool keeps contents that come in an order in which they are not needed, in
// a temporary file. Pages of zeros are not stored. Contents are kept until it
// is closed.
type Spool struct {
	dir string
	f   *os.File
	buf []byte
	end int64 // of what is stored

	mu    sync.RWMutex
	files [][]extent // by place; of files with holes
}

// extent is a piece of a file's content in a spool.
type extent struct{ at, stored, length int64 }

// NewSpool returns an empty spool. dir is as for TempDir. The file is made
// when something is stored.
func NewSpool(dir string) *Spool { return &Spool{dir: dir} }

var _ Contents = (*Spool)(nil)

// Reserve makes sure that there is about as much room, so that hopeless cases
// end at once.
func (s *Spool) Reserve(size int64) error {
	dir := TempDir(s.dir)
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNoRoom, dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < size {
		return fmt.Errorf("%w: %s has %d MB free, more than %d MB are needed: name another folder with --tmp", ErrNoRoom, dir, free>>20, size>>20)
	}
	return nil
}

// Stored returns how many bytes lie in the spool.
func (s *Spool) Stored() int64 { return s.end }

// Add stores size bytes of r as the content of e.
func (s *Spool) Add(e *Entry, r io.Reader, size int64) error {
	if s.f == nil {
		f, err := TempFile(s.dir)
		if err != nil {
			return err
		}
		s.f = f
		s.buf = make([]byte, 64*spoolUnit)
	}
	start := s.end
	var extents []extent
	holes := false
	for at := int64(0); at < size; {
		n := int(min(size-at, int64(len(s.buf))))
		if _, err := io.ReadFull(r, s.buf[:n]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		for from := 0; from < n; {
			to := from
			for to < n && !isZero(s.buf[to:min(to+spoolUnit, n)]) {
				to += spoolUnit
			}
			if to = min(to, n); to > from {
				if _, err := s.f.WriteAt(s.buf[from:to], s.end); err != nil {
					return RoomError(fmt.Errorf("keep contents: %w", err))
				}
				x := extent{at + int64(from), s.end, int64(to - from)}
				if k := len(extents) - 1; k >= 0 && extents[k].at+extents[k].length == x.at {
					extents[k].length += x.length
				} else {
					extents = append(extents, x)
				}
				s.end += x.length
			}
			from = to
			for from < n && isZero(s.buf[from:min(from+spoolUnit, n)]) {
				holes = true
				from += spoolUnit
			}
		}
		at += int64(n)
	}
	e.Contents, e.Place = s, start
	if holes {
		s.mu.Lock()
		s.files = append(s.files, slices.Clip(extents))
		e.Place = -int64(len(s.files))
		s.mu.Unlock()
	}
	return nil
}

var zeroUnit [spoolUnit]byte

func isZero(b []byte) bool { return bytes.Equal(b, zeroUnit[:len(b)]) }

// Open implements [Contents].
func (s *Spool) Open(e *Entry) (io.ReadCloser, error) {
	if e.Place >= 0 {
		return Section(s.f, e.Place, e.Size), nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return &sparseReader{f: s.f, extents: s.files[-e.Place-1], size: e.Size}, nil
}

// Close removes what is stored.
func (s *Spool) Close() error {
	if s.f == nil {
		return nil
	}
	return s.f.Close()
}

// Section returns n bytes of r as the content of a file. It is an
// [io.ReaderAt] as well.
func Section(r io.ReaderAt, offset, n int64) io.ReadCloser {
	return &section{io.NewSectionReader(r, offset, n)}
}

type section struct{ *io.SectionReader }

func (*section) Close() error { return nil }

// sparseReader reads a file of which only extents are stored.
type sparseReader struct {
	f       io.ReaderAt
	extents []extent // those that are not read yet
	at      int64
	size    int64
}

var _ HoleSkipper = (*sparseReader)(nil)

func (r *sparseReader) Close() error { return nil }

// hole returns the length of the hole at the reader's place.
func (r *sparseReader) hole() int64 {
	for len(r.extents) > 0 && r.at >= r.extents[0].at+r.extents[0].length {
		r.extents = r.extents[1:]
	}
	if len(r.extents) == 0 {
		return r.size - r.at
	}
	return max(r.extents[0].at-r.at, 0)
}

func (r *sparseReader) SkipHole() (int64, error) {
	n := r.hole()
	r.at += n
	return n, nil
}

func (r *sparseReader) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if h := r.hole(); h > 0 {
		n := int(min(h, int64(len(p))))
		clear(p[:n])
		r.at += int64(n)
		return n, nil
	}
	x := r.extents[0]
	skip := r.at - x.at
	n, err := r.f.ReadAt(p[:min(int64(len(p)), x.length-skip)], x.stored+skip)
	r.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}
