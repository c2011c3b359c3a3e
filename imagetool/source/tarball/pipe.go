package tarball

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// pipe reads a pipe, terminal or socket and ends with its context, also while
// nothing comes.
type pipe struct {
	ctx context.Context
	f   *os.File
}

// pollInterval is how soon a reader that waits notices the end of its context.
const pollInterval = 100 * time.Millisecond

func (p *pipe) Read(b []byte) (int, error) {
	fds := []unix.PollFd{{Fd: int32(p.f.Fd()), Events: unix.POLLIN}}
	for {
		if err := p.ctx.Err(); err != nil {
			return 0, err
		}
		n, err := unix.Poll(fds, int(pollInterval.Milliseconds()))
		if errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait for input: %w", err)
		}
		return p.f.Read(b)
	}
}

var _ io.Reader = (*pipe)(nil)

// isTerminal tells whether f is one, from which no tarball comes.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
