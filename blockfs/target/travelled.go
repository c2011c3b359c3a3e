package target

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/inetboot/inetboot/internal/handoff"
)

// maxTravelled bounds, in bytes, what the daemon keeps of the files that
// travelled with the handoff: they are a few megabytes, but indexes of very
// large roots, which are read and let go.
const maxTravelled = 16 << 20

// Travelled reads what travelled with the handoff, which is gone when the
// initramfs is emptied, and returns a look-up by path (handoff.IndexPath,
// handoff.StorePath).
func Travelled(h *handoff.Handoff) (func(path string) ([]byte, error), error) {
	files := make(map[string][]byte)
	total := 0
	add := func(path string, must bool) error {
		st, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // of an older medium: it is fetched
		}
		if err != nil {
			return fmt.Errorf("read what came with the handoff: %w", err)
		}
		if !must && (st.Size() > maxTravelled || total+int(st.Size()) > maxTravelled) {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read what came with the handoff: %w", err)
		}
		files[path] = b
		total += len(b)
		return nil
	}
	for _, f := range h.Root.Files {
		if err := add(handoff.IndexPath(f.Index.SHA256), true); err != nil {
			return nil, err
		}
	}
	for _, f := range h.Keep {
		if err := add(handoff.StorePath(f.Path), false); err != nil {
			return nil, err
		}
	}
	return func(path string) ([]byte, error) {
		if b, ok := files[path]; ok {
			return b, nil
		}
		return nil, fmt.Errorf("%s did not come with the handoff: %w", path, fs.ErrNotExist)
	}, nil
}
