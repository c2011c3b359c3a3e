package store

import (
	"errors"
	"fmt"
	"os"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// ErrMalformed is wrapped when a block or an index is not of its format.
var ErrMalformed = errors.New("malformed")

const maxPlain = 1 << 20

var maxStoredBlock = int64(block.MaxStored(maxPlain))

// check compares a block or an index with its name and its format.
func check(kind storepath.Kind, p string, sum digest.SHA256, data []byte) error {
	if kind == storepath.KindIndex {
		if err := sum.Check(p, data); err != nil {
			return err
		}
		if _, err := index.Parse(data); err != nil {
			return fmt.Errorf("%s: %w: %w", p, ErrMalformed, err)
		}
		return nil
	}
	var head zstd.Header
	if err := head.Decode(data); err != nil {
		return fmt.Errorf("%s: %w: %w", p, ErrMalformed, err)
	}
	if !head.HasFCS || head.FrameContentSize == 0 || head.FrameContentSize > maxPlain {
		return fmt.Errorf("%s: %w: the frame says %d plain bytes, want 1 to %d", p, ErrMalformed, head.FrameContentSize, maxPlain)
	}
	if _, err := block.Decode(nil, data, int(head.FrameContentSize), sum); err != nil {
		if errors.Is(err, digest.ErrMismatch) {
			return err
		}
		return fmt.Errorf("%s: %w: %w", p, ErrMalformed, err)
	}
	return nil
}

// syncFS forces everything on f's file system to the disk.
func syncFS(f *os.File) error { return unix.Syncfs(int(f.Fd())) }
