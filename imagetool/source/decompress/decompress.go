// Package decompress unpacks single blocks of images of filesystems and disks.
// Its functions fill out and return how many bytes there were; a block that has
// more is an error. They are safe for concurrent use.
package decompress

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"

	"github.com/anchore/go-lzo"
	"github.com/pierrec/lz4/v4"
	"github.com/therootcompany/xz"
)

// ErrLong is returned for a block that has more bytes than out has room for.
var ErrLong = errors.New("it has more bytes than a block")

// Zlib unpacks a stream as in RFC 1950.
func Zlib(out, in []byte) (int, error) {
	r, err := zlib.NewReader(bytes.NewReader(in))
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return fill(out, r)
}

// XZ unpacks a stream of xz(1) with a dictionary of at most dict bytes.
func XZ(out, in []byte, dict uint32) (int, error) {
	r, err := xz.NewReader(bytes.NewReader(in), dict)
	if err != nil {
		return 0, err
	}
	return fill(out, r)
}

// LZ4 unpacks one block of LZ4, without a frame.
func LZ4(out, in []byte) (int, error) { return lz4.UncompressBlock(in, out) }

// LZO unpacks one block of LZO1X.
func LZO(out, in []byte) (int, error) { return lzo.Decompress(in, out) }

// fill reads r to its end into out.
func fill(out []byte, r io.Reader) (int, error) {
	n, err := io.ReadFull(r, out)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return n, nil
	case err != nil:
		return n, err
	}
	var one [1]byte
	if m, err := io.ReadFull(r, one[:]); m > 0 || !errors.Is(err, io.EOF) {
		if err == nil {
			err = ErrLong
		}
		return n, err
	}
	return n, nil
}
