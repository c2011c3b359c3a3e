package tftp

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"
)

// How often and how long is sent again. The pause begins with what the line's
// round trip was measured to be, and doubles.
const (
	firstPause = time.Second
	leastPause = 100 * time.Millisecond
	mostPause  = 8 * time.Second
	// knocks is how often a client that has not answered at all is sent
	// something: it may never have asked.
	knocks = 5
)

// readAhead is how many bytes of a file are read at once, if blocks are smaller.
const readAhead = 32 << 10

// errSilent is wrapped when the client has said nothing for too long.
var errSilent = errors.New("the client is silent")

// transfer sends one file. The client sets the pace: a window of blocks is
// sent, and the next one when it has been acknowledged. A repeated
// acknowledgement never makes it send a block again that it has sent since
// (the Sorcerer's Apprentice of RFC 1123 section 4.2.3.1), but for one time in
// each window longer than one block, where it is how a client tells of a loss
// (RFC 7440 section 4).
type transfer struct {
	terms
	conn     socket
	file     io.Reader
	patience time.Duration // how long a client may be silent
	answered func()        // called at the client's first answer
	heard    bool          // that has come

	ring  []byte // places for 2 windows of packets
	sizes []int  // length of the packet in each place
	base  int64  // newest block that was acknowledged
	next  int64  // next block to read
	final int64  // number of the last block, once that is known
	// toldLoss: that the block behind base was lost has been heeded.
	toldLoss bool

	pause    time.Duration // until something is sent again
	srtt     time.Duration // smoothed round trip, and its variation (RFC 6298)
	variance time.Duration
	deadline time.Time // of conn
	in       [516]byte

	sent, again int64 // packets; of these those that had been sent before
	total       int64 // bytes of the file that were acknowledged
}

// socket is a UDP socket that is connected to a client.
type socket interface {
	io.ReadWriteCloser
	// SetReadDeadline says until when Read waits; it may wait longer by what
	// passes between that call and Read. A time in the past ends waiting for
	// good.
	SetReadDeadline(time.Time) error
}

// run sends the file. It has come to its end when the last block has been
// acknowledged.
func (t *transfer) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = t.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	t.pause = firstPause
	if t.timeout > 0 {
		t.pause = t.timeout
		t.patience = max(t.patience, 4*t.timeout)
	}
	t.base, t.next = 0, 1
	if len(t.answer) > 0 {
		t.base = -1
		if err := t.offer(ctx); err != nil {
			return err
		}
	}
	t.file = bufio.NewReaderSize(t.file, readAhead)
	places := 2 * t.window
	t.ring = make([]byte, places*(4+t.block))
	t.sizes = make([]int, places)
	return t.send(ctx)
}

// offer sends the OACK until the client takes it.
func (t *transfer) offer(ctx context.Context) error {
	packet := oackPacket(t.answer)
	_, err := t.exchange(ctx, 0, func() error { return t.write(packet) })
	if err == nil {
		t.base = 0
	}
	return err
}

func (t *transfer) send(ctx context.Context) error {
	from := int64(1) // first block to send now
	var highest int64
	for {
		if err := t.fill(t.base + int64(t.window)); err != nil {
			return err
		}
		last := min(t.next-1, t.base+int64(t.window))
		n, err := t.exchange(ctx, last, func() error {
			for k := from; k <= last; k++ {
				if k <= highest {
					t.again++
				}
				highest = max(highest, k)
				if err := t.write(t.packet(k)); err != nil {
					return err
				}
			}
			from = t.base + 1 // should it be sent again
			// The next window is read while this one is under way.
			return t.fill(last + int64(t.window))
		})
		if err != nil {
			return err
		}
		t.toldLoss = n == t.base
		for k := t.base + 1; k <= n; k++ {
			t.total += int64(t.sizes[t.place(k)] - 4)
		}
		t.base, from = n, n+1
		if t.final > 0 && n >= t.final {
			return nil
		}
	}
}

