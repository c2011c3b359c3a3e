package nbd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Kept is a client between two requests, without a server.
type Kept struct {
	Conn net.Conn // is closed when Keep has returned: a duplicate stays
	// State is what the next server has to know: at most 255 printable ASCII
	// characters without a colon.
	State string
}

// errLeft says that the server ends and the client can be kept.
var errLeft = errors.New("the server ends")

// grace is for how long requests that are under way when the server ends are
// still answered.
const grace = 5 * time.Second

// leaving is a connection's part in the end of the server.
type leaving struct {
	mu      sync.Mutex
	end     time.Time // when the connection has to be left; zero: not now
	writing bool      // the data of a write are being read
	rest    []byte    // of a request that has come in part
}

func (l *leaving) left() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.end.IsZero()
}

// leave ends the connection's use between two requests, which is now if none
// is under way; cancel ends those that take longer than the grace.
func (c *conn) leave(cancel func()) {
	l := &c.leaving
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end = time.Now().Add(grace)
	if !l.writing {
		_ = c.c.SetReadDeadline(time.Now())
	}
	_ = c.c.SetWriteDeadline(l.end)
	time.AfterFunc(grace, func() {
		cancel()
		_ = c.c.Close()
	})
}

// expectWrite sets for how long the reader waits: for the next piece of a
// write's data, or for the next request.
func (c *conn) expectWrite(writing bool) {
	l := &c.leaving
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writing = writing
	until := l.end
	switch {
	case writing && l.end.IsZero():
		until = time.Now().Add(stalled)
	case !writing && !l.end.IsZero():
		until = time.Now()
	}
	_ = c.c.SetReadDeadline(until)
}

// keep gives the client away. Its requests have been answered.
func (c *conn) keep(e *Export) error {
	nc := c.c
	if k, ok := nc.(*keptConn); ok {
		nc = k.Conn
	}
	if err := c.s.Keep(Kept{Conn: nc, State: state{id: e.ID, structured: c.structured, rest: c.leaving.rest}.String()}); err != nil {
		return fmt.Errorf("keep the NBD client: %w", err)
	}
	return nil
}

// resume goes on with a client that was kept.
func (c *conn) resume(ctx context.Context, text string) (*Export, error) {
	st, err := parseState(text)
	if err != nil {
		return nil, err
	}
	if c.s.Resume == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknown, st.id)
	}
	c.structured = st.structured
	c.r = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(st.rest), c.c), 64<<10)
	return c.s.Resume(ctx, c.client, st.id)
}

// state is what has been agreed on with a client.
type state struct {
	id         string // of the export
	structured bool   // replies
	rest       []byte
}

// stateMark begins states, with their version.
const stateMark = "nbd1"

func (s state) String() string {
	replies := "simple"
	if s.structured {
		replies = "structured"
	}
	return strings.Join([]string{stateMark, s.id, replies, hex.EncodeToString(s.rest)}, ",")
}

func parseState(text string) (state, error) {
	f := strings.Split(text, ",")
	if len(f) != 4 || f[0] != stateMark || f[2] != "simple" && f[2] != "structured" {
		return state{}, fmt.Errorf("%.300q is not the state of an NBD client", text)
	}
	rest, err := hex.DecodeString(f[3])
	if err != nil {
		return state{}, fmt.Errorf("%.300q is not the state of an NBD client: %w", text, err)
	}
	return state{id: f[1], structured: f[2] == "structured", rest: rest}, nil
}

// IsState tells whether a text is the state of a client of NBD.
func IsState(text string) bool { _, err := parseState(text); return err == nil }

// withKept is a listener that accepts the clients of an earlier server first.
type withKept struct {
	net.Listener
	kept []Kept
}

// keptConn is a connection that is past its negotiation.
type keptConn struct {
	net.Conn
	state string
}

func (l *withKept) Accept() (net.Conn, error) {
	if len(l.kept) > 0 {
		k := l.kept[0]
		l.kept = l.kept[1:]
		return &keptConn{Conn: k.Conn, state: k.State}, nil
	}
	return l.Listener.Accept()
}
