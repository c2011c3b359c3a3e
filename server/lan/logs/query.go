package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ErrNoLog is wrapped when there is no log of a client.
var ErrNoLog = errors.New("no log of this client")

// Find returns the name of the log of a client, who is named by its MAC
// address, IP address or host name, as its newest messages have it.
func Find(dir, who string) (string, error) {
	all, err := names(dir)
	if err != nil {
		return "", err
	}
	want := strings.ToLower(who)
	if mac, err := net.ParseMAC(who); err == nil {
		want = strings.ReplaceAll(mac.String(), ":", "-")
	}
	var found string
	var newest time.Time
	for _, n := range all {
		if n == want {
			return n, nil
		}
		r, ok := last(dir, n)
		if ok && (strings.EqualFold(r.Host, who) || r.From == want) && !r.Came.Before(newest) {
			found, newest = n, r.Came
		}
	}
	if found != "" {
		return found, nil
	}
	if len(all) == 0 {
		return "", fmt.Errorf("%w: %s: nothing has been received yet: clients send to this server by syslog", ErrNoLog, who)
	}
	return "", fmt.Errorf("%w: %s: there are %s", ErrNoLog, who, strings.Join(all[:min(len(all), 20)], ", "))
}

// tail is how much of a file's end is read to learn who wrote it, in bytes.
const tail = 64 << 10

// last returns the newest record of a client that has a host name.
func last(dir, name string) (Record, bool) {
	var found Record
	ok := false
	for _, file := range files(dir, name) {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		if fi, err := f.Stat(); err == nil {
			b := make([]byte, min(fi.Size(), tail))
			n, _ := f.ReadAt(b, fi.Size()-int64(len(b)))
			for line := range bytes.Lines(b[:n]) {
				if r, err := parseRecord(line); err == nil && (r.Host != "" || !ok) {
					found, ok = r, true
				}
			}
		}
		_ = f.Close()
	}
	return found, ok
}

// Boot is one boot in a client's log.
type Boot struct {
	Number int       `json:"number"`       // from 1, the oldest one that is kept
	ID     string    `json:"id,omitempty"` // what the client calls it
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
	Lines  int       `json:"lines"`
}

// Boots lists the boots in a client's log, the oldest first.
func Boots(dir, name string) ([]Boot, error) {
	var out []Boot
	err := read(dir, name, func(r *Record, n int, _ []byte) error {
		if len(out) < n {
			out = append(out, Boot{Number: n, First: r.Came})
		}
		b := &out[n-1]
		b.Last, b.Lines = r.Came, b.Lines+1
		if b.ID == "" {
			b.ID = r.Boot
		}
		return nil
	})
	return out, err
}

// Selection says what of a log to show.
type Selection struct {
	Boot   int  // number of a boot; 0: all of them, less than 0: counted from the newest, which is -1
	Follow bool // go on with what comes, until the context ends
}

// Show calls each for the records that are selected, with the stored line of
// JSON without its end.
func Show(ctx context.Context, dir, name string, s Selection, each func(r *Record, line []byte) error) error {
	boot := s.Boot
	if boot < 0 {
		all, err := Boots(dir, name)
		if err != nil {
			return err
		}
		if boot += len(all) + 1; boot < 1 {
			return fmt.Errorf("the log of %s has %d boots", name, len(all))
		}
	} else if boot > 0 {
		all, err := Boots(dir, name)
		if err != nil {
			return err
		}
		if boot > len(all) {
			return fmt.Errorf("the log of %s has %d boots", name, len(all))
		}
	}
	var at position
	err := at.read(dir, name, func(r *Record, n int, line []byte) error {
		if boot != 0 && n != boot {
			return nil
		}
		return each(r, line)
	})
	for s.Follow && err == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(flushPause):
		}
		err = at.read(dir, name, func(r *Record, _ int, line []byte) error { return each(r, line) })
	}
	return err
}

func read(dir, name string, each func(r *Record, boot int, line []byte) error) error {
	var at position
	return at.read(dir, name, each)
}

// position is how far a log has been read.
type position struct {
	boots boots
	file  fs.FileInfo // the newest file that was read
	off   int64       // how far
}

// read reads on to the end.
func (p *position) read(dir, name string, each func(r *Record, boot int, line []byte) error) error {
	list := files(dir, name)
	found := false
	skip := p.file != nil // what was read is to be found first
	if skip {
		// The older file is of interest only if it is the one read before.
		if fi, err := os.Stat(list[0]); err != nil || !os.SameFile(fi, p.file) {
			list = list[1:]
		}
	}
	for _, file := range list {
		f, err := os.Open(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		found = true
		err = p.readFile(f, each)
		_ = f.Close()
		if err != nil {
			return err
		}
	}
	if !found && !skip {
		return fmt.Errorf("%w: %s", ErrNoLog, filepath.Join(dir, name))
	}
	return nil
}

func (p *position) readFile(f *os.File, each func(r *Record, boot int, line []byte) error) error {
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	if p.file == nil || !os.SameFile(fi, p.file) {
		p.off = 0
	}
	p.file = fi
	in := bufio.NewReaderSize(io.NewSectionReader(f, p.off, fi.Size()-p.off), 64<<10)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil // half a line is read when it is whole
		}
		long := []byte(nil)
		for errors.Is(err, bufio.ErrBufferFull) && len(long) <= maxLine {
			long = append(long, line...)
			line, err = in.ReadSlice('\n')
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the log %s: %w", f.Name(), err)
		}
		if long != nil {
			line = append(long, line...)
		}
		p.off += int64(len(line))
		r, err := parseRecord(line)
		if err != nil {
			continue // half a line, of a crash
		}
		if err := each(&r, p.boots.of(&r), bytes.TrimSuffix(line, []byte("\n"))); err != nil {
			return err
		}
	}
}
