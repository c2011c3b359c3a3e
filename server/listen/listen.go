// Package listen takes connections for a server of large files: a bounded
// number at once, each of which can still send files by sendfile(2).
package listen

import (
	"context"
	"fmt"
	"net"
	"sync"
)

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
	return &conn{TCPConn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
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
