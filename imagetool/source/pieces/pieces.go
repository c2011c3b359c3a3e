// Package pieces reads disks that images have in pieces of one length.
package pieces

import (
	"errors"
	"io"
)

// ReadAt reads like [io.ReaderAt] from a disk of size bytes, which lies in
// pieces of length bytes; the last one may be cut off. read fills all of part
// from the piece with a number, counted from 0, at skip bytes from its
// beginning. It is never asked for more than the piece has. Its errors are
// returned as they are.
func ReadAt(p []byte, off, size, length int64, read func(part []byte, piece, skip int64) error) (n int, err error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= size {
		return 0, io.EOF
	}
	if int64(len(p)) > size-off {
		p, err = p[:size-off], io.EOF
	}
	for n < len(p) {
		at := off + int64(n)
		piece, skip := at/length, at%length
		part := p[n:]
		part = part[:min(int64(len(part)), length-skip)]
		if err := read(part, piece, skip); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, err
}
