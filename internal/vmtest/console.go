package vmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// ErrEnded is wrapped when the machine ended while something was expected.
var ErrEnded = errors.New("the machine ended")

// Console is the machine's first serial port.
type Console struct {
	start time.Time
	log   *os.File // as it came

	mu      sync.Mutex
	conn    net.Conn
	text    []byte // without escape sequences, bounded
	seen    int    // what Expect has consumed of text
	ended   bool
	changed chan struct{} // closed and replaced with each change
	strip   stripper
	tee     io.Writer
}

// maxText bounds the transcript kept in memory.
const maxText = 8 << 20

func (c *Console) read(conn net.Conn) {
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	buf := make([]byte, 16<<10)
	for {
		n, err := conn.Read(buf)
		c.mu.Lock()
		if n > 0 {
			c.log.Write(buf[:n])
			if c.tee != nil {
				c.tee.Write(buf[:n])
			}
			c.text = c.strip.append(c.text, buf[:n])
			if over := len(c.text) - maxText; over > 0 {
				c.text = append(c.text[:0], c.text[over:]...)
				c.seen = max(0, c.seen-over)
			}
		}
		if err != nil {
			c.ended = true
		}
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Expect waits for text that matches the regular expression behind everything
// that earlier calls have consumed, and returns the match with its submatches.
// Escape sequences and carriage returns are not part of the text.
func (c *Console) Expect(ctx context.Context, pattern string) ([]string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	for {
		c.mu.Lock()
		if m := re.FindSubmatchIndex(c.text[c.seen:]); m != nil {
			var groups []string
			for i := 0; i < len(m); i += 2 {
				if m[i] < 0 {
					groups = append(groups, "")
					continue
				}
				groups = append(groups, string(c.text[c.seen+m[i]:c.seen+m[i+1]]))
			}
			c.seen += m[1]
			c.mu.Unlock()
			return groups, nil
		}
		changed, ended := c.changed, c.ended
		c.mu.Unlock()
		if ended {
			return nil, fmt.Errorf("expect %q: %w; the console's last lines:\n%s", pattern, ErrEnded, c.Tail(30))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("expect %q: %w after %.0f s; the console's last lines:\n%s", pattern, ctx.Err(), time.Since(c.start).Seconds(), c.Tail(30))
		}
	}
}

// ExpectWithin is Expect with a time limit.
func (c *Console) ExpectWithin(ctx context.Context, d time.Duration, pattern string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return c.Expect(ctx, pattern)
}

// Text returns everything so far, without escape sequences.
func (c *Console) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}

// Tail returns the last n lines.
func (c *Console) Tail(n int) string {
	lines := strings.Split(strings.TrimRight(c.Text(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Send types text.
func (c *Console) Send(text string) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return errors.New("the console is not connected yet")
	}
	if err := conn.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return fmt.Errorf("type on the console: %w", err)
	}
	if _, err := io.WriteString(conn, text); err != nil { // a guest that does not read cannot hold us
		return fmt.Errorf("type on the console: %w", err)
	}
	return nil
}

// Attach copies the console to w from now on.
func (c *Console) Attach(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tee = w
}

// stripper removes ECMA-48 escape sequences and control characters but line
// feed and tab. It keeps its state over calls.
type stripper struct{ state byte }

func (s *stripper) append(dst, src []byte) []byte {
	for _, b := range src {
		switch s.state {
		case 0:
			switch {
			case b == 0x1b:
				s.state = 'e'
			case b >= 0x20 && b != 0x7f || b == '\n' || b == '\t':
				dst = append(dst, b)
			}
		case 'e':
			switch b {
			case '[':
				s.state = '['
			case ']':
				s.state = ']'
			case '(', ')', '#':
				s.state = '1'
			default:
				s.state = 0
			}
		case '[':
			if b >= 0x40 && b <= 0x7e {
				s.state = 0
			}
		case ']': // operating system command, to BEL or ST
			if b == 0x07 {
				s.state = 0
			} else if b == 0x1b {
				s.state = '1'
			}
		case '1':
			s.state = 0
		}
	}
	return dst
}
