package logs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inetboot/inetboot/internal/syslog"
)

// Limits bound what clients can do to the disk and to others.
type Limits struct {
	Size    int64         // bytes of one client's log; 0: 4 MiB. The older half of it goes at once
	Clients int           // logs; 0: 1000. Another one takes the place of one that has been silent for Stale
	Stale   time.Duration // 0: a week
	Rate    float64       // lines of one client in a second, in the long run; 0: 200
	Burst   float64       // lines of one client at once; 0: 5000
}

// Suffixes of a client's files: the one that is written, and the one before it.
const (
	suffix    = ".log"
	oldSuffix = ".log.1"
)

// flushSize is how many bytes of a client's lines wait in memory at most.
const flushSize = 32 << 10

// store writes the logs. Lines wait in memory until flush.
type store struct {
	dir    *os.Root
	limits Limits
	log    *slog.Logger
	now    func() time.Time

	mu      sync.Mutex
	clients map[string]*client
	refused int64 // lines of clients for which there is no room
	failed  int64 // lines that could not be written
	warned  time.Time
}

// client is one log.
type client struct {
	pending []byte
	size    int64 // of the file, without pending
	tokens  float64
	at      time.Time // when tokens was counted
	newest  time.Time // when the newest line came
	dropped int64     // lines since the newest one that was kept
}

func openStore(path string, limits Limits, log *slog.Logger) (*store, error) {
	limits.Size = cmp.Or(limits.Size, 4<<20)
	limits.Clients = cmp.Or(limits.Clients, 1000)
	limits.Stale = cmp.Or(limits.Stale, 7*24*time.Hour)
	limits.Rate = cmp.Or(limits.Rate, 200)
	limits.Burst = cmp.Or(limits.Burst, 5000)
	if err := os.MkdirAll(path, 0o750); err != nil {
		return nil, fmt.Errorf("make the folder for logs: %w", err)
	}
	dir, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open the folder for logs: %w", err)
	}
	s := &store{dir: dir, limits: limits, log: log, now: time.Now, clients: map[string]*client{}}
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("list the logs: %w", err), dir.Close())
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok {
			continue
		}
		fi, err := e.Info()
		if err != nil || !fi.Mode().IsRegular() {
			continue
		}
		s.clients[name] = &client{size: fi.Size(), tokens: limits.Burst, at: s.now(), newest: fi.ModTime()}
	}
	return s, nil
}

// take keeps a message of the client that name stands for, which is a file's
// name, if the limits allow it.
func (s *store) take(name string, data []byte, from string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	c := s.clients[name]
	if c == nil {
		if !s.room(now) {
			s.refused++
			s.warn(now)
			return
		}
		c = &client{tokens: s.limits.Burst, at: now}
		s.clients[name] = c
	}
	c.tokens = min(c.tokens+now.Sub(c.at).Seconds()*s.limits.Rate, s.limits.Burst)
	c.at = now
	if c.tokens < 1 {
		c.dropped++
		return
	}
	c.tokens--
	if c.dropped > 0 {
		r := Record{Came: now, Time: now, From: from, App: "server", Facility: 5, Severity: syslog.Warning, Text: fmt.Sprintf("%d lines were dropped, as they came too quickly", c.dropped)}
		c.dropped = 0
		s.add(name, c, &r)
	}
	m := syslog.Parse(data, now)
	r := newRecord(&m, now, from)
	s.add(name, c, &r)
}

func (s *store) add(name string, c *client, r *Record) {
	c.newest = r.Came
	b, err := r.appendTo(c.pending)
	if err != nil {
		return
	}
	c.pending = b
	if len(b) >= flushSize {
		s.write(name, c)
	}
}

// room tells whether there is room for another client, and makes it if one
// has been silent for long.
func (s *store) room(now time.Time) bool {
	if len(s.clients) < s.limits.Clients {
		return true
	}
	oldest := ""
	for n, c := range s.clients {
		if now.Sub(c.newest) >= s.limits.Stale && (oldest == "" || c.newest.Before(s.clients[oldest].newest)) {
			oldest = n
		}
	}
	if oldest == "" {
		return false
	}
	delete(s.clients, oldest)
	for _, f := range []string{oldest + suffix, oldest + oldSuffix} {
		if err := s.dir.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("an old log could not be removed", "error", err)
		}
	}
	return true
}

// flush writes what waits.
func (s *store) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, c := range s.clients {
		if len(c.pending) > 0 {
			s.write(name, c)
		}
	}
}

// write appends a client's lines to its file, after turning to a new one if
// they would be too much for it. s.mu is held.
func (s *store) write(name string, c *client) {
	defer func() {
		if c.pending = c.pending[:0]; cap(c.pending) > 2*flushSize {
			c.pending = nil
		}
	}()
	if c.size > 0 && c.size+int64(len(c.pending)) > s.limits.Size/2 {
		if err := s.dir.Rename(name+suffix, name+oldSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.fail(err, c)
			return
		}
		c.size = 0
	}
	f, err := s.dir.OpenFile(name+suffix, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		s.fail(err, c)
		return
	}
	n, err := f.Write(c.pending)
	c.size += int64(n)
	if err := errors.Join(err, f.Close()); err != nil {
		s.fail(err, c)
	}
}

func (s *store) fail(err error, c *client) {
	s.failed++
	now := s.now()
	if now.Sub(s.warned) >= time.Minute {
		s.log.Error("logs of clients cannot be written", "error", err, "bytes_lost", len(c.pending), "times", s.failed)
		s.warned, s.failed = now, 0
	}
}

// warn says that clients are refused, at most once in a minute.
func (s *store) warn(now time.Time) {
	if now.Sub(s.warned) >= time.Minute {
		s.log.Warn("there are logs of as many clients as are allowed", "clients", len(s.clients), "lines_refused", s.refused)
		s.warned, s.refused = now, 0
	}
}

func (s *store) close() error {
	s.flush()
	return s.dir.Close()
}

// names returns the clients that have a log in the folder, sorted.
func names(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the logs: %w", err)
	}
	var out []string
	for _, e := range entries {
		if n, ok := strings.CutSuffix(e.Name(), suffix); ok {
			out = append(out, n)
		} else if n, ok := strings.CutSuffix(e.Name(), oldSuffix); ok {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// files returns a client's files that may be there, the older one first.
func files(path, name string) []string {
	return []string{filepath.Join(path, name+oldSuffix), filepath.Join(path, name+suffix)}
}
