// Package listen takes connections for a server of large files: a bounded
// number at once, each of which can still send files by sendfile(2).
package listen

import (
	"context"
	"fmt"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// unsent is how many bytes the kernel takes for a connection beyond those
// that are on their way (TCP_NOTSENT_LOWAT, tcp(7)). Without it the first
// megabytes that a slow client asks for would vanish into the kernel, and
// whether the client takes anything could be seen only every few minutes.
const unsent = 256 << 10

// Listen announces the TCP address addr. At most limit connections are open
// at once; more wait until one ends.
func Listen(ctx context.Context, addr string, limit int) (net.Listener, error) {
	if limit < 1 {
		return nil, fmt.Errorf("listen on %s: %d connections at once, at least 1 is needed", addr, limit)
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return &listener{TCPListener: ln.(*net.TCPListener), slots: make(chan struct{}, limit), closed: make(chan struct{})}, nil
}

type listener struct {
	*net.TCPListener
	slots  chan struct{} // holds one element for each open connection
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.AcceptTCP()
	if err != nil {
		<-l.slots
		return nil, err
	}
	limitUnsent(c)
	return &conn{TCPConn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

// limitUnsent sets the limit on a connection, which does not inherit it. Where
// the kernel has no such thing, slow clients are judged more coarsely.
func limitUnsent(c *net.TCPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
	})
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.TCPListener.Close()
}

// conn is a TCPConn, and not just a net.Conn in a wrapper, because net/http
// finds sendfile through its ReadFrom.
type conn struct {
	*net.TCPConn
	release func()
}

func (c *conn) Close() error {
	defer c.release()
	return c.TCPConn.Close()
}
