package tftp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// maxQuick bounds the quickSockets: each takes a thread while it waits.
const maxQuick = 32

// sendTimeout is how long a packet may wait for room in the kernel.
const sendTimeout = 5 * time.Second

// quickSocket is a socket that is read in the kernel by the thread that wants
// the packet. On a short line, where a block's turn takes some ten
// microseconds, waking a goroutine by way of the runtime's poller would be a good
// part of that. Other transfers, when there are many, use the poller.
type quickSocket struct {
	fd   int
	free func() // its place
	look look

	mu   sync.Mutex
	over bool // no more waiting
	done bool // closed
}

var _ socket = (*quickSocket)(nil)

// dialQuick opens one for IPv4; local may be none. free is called when it is
// closed, or cannot be opened.
func dialQuick(local netip.Addr, peer netip.AddrPort, looking *atomic.Bool, free func()) (_ *quickSocket, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		free()
		return nil, err
	}
	q := &quickSocket{fd: fd, free: free, look: look{turn: looking}}
	tv := unix.NsecToTimeval(int64(sendTimeout))
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT) // see dial
	}
	if err == nil && local.IsValid() && !local.IsUnspecified() {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: local.As4()})
	}
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: peer.Addr().As4(), Port: int(peer.Port())})
	}
	if err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return q, nil
}

// Read implements socket.
func (q *quickSocket) Read(p []byte) (int, error) {
	for {
		n, ok, err := q.look.read(q.fd, p)
		if !ok {
			n, err = unix.Read(q.fd, p)
		}
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return 0, os.ErrDeadlineExceeded
		case err != nil:
			return 0, fmt.Errorf("read: %w", err)
		case n == 0 && q.ended():
			return 0, os.ErrDeadlineExceeded
		}
		return n, nil
	}
}

func (q *quickSocket) ended() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.over
}

// Write implements socket.
func (q *quickSocket) Write(p []byte) (int, error) {
	for {
		n, err := unix.Write(q.fd, p)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("write: %w", err)
		}
		return n, nil
	}
}

// SetReadDeadline implements socket. Unlike the others it may be called by
// anybody at any time.
func (q *quickSocket) SetReadDeadline(t time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.done || q.over {
		return nil
	}
	d := time.Until(t)
	if d <= 0 {
		q.over = true
		// Wakes whoever waits.
		_ = unix.Shutdown(q.fd, unix.SHUT_RD)
		return nil
	}
	tv := unix.NsecToTimeval(int64(max(d, time.Millisecond)))
	if err := unix.SetsockoptTimeval(q.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return fmt.Errorf("set a deadline: %w", err)
	}
	return nil
}

// Close implements socket. Nobody may read or write any more.
func (q *quickSocket) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.done {
		return nil
	}
	q.done = true
	q.free()
	return unix.Close(q.fd)
}