// exchange calls out to send, again after each pause, until the client
// acknowledges a block from base on up to last, which it returns: always a new
// one, but for a window's loss.
func (t *transfer) exchange(ctx context.Context, last int64, out func() error) (int64, error) {
	pause := t.pause
	began := time.Now()
	for try := 0; ; try++ {
		if !t.heard && try >= knocks {
			return 0, fmt.Errorf("%w from the start", errSilent)
		}
		if err := out(); err != nil {
			return 0, err
		}
		at := time.Now()
		if at.Sub(began) > t.patience {
			return 0, fmt.Errorf("%w for %v", errSilent, t.patience)
		}
		n, err := t.await(ctx, at.Add(pause), last)
		switch {
		case err == nil:
			if try == 0 { // else it is not known which one was answered (Karn)
				t.measure(time.Since(at))
			}
			return n, nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, err
		}
		// With some chance, lest clients that began together stay so.
		pause = min(pause*2, mostPause)
		pause += time.Duration(rand.Int64N(int64(pause/8) + 1))
	}
}

// await reads until the client acknowledges something new, or tells of a loss.
func (t *transfer) await(ctx context.Context, until time.Time, last int64) (int64, error) {
	// A deadline costs more than a packet; one that is a little late does no harm.
	if d := t.deadline.Sub(until); d < 0 || d > leastPause {
		t.deadline = until.Add(leastPause / 2)
		if err := t.conn.SetReadDeadline(t.deadline); err != nil {
			return 0, err
		}
	}
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := t.conn.Read(t.in[:])
		if err != nil {
			if cerr := ctx.Err(); cerr != nil {
				return 0, cerr
			}
			return 0, fmt.Errorf("wait for the client: %w", err)
		}
		r, ok := parseReply(t.in[:n])
		if !ok {
			if time.Now().After(until) { // whoever talks without end has no more time for it
				return 0, os.ErrDeadlineExceeded
			}
			continue
		}
		if !t.heard {
			t.heard = true
			t.answered()
		}
		if r.err != nil {
			return 0, r.err
		}
		block, ok := t.acknowledged(r.block, t.base, last)
		if ok && (block > t.base || block == t.base && t.base >= 0 && t.window > 1 && last > 0 && !t.toldLoss) {
			return block, nil
		}
		if time.Now().After(until) {
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// measure takes a round trip into account.
func (t *transfer) measure(d time.Duration) {
	if t.srtt == 0 {
		t.srtt, t.variance = max(d, 1), d/2
	} else {
		t.variance += ((t.srtt - d).Abs() - t.variance) / 4
		t.srtt += (d - t.srtt) / 8
	}
	if t.timeout == 0 {
		t.pause = min(max(t.srtt+4*t.variance, leastPause), mostPause)
	}
}

func (t *transfer) place(n int64) int { return int((n - 1) % int64(len(t.sizes))) }

func (t *transfer) packet(n int64) []byte {
	at := t.place(n) * (4 + t.block)
	return t.ring[at : at+t.sizes[t.place(n)]]
}

// fill reads blocks up to number n, or the end.
func (t *transfer) fill(n int64) error {
	for ; t.next <= n && t.final == 0; t.next++ {
		at := t.place(t.next) * (4 + t.block)
		p := t.ring[at : at+4+t.block]
		binary.BigEndian.PutUint16(p, opData)
		binary.BigEndian.PutUint16(p[2:], t.number(t.next))
		k, err := io.ReadFull(t.file, p[4:])
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			t.final = t.next // shorter than a block, perhaps empty
		case err != nil:
			return fmt.Errorf("read the file: %w", err)
		}
		t.sizes[t.place(t.next)] = 4 + k
	}
	return nil
}

func (t *transfer) write(p []byte) error {
	t.sent++
	if _, err := t.conn.Write(p); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}
