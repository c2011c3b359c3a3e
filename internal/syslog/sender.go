package syslog

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of a Sender.
const (
	queueLength  = 512 // lines; some 500 kB at most
	dialTimeout  = 10 * time.Second
	writeTimeout = 10 * time.Second
	firstPause   = time.Second // after a failure, doubled each time
	lastPause    = 30 * time.Second
	spacing      = time.Millisecond // between datagrams, for the receiver's buffer
	maxAnswer    = 64 << 10         // bytes that a receiver may say before it is no longer listened to
)

// DialFunc connects as net.Dialer's DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Sender sends lines in the order in which they were logged. Logging never
// waits: what is too much while the receiver is slow or away is lost, the
// oldest lines first, and how much that was is sent once it can be. Its methods
// may be called from any goroutine. A nil Sender forgets all.
type Sender struct {
	boot string

	mu      sync.Mutex
	queue   []entry
	seq     uint64
	lost    int
	host    string
	sending bool // a line is on its way
	failing bool // the newest attempt to send has failed
	conn    net.Conn
	wake    chan struct{}
	stop    context.CancelFunc // of the goroutine that sends; nil: there is none
	done    chan struct{}
}

type entry struct {
	Message
	seq uint64
}

// New returns a Sender that keeps lines until Start. boot identifies the boot
// in what is sent; "": nothing does.
func New(boot string) *Sender {
	return &Sender{boot: boot, wake: make(chan struct{}, 1)}
}

// Log takes a line. Its text is cut to 1000 bytes.
func (s *Sender) Log(m Message) {
	if s == nil {
		return
	}
	m.Text = shorten(m.Text, maxText)
	s.mu.Lock()
	s.seq++
	if len(s.queue) >= queueLength {
		s.pop()
		s.lost++
	}
	s.queue = append(s.queue, entry{m, s.seq})
	s.mu.Unlock()
	s.nudge()
}

// pop takes the oldest line out of the queue. The caller holds the lock.
func (s *Sender) pop() entry {
	e := s.queue[0]
	s.queue[0] = entry{}
	s.queue = s.queue[1:]
	return e
}

func (s *Sender) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Start sends to r from now on, and no longer to the one before. host is this
// machine's name or address. It does not wait for anything.
func (s *Sender) Start(ctx context.Context, r Receiver, host string, dial DialFunc) {
	s.halt()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	s.mu.Lock()
	s.host, s.stop, s.done, s.failing = host, cancel, done, false
	s.mu.Unlock()
	go func() {
		defer close(done)
		s.run(ctx, r, dial)
	}()
	s.nudge()
}

// halt ends the goroutine that sends.
func (s *Sender) halt() {
	if s == nil {
		return
	}
	s.mu.Lock()
	stop, done := s.stop, s.done
	s.stop = nil
	s.mu.Unlock()
	if stop == nil {
		return
	}
	stop()
	s.drop() // ends a write; a connection that comes later sees that ctx has ended
	<-done
}

// Flush waits until the receiver has what was logged, but not longer than ctx
// allows, and not at all if nothing gets through.
func (s *Sender) Flush(ctx context.Context) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !s.settled() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Sender) settled() bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop == nil || s.failing {
		return true
	}
	return len(s.queue) == 0 && !s.sending && unsent(s.conn) == 0
}

// unsent returns how many bytes a TCP connection has not delivered yet
// (tcp(7), SIOCOUTQ).
func unsent(c net.Conn) int {
	t, ok := c.(syscall.Conn)
	if _, tcp := c.(*net.TCPConn); !ok || !tcp {
		return 0
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	err = raw.Control(func(fd uintptr) {
		if got, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
			n = got
		}
	})
	if err != nil {
		return 0
	}
	return n
}

// Close ends sending. Lines that have not been sent are lost; Flush comes
// before it.
func (s *Sender) Close() { s.halt() }

// take waits for the next line.
func (s *Sender) take(ctx context.Context) (entry, bool) {
	for {
		s.mu.Lock()
		if s.lost > 0 {
			e := entry{Message{Time: time.Now(), Facility: Daemon, Severity: Warning, Text: fmt.Sprintf("%d lines before this one were lost: the syslog receiver was slow or away", s.lost)}, s.queue[0].seq - 1}
			s.lost, s.sending = 0, true
			s.mu.Unlock()
			return e, true
		}
		if len(s.queue) > 0 {
			e := s.pop()
			s.sending = true
			s.mu.Unlock()
			return e, true
		}
		s.mu.Unlock()
		select {
		case <-s.wake:
		case <-ctx.Done():
			return entry{}, false
		}
	}
}

// giveBack puts a line back that was not sent, if there is still room.
func (s *Sender) giveBack(e entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sending = false
	if len(s.queue) >= queueLength {
		s.lost++
		return
	}
	s.queue = slices.Insert(s.queue, 0, e)
}

func (s *Sender) run(ctx context.Context, r Receiver, dial DialFunc) {
	defer s.drop()
	pause := firstPause
	for {
		e, ok := s.take(ctx)
		if !ok {
			return
		}
		for {
			err := s.send(ctx, r, dial, e)
			s.mu.Lock()
			s.failing = err != nil
			if err == nil {
				s.sending = false
			}
			s.mu.Unlock()
			if err == nil {
				pause = firstPause
				break
			}
			s.drop()
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				s.giveBack(e)
				return
			}
			pause = min(2*pause, lastPause)
		}
	}
}

// drop closes the connection.
func (s *Sender) drop() {
	s.mu.Lock()
	c := s.conn
	s.conn = nil
	s.mu.Unlock()
	if c != nil {
		c.Close()
	}
}

// send sends one line, and connects before it where there is no connection.
func (s *Sender) send(ctx context.Context, r Receiver, dial DialFunc, e entry) error {
	s.mu.Lock()
	conn, h := s.conn, header{s.host, s.boot}
	s.mu.Unlock()
	if conn == nil {
		limited, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		var err error
		if conn, err = dial(limited, r.Network, r.Address()); err != nil {
			return err
		}
		s.mu.Lock()
		s.conn = conn
		s.mu.Unlock()
		if r.Network == "tcp" {
			go watch(conn)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b := h.appendTo(nil, &e.Message, e.seq)
	if r.Network == "tcp" {
		b = append(append(strconv.AppendInt(nil, int64(len(b)), 10), ' '), b...)
	}
	if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := conn.Write(b)
	if r.Network == "udp" {
		if err != nil {
			// What is told may be about the datagram before: port unreachable.
			_, err = conn.Write(b)
		}
		time.Sleep(spacing)
	}
	return err
}

// watch closes a connection that the receiver has closed, so that the next
// line is not written into nowhere. A receiver has nothing to say.
func watch(c net.Conn) {
	if _, err := io.CopyN(io.Discard, c, maxAnswer); err != nil {
		c.Close()
	}
}
