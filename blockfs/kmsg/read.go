package kmsg

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Record is one record of the kernel's log as /dev/kmsg gives it
// (Documentation/ABI/testing/dev-kmsg).
type Record struct {
	Facility int           // 0: the kernel itself
	Severity int           // 0 to 7
	Age      time.Duration // since the machine's start
	Text     string        // without the lines about devices
}

// ErrRecord is returned for what is no record.
var ErrRecord = errors.New("this is no record of the kernel's log")

// Parse reads what one read of /dev/kmsg has returned.
func Parse(b []byte) (Record, error) {
	head, text, ok := bytes.Cut(b, []byte(";"))
	fields := strings.SplitN(string(head), ",", 4)
	if !ok || len(fields) < 3 {
		return Record{}, ErrRecord
	}
	pri, err := strconv.ParseUint(fields[0], 10, 16)
	if err != nil {
		return Record{}, ErrRecord
	}
	at, err := strconv.ParseUint(fields[2], 10, 53) // microseconds
	if err != nil {
		return Record{}, ErrRecord
	}
	text, _, _ = bytes.Cut(text, []byte("\n"))
	return Record{Facility: int(pri >> 3), Severity: int(pri & 7), Age: time.Duration(at) * time.Microsecond, Text: string(text)}, nil
}

// maxRead is the kernel's PRINTK_MESSAGE_MAX, which bounds a record.
const maxRead = 8 << 10

// Each calls f with each record that r has, oldest first, until f returns false
// or r ends or fails, and returns why it failed. r is /dev/kmsg, opened for
// reading. Records that were overwritten before they could be read are left
// out.
func Each(r io.Reader, f func(Record) bool) error {
	b := make([]byte, maxRead)
	for {
		n, err := r.Read(b)
		switch {
		case errors.Is(err, unix.EPIPE): // overwritten; the next read goes on behind them
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if rec, err := Parse(b[:n]); err == nil && !f(rec) {
			return nil
		}
	}
}
