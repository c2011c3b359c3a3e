package root

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/inetboot/inetboot/blockfs/cut"
)

// Image writes the tree as one EROFS that mounts by itself: the metadata, and
// behind them the contents, as in the data file. Where w is an [io.WriteSeeker]
// that sparse is set for, holes of files stay holes. add is told of bytes of
// contents. It returns the length of the image.
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
		if _, werr := w.Write(buf[:n]); werr != nil {
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
