package logs

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/inetboot/inetboot/internal/syslog"
)

// errFrame is wrapped when a stream cannot be cut into messages.
var errFrame = errors.New("no syslog stream")

// maxFrame bounds a counted message, in bytes: what a sender says is longer
// than any syslog message is no count.
const maxFrame = 1 << 20

// readFrame returns the next message of a TCP stream (RFC 6587): counted if it
// begins with a number, else up to a line feed or NUL. Of long ones it returns
// the first MaxReceived bytes. The result is valid until the next call.
func readFrame(r *bufio.Reader, buf []byte) ([]byte, error) {
	c, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	if c < '1' || c > '9' {
		return readLine(r, c, buf)
	}
	n := int(c - '0')
	for {
		c, err := r.ReadByte()
		switch {
		case err != nil:
			return nil, unexpected(err)
		case c == ' ':
			return readCounted(r, n, buf)
		case c < '0' || c > '9':
			return nil, fmt.Errorf("%w: a message's length ends with %q", errFrame, c)
		}
		if n = 10*n + int(c-'0'); n > maxFrame {
			return nil, fmt.Errorf("%w: a message of %d bytes or more, at most %d are allowed", errFrame, n, maxFrame)
		}
	}
}

func readCounted(r *bufio.Reader, n int, buf []byte) ([]byte, error) {
	keep := min(n, syslog.MaxReceived)
	buf = append(buf[:0], make([]byte, keep)...)
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, unexpected(err)
	}
	if _, err := r.Discard(n - keep); err != nil {
		return nil, unexpected(err)
	}
	return buf, nil
}

// readLine reads up to the end of a line whose first byte is c. What comes
// before the end of the connection is a line, too.
func readLine(r *bufio.Reader, c byte, buf []byte) ([]byte, error) {
	buf = buf[:0]
	for {
		if c == '\n' || c == 0 {
			return buf, nil
		}
		if len(buf) < syslog.MaxReceived {
			buf = append(buf, c)
		}
		var err error
		if c, err = r.ReadByte(); errors.Is(err, io.EOF) {
			return buf, nil
		} else if err != nil {
			return nil, err
		}
	}
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
