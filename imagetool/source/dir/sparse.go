package dir

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/source"
)

// sparseFile reads a file with holes, and only what is between them.
type sparseFile struct {
	f    *os.File
	at   int64
	data int64 // end of the data that the reader is in; at most at: not known
	deaf bool  // the filesystem does not tell where holes are
}

var (
	_ io.ReadCloser      = (*sparseFile)(nil)
	_ source.HoleSkipper = (*sparseFile)(nil)
)

// SkipHole implements [source.HoleSkipper], see lseek(2).
func (s *sparseFile) SkipHole() (int64, error) {
	if s.deaf || s.at < s.data {
		return 0, nil
	}
	fd := int(s.f.Fd())
	next, err := unix.Seek(fd, s.at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // nothing but a hole, or the end
		if next, err = unix.Seek(fd, 0, unix.SEEK_END); err != nil {
			return 0, fmt.Errorf("find the end: %w", err)
		}
		n := max(next-s.at, 0)
		s.at = next
		s.data = next
		return n, nil
	case err != nil:
		s.deaf = true
		return 0, nil
	}
	end, err := unix.Seek(fd, next, unix.SEEK_HOLE)
	if err != nil || end <= next {
		s.deaf = true
		return 0, nil
	}
	n := next - s.at
	s.at, s.data = next, end
	return n, nil
}

func (s *sparseFile) Read(p []byte) (int, error) {
	if !s.deaf && s.at < s.data && int64(len(p)) > s.data-s.at {
		p = p[:s.data-s.at]
	}
	n, err := s.f.ReadAt(p, s.at)
	s.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (s *sparseFile) Close() error { return s.f.Close() }
