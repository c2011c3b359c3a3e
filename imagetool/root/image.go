package root

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/inetboot/inetboot/blockfs/cut"
)

// Image writes the tree as one EROFS that mounts by itself: the metadata, and
// behind them the contents, as in the data file. If w is a file, sparse is the
// same one: pages of zeros become holes in it. add is told of bytes of contents.
// It returns the length of the image, which the file may be shorter than.
func (p *Plan) Image(ctx context.Context, w io.Writer, sparse io.Seeker, add func(int64)) (length int64, err error) {
	if length, err = p.meta(w, true); err != nil {
		return 0, err
	}
	in := p.Data(ctx)
	defer in.Close()
	holes := in.(cut.ZeroSkipper)
	buf := make([]byte, readBuffer)
	for {
		if sparse != nil {
			if n := holes.SkipZeros(PageSize); n > 0 {
				if _, err := sparse.Seek(n, io.SeekCurrent); err != nil {
					return 0, fmt.Errorf("write the EROFS image: %w", err)
				}
				length += n
				add(n)
			}
		}
		n, err := in.Read(buf)
		if werr := writePages(w, sparse, buf[:n]); werr != nil {
			return 0, fmt.Errorf("write the EROFS image: %w", werr)
		}
		length += int64(n)
		add(int64(n))
		if errors.Is(err, io.EOF) {
			return length, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// writePages writes b, and moves over pages of zeros if sparse is not nil.
func writePages(w io.Writer, sparse io.Seeker, b []byte) error {
	for len(b) > 0 {
		n := 0
		for sparse != nil && bytes.HasPrefix(b[n:], zeroPage[:]) {
			n += PageSize
		}
		if n > 0 {
			if _, err := sparse.Seek(int64(n), io.SeekCurrent); err != nil {
				return err
			}
			b = b[n:]
			continue
		}
		for n < len(b) && (sparse == nil || !bytes.HasPrefix(b[n:], zeroPage[:])) {
			n = min(n+PageSize, len(b))
		}
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
