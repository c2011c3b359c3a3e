package console

import (
	"errors"
	"io"
	"os"
	"time"
)

// Device is an open terminal. *os.File is one if its descriptor does not
// block.
type Device interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

var _ Device = (*os.File)(nil)

// queued is a Device that knows how many bytes have been written to it and have
// not left the machine yet.
type queued interface{ Queued() int }

// maxQueued is how much of one state may still be on its way when the next one
// is painted. The kernel's buffer has room for 4096 bytes: more than four
// seconds at 9600 baud, in which a person would see old states.
const maxQueued = 64

// queueTime is the time between two looks at how much is on its way.
const queueTime = 10 * time.Millisecond

// escapeTime is how long the bytes of one key may be apart. Serial-over-LAN
// sends them in packets.
const escapeTime = 150 * time.Millisecond

// stallTime is how long a terminal may take no byte until it is given up: a
// port whose flow control says stop, or a cable that is out.
const stallTime = 60 * time.Second

type terminal struct {
	name    string
	dev     Device
	size    Size
	restore func()
	set     *Set
	kick    chan struct{}
	done    chan struct{} // closed by close
	ended   chan struct{} // closed when the writer has ended

	// Below: under set.mu.
	shown   int // version of the state that is on the terminal
	printed int // how many lines have been printed here
	spoiled bool
}

// Add shows the set's state on a terminal from now on and reads its keys.
// restore is called once when the terminal is given back. A zero size is the
// standard one.
func (s *Set) Add(name string, dev Device, size Size, restore func()) {
	t := &terminal{
		name: name, dev: dev, size: sizeOf(size.Columns, size.Rows), restore: restore, set: s,
		kick: make(chan struct{}, 1), done: make(chan struct{}), ended: make(chan struct{}), shown: -1,
	}
	s.mu.Lock()
	if s.closed || s.terms[name] != nil {
		s.mu.Unlock()
		restore()
		dev.Close()
		return
	}
	t.printed = s.printed - min(len(s.history), maxCatchUp)
	s.terms[name] = t
	s.mu.Unlock()
	t.wake()
	go t.write()
	go t.read()
}

func (t *terminal) wake() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

func (t *terminal) write() {
	defer close(t.ended)
	p := painter{size: t.size}
	for {
		select {
		case <-t.kick:
		case <-t.done:
			return
		}
		if err := t.settle(); err != nil {
			t.drop()
			return
		}
		s := t.set
		s.mu.Lock()
		want := s.state
		if t.spoiled {
			p, t.spoiled, t.shown = painter{size: t.size}, false, -1
			if want.screens == nil {
				t.printed = s.printed - min(len(s.history), maxCatchUp)
			}
		}
		// Lines that came before the screen are shown before it, also when
		// there was no time in between; those that come while it stands wait.
		var out string
		if want.screens == nil || p.drawn == nil {
			lines := append([]string(nil), s.history[len(s.history)-min(len(s.history), s.printed-t.printed):]...)
			t.printed = s.printed
			s.mu.Unlock()
			out = p.scroll(lines, want.progress)
		} else {
			s.mu.Unlock()
		}
		if want.screens != nil {
			screen, ok := want.screens[t.size]
			if !ok { // the terminal has come since
				screen = want.screens[standard()]
			}
			out += p.draw(screen)
		}
		if err := t.send(out); err != nil {
			t.drop()
			return
		}
		s.mu.Lock()
		t.shown = want.version
		s.mu.Unlock()
	}
}

// queued is how much has been written and is still on its way.
func (t *terminal) queued() int {
	if q, ok := t.dev.(queued); ok {
		return q.Queued()
	}
	return 0
}

// settle waits until what was painted last is on the terminal, so that what is
// painted next is the newest there is.
func (t *terminal) settle() error {
	last, since := t.queued(), time.Now()
	for last > maxQueued {
		select {
		case <-time.After(queueTime):
		case <-t.done:
			return nil
		}
		switch n := t.queued(); {
		case n != last:
			last, since = n, time.Now()
		case time.Since(since) > stallTime:
			return os.ErrDeadlineExceeded
		}
	}
	return nil
}

func (t *terminal) send(out string) error {
	for len(out) > 0 {
		if err := t.dev.SetWriteDeadline(time.Now().Add(stallTime)); err != nil {
			return err
		}
		n, err := t.dev.Write([]byte(out[:min(len(out), 512)]))
		out = out[n:]
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *terminal) read() {
	buf := make([]byte, 256)
	var rest []byte
	for {
		deadline := time.Time{}
		if len(rest) > 0 {
			deadline = time.Now().Add(escapeTime)
		}
		if err := t.dev.SetReadDeadline(deadline); err != nil {
			t.drop()
			return
		}
		n, err := t.dev.Read(buf)
		late := errors.Is(err, os.ErrDeadlineExceeded)
		if err != nil && !late {
			t.drop()
			return
		}
		var keys []Key
		keys, rest = Decode(append(rest, buf[:n]...), late)
		for _, k := range keys {
			t.set.press(k)
		}
	}
}

// drop forgets a terminal that failed, so that the next search may find it
// anew.
func (t *terminal) drop() {
	s := t.set
	s.mu.Lock()
	mine := s.terms[t.name] == t
	if mine {
		delete(s.terms, t.name)
	}
	s.mu.Unlock()
	if mine {
		close(t.done)
		t.restore()
		t.dev.Close()
	}
}

// close ends the writer between two states and gives the terminal back.
func (t *terminal) close() {
	close(t.done)
	select {
	case <-t.ended:
	case <-time.After(time.Second):
	}
	t.restore()
	t.dev.Close()
}
